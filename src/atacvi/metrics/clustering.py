"""How well an embedding separates known groups, by the protocol of the project's benchmarks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.metrics._checks import check_embedding, check_labels
from atacvi.metrics.neighbors import knn_accuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

#: Resolutions scanned by default: 0.05 to 2.5 in steps of 0.05.
RESOLUTIONS: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 51))


class LeidenScan(NamedTuple):
    """Leiden clusterings of one embedding over a grid of resolutions.

    Attributes
    ----------
    resolutions
        Resolutions, in the order given.
    clusters
        Cluster numbers of the cells, shape ``(n_resolutions, n_cells)``.
    n_clusters
        Number of clusters at each resolution.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import leiden_scan
    >>> cells = np.random.default_rng(0).normal(size=(60, 3)) + np.repeat([[0], [9]], 30, axis=0)
    >>> leiden_scan(cells, resolutions=(0.1, 0.5)).clusters.shape
    (2, 60)
    """

    resolutions: NDArray[np.float64]
    clusters: NDArray[np.int64]
    n_clusters: NDArray[np.int64]


def leiden_scan(
    embedding: ArrayLike,
    resolutions: Sequence[float] = RESOLUTIONS,
    n_neighbors: int = 15,
    random_state: int = 0,
) -> LeidenScan:
    """Cluster the neighbour graph of an embedding at many resolutions.

    The graph is :func:`scanpy.pp.neighbors` on the embedding as it is; the clustering is
    :func:`scanpy.tl.leiden` in its igraph flavour (undirected, two iterations), after
    Traag et al., "From Louvain to Leiden", Sci. Rep. 9, 5233 (2019).

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    resolutions
        Resolutions of the modularity. A higher one gives more clusters.
    n_neighbors
        Neighbours of a cell in the graph; cut to ``n_cells - 1``.
    random_state
        Seed of the graph and of the clustering.

    Raises
    ------
    ValueError
        If the embedding is not a finite matrix of at least three cells, or no resolution is given.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import leiden_scan
    >>> cells = np.concatenate([np.zeros((30, 2)), np.full((30, 2), 9.0)])
    >>> cells += np.random.default_rng(0).normal(size=cells.shape)
    >>> leiden_scan(cells, resolutions=[0.1]).n_clusters.tolist()
    [2]
    """
    import anndata as ad
    import scanpy as sc

    matrix = check_embedding(embedding)
    if len(resolutions) == 0:
        msg = "No resolution was given: pass at least one positive number in `resolutions`."
        raise ValueError(msg)
    adata = ad.AnnData(X=matrix)
    neighbors = min(n_neighbors, matrix.shape[0] - 1)
    sc.pp.neighbors(adata, n_neighbors=neighbors, use_rep="X", random_state=random_state)
    clusters = np.empty((len(resolutions), matrix.shape[0]), dtype=np.int64)
    settings = {"flavor": "igraph", "n_iterations": 2, "directed": False}
    for row, resolution in enumerate(resolutions):
        sc.tl.leiden(adata, resolution=float(resolution), random_state=random_state, **settings)
        clusters[row] = adata.obs["leiden"].cat.codes.to_numpy()
    n_clusters = np.array([np.unique(row).size for row in clusters], dtype=np.int64)
    return LeidenScan(np.asarray(resolutions, dtype=np.float64), clusters, n_clusters)


def leiden_ari_nmi(
    embedding: ArrayLike,
    labels: ArrayLike,
    resolutions: Sequence[float] = RESOLUTIONS,
    n_neighbors: int = 15,
    random_state: int = 0,
) -> dict[str, float]:
    """Agreement of Leiden clusters with known groups.

    Two readings of one scan: at the resolution whose number of clusters is nearest the number
    of groups (the lowest of equally near ones), and at that of the highest adjusted Rand index,
    which is an upper bound chosen in hindsight.

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Known group of each cell, shape ``(n_cells,)``.
    resolutions
        Resolutions to scan.
    n_neighbors
        Neighbours of a cell in the graph.
    random_state
        Seed of the graph and of the clustering.

    Returns
    -------
    ``leiden_ari``, ``leiden_nmi``, ``leiden_resolution`` and ``leiden_n_clusters`` at the nearest
    number, and the same with ``best_`` at the resolution of the best ARI.

    Raises
    ------
    ValueError
        If shapes disagree, labels are missing, or there is only one group.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import leiden_ari_nmi
    >>> labels = np.repeat(["a", "b"], 30)
    >>> cells = (labels == "a")[:, None] * 9.0 + np.random.default_rng(0).normal(size=(60, 2))
    >>> leiden_ari_nmi(cells, labels, resolutions=[0.1, 0.2])["leiden_ari"]
    1.0
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    codes, n_groups = check_labels(labels, len(check_embedding(embedding)))
    scan = leiden_scan(embedding, resolutions, n_neighbors, random_state)
    ari = np.array([adjusted_rand_score(codes, row) for row in scan.clusters])
    nmi = np.array([normalized_mutual_info_score(codes, row) for row in scan.clusters])
    scores: dict[str, float] = {}
    chosen = {"leiden": np.abs(scan.n_clusters - n_groups).argmin(), "best": ari.argmax()}
    for name, row in chosen.items():
        scores[f"{name}_ari"] = float(ari[row])
        scores[f"{name}_nmi"] = float(nmi[row])
        scores[f"{name}_resolution"] = float(scan.resolutions[row])
        scores[f"{name}_n_clusters"] = int(scan.n_clusters[row])
    return scores


def kmeans_ari_nmi(
    embedding: ArrayLike,
    labels: ArrayLike,
    n_runs: int = 3,
    n_init: int = 10,
    random_state: int = 0,
) -> dict[str, float]:
    """Agreement of k-means at the true number of groups with the groups.

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Known group of each cell, shape ``(n_cells,)``.
    n_runs
        Independent runs whose scores are averaged.
    n_init
        Starts within a run, of which k-means keeps the one of least inertia.
    random_state
        Seed of the first run; the next ones take the following integers.

    Returns
    -------
    ``kmeans_ari`` and ``kmeans_nmi``, means over the runs.

    Raises
    ------
    ValueError
        If shapes disagree, labels are missing, or there is only one group.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import kmeans_ari_nmi
    >>> labels = np.repeat(["a", "b"], 30)
    >>> cells = (labels == "a")[:, None] * 9.0 + np.random.default_rng(0).normal(size=(60, 2))
    >>> kmeans_ari_nmi(cells, labels)
    {'kmeans_ari': 1.0, 'kmeans_nmi': 1.0}
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    matrix = check_embedding(embedding)
    codes, n_groups = check_labels(labels, matrix.shape[0])
    ari, nmi = [], []
    for run in range(n_runs):
        seed = random_state + run
        found = KMeans(n_groups, n_init=n_init, random_state=seed).fit_predict(matrix)
        ari.append(adjusted_rand_score(codes, found))
        nmi.append(normalized_mutual_info_score(codes, found))
    return {"kmeans_ari": float(np.mean(ari)), "kmeans_nmi": float(np.mean(nmi))}


def clustering_scores(
    embedding: ArrayLike,
    labels: ArrayLike,
    random_state: int = 0,
) -> dict[str, float]:
    """All scores of the embedding benchmark in one dictionary.

    The protocol: Leiden (igraph flavour, 15 neighbours) at the resolution of 0.05-2.5 whose
    number of clusters is nearest the number of groups, and at the best resolution; k-means at
    the true number (mean of three runs of ten starts); accuracy of a vote of the 10 nearest
    neighbours in 5-fold cross-validation. Cells without a trusted label belong left out of both
    arguments.

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Known group of each cell, shape ``(n_cells,)``.
    random_state
        Seed of the graph, of the clusterings and of the folds.

    Returns
    -------
    The entries of :func:`leiden_ari_nmi` and :func:`kmeans_ari_nmi`, and ``knn_accuracy``.

    Raises
    ------
    ValueError
        If shapes disagree, labels are missing, or there is only one group.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import clustering_scores
    >>> labels = np.repeat(["a", "b"], 30)
    >>> cells = (labels == "a")[:, None] * 9.0 + np.random.default_rng(0).normal(size=(60, 2))
    >>> clustering_scores(cells, labels)["knn_accuracy"]
    1.0
    """
    scores = leiden_ari_nmi(embedding, labels, random_state=random_state)
    scores |= kmeans_ari_nmi(embedding, labels, random_state=random_state)
    scores["knn_accuracy"] = knn_accuracy(embedding, labels, random_state=random_state)
    logger.debug("Clustering scores: %s", scores)
    return scores
