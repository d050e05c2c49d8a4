"""Leiden clusters of a neighbour graph, with the edge weights of UMAP that scanpy uses.

The weights are written out here because ``umap`` and ``pynndescent`` compile for half a minute at
their first call, longer than everything else takes on the few thousand cells of a prior.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

# McInnes et al. 2018, "UMAP": the smallest bandwidth, as a part of the mean distance
_MIN_SCALE = 1e-3


def neighbour_graph(z: NDArray[np.float64], n_neighbors: int = 15) -> sp.csr_matrix:
    """Return the symmetric weights of the exact nearest neighbours.

    The directed weight of a neighbour at distance d is exp(-(d - rho) / sigma), where rho is the
    distance to the nearest other cell and sigma makes the weights of a cell sum to log2(k); the
    two directions are joined by a + b - ab (McInnes et al. 2018, sections 3.1 and 4.1). This is
    the ``connectivities`` matrix of :func:`scanpy.pp.neighbors` for exact neighbours.

    Parameters
    ----------
    z
        Latents, shape (cells, dimensions).
    n_neighbors
        Neighbours of a cell, itself included.

    Returns
    -------
    Weights in (0, 1], shape (cells, cells), without self-edges.
    """
    from sklearn.neighbors import NearestNeighbors

    n_cells = len(z)
    n_others = min(n_neighbors, n_cells) - 1
    if n_others < 1:
        return sp.csr_matrix((n_cells, n_cells))
    # Trees help in few dimensions only.
    algorithm = "kd_tree" if z.shape[1] <= 8 else "brute"
    search = NearestNeighbors(n_neighbors=n_others, algorithm=algorithm).fit(z)
    distance, neighbour = search.kneighbors()  # without a query no cell is its own neighbour
    weight = _directed_weights(distance)
    indptr = np.arange(0, weight.size + 1, n_others)
    directed = sp.csr_matrix((weight.ravel(), neighbour.ravel(), indptr), shape=(n_cells, n_cells))
    both = directed.multiply(directed.T)
    graph = sp.csr_matrix(directed + directed.T - both)
    graph.eliminate_zeros()
    return graph


def _directed_weights(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve for the bandwidth of every cell at once, by bisection in the logarithm."""
    # A cell's own weight of one is not in the sum, but counts as a neighbour in the target.
    target = np.log2(distance.shape[1] + 1)
    positive = np.where(distance > 0, distance, np.inf)
    rho = positive.min(axis=1, keepdims=True)
    rho[~np.isfinite(rho)] = 0.0
    excess = np.maximum(distance - rho, 0.0)
    floor = _MIN_SCALE * np.where(rho > 0, distance.mean(axis=1, keepdims=True), distance.mean())
    floor = np.maximum(floor, np.finfo(np.float64).tiny)
    low, high = np.log(floor), np.log(np.maximum(floor, 1e4 * excess.max() + floor))
    for _ in range(48):
        middle = (low + high) / 2
        below = np.exp(-excess / np.exp(middle)).sum(axis=1, keepdims=True) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.exp(-excess / np.exp(low))


def leiden(graph: sp.csr_matrix, resolution: float, random_state: int) -> NDArray[np.int64]:
    """Cluster a neighbour graph by modularity, until nothing changes (Traag et al. 2019).

    Parameters
    ----------
    graph
        Symmetric weights, shape (cells, cells).
    resolution
        Weight of the expected edges in the modularity: larger gives more clusters.
    random_state
        Seed.

    Returns
    -------
    Labels from 0, shape (cells,), the largest cluster first.
    """
    import igraph

    upper = sp.triu(graph, k=1, format="coo")
    edges = np.column_stack([upper.row, upper.col])
    network = igraph.Graph(n=graph.shape[0], edges=edges, directed=False)
    igraph.set_random_number_generator(random.Random(random_state))
    try:
        found = network.community_leiden(
            objective_function="modularity",
            weights=upper.data,
            resolution=resolution,
            n_iterations=-1,
        )
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default
    labels = np.asarray(found.membership, dtype=np.int64)
    order = np.argsort(-np.bincount(labels), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[labels]
