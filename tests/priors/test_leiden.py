"""Neighbour graph and Leiden clusters, against scanpy and on simulated types."""

from __future__ import annotations

import random

import igraph
import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.datasets import simulate_multiome
from atacvi.priors import choose_n_components
from atacvi.priors._leiden import leiden, neighbour_graph


def blobs(n_types, n_cells, n_dims, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_types, size=n_cells)
    centres = 6 * rng.normal(size=(n_types, n_dims))
    return centres[truth] + rng.normal(size=(n_cells, n_dims)), truth


@pytest.mark.parametrize(("n_cells", "n_dims"), [(400, 20), (2000, 10), (2000, 4)])
def test_eight_types_are_eight_clusters(n_cells, n_dims):
    z, truth = blobs(8, n_cells, n_dims)
    assert choose_n_components(z) == 8
    labels = leiden(neighbour_graph(z), 1.0, 0)
    assert (np.unique(truth[np.unique(labels, return_index=True)[1]]) == np.arange(8)).all()
    assert len(np.unique(labels * 8 + truth)) == 8


def test_eight_simulated_cell_types_are_eight_components():
    mdata = simulate_multiome(1200, 400, 500, 8, random_state=0)
    counts = mdata["rna"].X.toarray()
    scaled = np.log1p(1e3 * counts / np.maximum(1, counts.sum(1, keepdims=True)))
    left, singular, _ = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
    assert choose_n_components(left[:, :7] * singular[:7]) == 8


def test_graph_is_symmetric_with_weights_up_to_one():
    graph = neighbour_graph(blobs(3, 200, 5)[0])
    assert (graph != graph.T).nnz == 0
    assert graph.diagonal().sum() == 0
    assert graph.data.min() > 0
    assert graph.data.max() <= 1


@pytest.mark.slow  # the first call of umap compiles for many seconds
def test_graph_is_that_of_scanpy():
    import anndata
    import scanpy

    z = blobs(3, 300, 6)[0].astype(np.float32)
    adata = anndata.AnnData(z)
    scanpy.pp.neighbors(adata, n_neighbors=15, use_rep="X")
    ours = neighbour_graph(z.astype(np.float64), 15)
    np.testing.assert_allclose(
        ours.toarray(), adata.obsp["connectivities"].toarray(), rtol=1e-2, atol=1e-3
    )


def test_seed_decides_and_the_generator_is_given_back():
    graph = neighbour_graph(np.random.default_rng(0).normal(size=(300, 3)))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first = leiden(graph, 2.0, 1)
    assert random.random() == expected  # the user's own stream is not touched
    np.testing.assert_array_equal(leiden(graph, 2.0, 1), first)
    assert any((leiden(graph, 2.0, seed) != first).any() for seed in range(2, 6))
    random.seed(3)
    before = igraph.Graph.Erdos_Renyi(20, m=30).get_edgelist()
    random.seed(3)
    assert igraph.Graph.Erdos_Renyi(20, m=30).get_edgelist() == before


def test_larger_clusters_come_first():
    labels = leiden(neighbour_graph(blobs(4, 300, 10)[0]), 1.0, 0)
    sizes = np.bincount(labels)
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("n_cells", [1, 2, 5])
def test_few_or_equal_cells(n_cells):
    graph = neighbour_graph(np.zeros((n_cells, 2)))
    assert sp.issparse(graph)
    assert np.isfinite(graph.data).all()
    assert len(leiden(graph, 1.0, 0)) == n_cells
    assert choose_n_components(np.zeros((n_cells, 2))) >= 1
