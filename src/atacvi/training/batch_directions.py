"""Directions in which cells of a kind differ between batches."""

from __future__ import annotations

import numpy as np

_MAX_CLUSTERS = 20
_CELLS_A_CLUSTER = 50
# The mean of fewer cells says more of their noise than of their batch.
_FEWEST_CELLS = 10


def batch_directions(latent: np.ndarray, batch: np.ndarray, random_state: int = 0) -> np.ndarray:
    """Return the directions of the largest differences between batches within clusters.

    Batches may hold other types of cells, so that the difference of their means is biology as well.
    Within a cluster (k-means) cells are alike but for the batch. The directions are those of the
    largest scatter of the means of batches around the mean of their cluster, summed over clusters:
    the leading eigenvectors, one fewer than there are batches. Where batches lie so far apart that
    most clusters are of one alone, the clusters are made coarser, down to two.

    Parameters
    ----------
    latent
        Embeddings, shape (cells, width).
    batch
        Codes, shape (cells,).
    random_state
        Seed of k-means.

    Returns
    -------
    Orthonormal rows, float32, shape (directions, width); none where no cluster holds ten cells of
    each of two batches.
    """
    n_clusters = int(np.clip(len(latent) // _CELLS_A_CLUSTER, 2, _MAX_CLUSTERS))
    scatter, compared, n_cells = _scatter(latent, batch, n_clusters, random_state)
    while n_clusters > 2 and n_cells < len(latent) / 2:
        n_clusters = max(n_clusters // 2, 2)
        scatter, compared, n_cells = _scatter(latent, batch, n_clusters, random_state)
    n_directions = min(max(len(compared) - 1, 0), latent.shape[1])
    _, vectors = np.linalg.eigh(scatter)
    return np.ascontiguousarray(vectors[:, ::-1][:, :n_directions].T, dtype=np.float32)


def _scatter(
    latent: np.ndarray, batch: np.ndarray, n_clusters: int, random_state: int
) -> tuple[np.ndarray, set[int], int]:
    """Return the scatter of batches within clusters, which they are, and the cells it rests on."""
    from sklearn.cluster import KMeans

    cluster = KMeans(n_clusters, n_init=3, random_state=random_state).fit_predict(latent)
    scatter = np.zeros((latent.shape[1], latent.shape[1]))
    compared: set[int] = set()
    n_cells = 0
    for k in range(n_clusters):
        cells = cluster == k
        codes, sizes = np.unique(batch[cells], return_counts=True)
        codes, sizes = codes[sizes >= _FEWEST_CELLS], sizes[sizes >= _FEWEST_CELLS]
        if len(codes) < 2:
            continue
        means = np.stack([latent[cells & (batch == code)].mean(axis=0) for code in codes])
        apart = (means - np.average(means, axis=0, weights=sizes)).astype(np.float64)
        scatter += (apart * sizes[:, None]).T @ apart
        compared |= set(codes.tolist())
        n_cells += int(sizes.sum())
    return scatter, compared, n_cells
