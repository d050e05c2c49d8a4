"""Spectral embedding of binary accessibility without a cells x cells matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Cells on which the eigenvectors are found; all others are mapped by them.
MAX_LANDMARKS = 20_000
# Residuals of eigenvectors, relative to their eigenvalues. Components that stand out of noise have
# long converged when those within it, which are cut, are as near as `_TOLERANCE_ABOVE_NOISE`.
_TOLERANCE, _TOLERANCE_ABOVE_NOISE, _TOLERANCE_OF_NOISE = 1e-4, 3e-2, 1e-2
_CELLS_A_BLOCK = 2_048


class SpectralFit(NamedTuple):
    """Leading eigenvectors of the normalised similarity of cells, and the map that gives them.

    Parameters
    ----------
    embedding
        Eigenvectors times `scale`, shape (landmarks, components).
    table
        What each open peak adds to the map, shape (peaks, components).
    degree_weights
        What each open peak adds to the degree of a cell, shape (peaks,).
    idf
        Weight of each peak, shape (peaks,).
    scale
        Standard deviation that each component is given: the square root of what its eigenvalue is
        above that of noise, relative to the first, shape (components,).
    eigenvalues
        Shape (components,).
    noise_eigenvalue
        Largest eigenvalue of a matrix with the same depths and peak frequencies but no structure.
    """

    embedding: NDArray[np.float32]
    table: NDArray[np.float32]
    degree_weights: NDArray[np.float32]
    idf: NDArray[np.float32]
    scale: NDArray[np.float32]
    eigenvalues: NDArray[np.float64]
    noise_eigenvalue: float


def fit_spectral(
    counts: sp.csr_matrix, n_comps: int, *, random_state: int = 0, above_noise: bool = True
) -> SpectralFit:
    r"""Return the spectral embedding of cells by the similarity of their open peaks.

    With :math:`Y` the matrix of open peaks, weighted by IDF and scaled to unit norm per cell, the
    similarity of cells is :math:`W = Y Y^\top - I`; the embedding are the leading eigenvectors of
    :math:`D^{-1/2} W D^{-1/2}` but the first, which follows the degree (Zhang et al., SnapATAC2,
    Nature Methods 21:217, 2024). The product with a vector costs one pass over the non-zeros. A
    cell's eigenvector entries are a linear function of its open peaks over the root of its degree,
    which maps cells that were not there.

    Parameters
    ----------
    counts
        Counts or open peaks, shape (cells, peaks).
    n_comps
        Number of components.
    random_state
        Seed of the choice of landmarks and of the null matrix.
    above_noise
        Weight components by what their eigenvalue exceeds that of a matrix without structure;
        components below are zero. Without, by the root of the eigenvalue.
    """
    rng = np.random.default_rng(random_state)
    n_cells = counts.shape[0]
    if n_cells > MAX_LANDMARKS:
        counts = counts[np.sort(rng.choice(n_cells, MAX_LANDMARKS, replace=False))]
    opened = _open_peaks(counts)
    frequency = np.bincount(opened.indices, minlength=opened.shape[1])
    idf = np.log(opened.shape[0] / (1.0 + frequency)).clip(min=0.0).astype(np.float32)
    noise, tolerance = 0.0, _TOLERANCE
    if above_noise:
        noise, tolerance = _noise_eigenvalue(opened, idf, rng), _TOLERANCE_ABOVE_NOISE
    weighted = unit_rows(opened, idf)
    values, vectors, root_degree = _eigenvectors(weighted, n_comps + 1, tolerance)
    values, vectors = values[1:], vectors[:, 1:]
    power = np.sqrt(np.maximum(values - noise, 0.0))
    if power[0] == 0:  # nothing stands out: take what there is
        noise, power = 0.0, np.sqrt(np.maximum(values, 0.0))
    scale = power / power[0]
    vectors = vectors * np.sqrt(len(vectors))  # of unit variance
    # A cell that is itself among the landmarks meets its own entry, 1 / degree beside the
    # eigenvalue; dividing by the sum of both makes the map shrink what rests on that entry.
    own = float(np.median(1.0 / root_degree**2))
    of_cells = (vectors / root_degree[:, None]).astype(np.float32)
    table = (weighted.T @ of_cells) / (np.maximum(values, 0.0) + own)
    degree_weights = weighted.T @ np.ones(len(vectors), dtype=np.float32)
    return SpectralFit(
        (vectors * scale).astype(np.float32),
        table.astype(np.float32),
        degree_weights.astype(np.float32),
        idf,
        scale.astype(np.float32),
        values,
        noise,
    )


def map_spectral(
    counts: sp.csr_matrix, fit: SpectralFit, *, scaled: bool = True
) -> NDArray[np.float32]:
    """Return where cells lie in a fitted embedding, shape (cells, components).

    Parameters
    ----------
    counts
        Counts or open peaks, shape (cells, peaks).
    fit
        The fit.
    scaled
        Whether to multiply the components, which have unit variance, by the scale of the fit.
    """
    mapped = np.empty((counts.shape[0], fit.table.shape[1]), dtype=np.float32)
    for low in range(0, len(mapped), _CELLS_A_BLOCK):
        block = sp.csr_matrix(counts[low : low + _CELLS_A_BLOCK])
        block.data = (block.data != 0).astype(np.float32)
        weighted = unit_rows(block, fit.idf)
        degree = np.maximum(weighted @ fit.degree_weights, 1e-6)
        mapped[low : low + _CELLS_A_BLOCK] = (weighted @ fit.table) / np.sqrt(degree)[:, None]
    return mapped * fit.scale if scaled else mapped


def unit_rows(opened: sp.csr_matrix, weights: NDArray[np.floating]) -> sp.csr_matrix:
    """Return the matrix with columns weighted and rows of unit norm, float32; zero rows stay.

    The result shares the indices of `opened`.
    """
    data = weights.astype(np.float32)[opened.indices]
    data *= opened.data.astype(np.float32, copy=False)
    n_entries = np.diff(opened.indptr)
    filled = n_entries > 0
    squares = np.zeros(len(n_entries), dtype=np.float32)
    if filled.any():  # rows without entries take no room between the starts of the others
        squares[filled] = np.add.reduceat(np.square(data), opened.indptr[:-1][filled])
    norm = np.sqrt(np.maximum(squares, 1e-12, dtype=np.float32))
    data /= np.repeat(norm, n_entries)
    return sp.csr_matrix((data, opened.indices, opened.indptr), shape=opened.shape)


def _open_peaks(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return ones at the open peaks of cells that have some; shares indices where it can."""
    counts = sp.csr_matrix(counts)
    if not counts.data.all():
        counts = counts.copy()
        counts.eliminate_zeros()
    filled = np.diff(counts.indptr) > 0
    counts = counts if filled.all() else counts[filled]
    ones = np.broadcast_to(np.float32(1), counts.indices.shape)  # takes no memory
    return sp.csr_matrix((ones, counts.indices, counts.indptr), shape=counts.shape)


def _noise_eigenvalue(
    opened: sp.csr_matrix, idf: NDArray[np.float32], rng: np.random.Generator
) -> float:
    """Return the largest eigenvalue but the first after open peaks were dealt out at random."""
    indices = rng.permutation(opened.indices)
    ones = np.ones(len(indices), dtype=np.float32)
    # summing moves entries: the matrix needs row pointers of its own
    shuffled = sp.csr_matrix((ones, indices, opened.indptr.copy()), shape=opened.shape)
    shuffled.sum_duplicates()
    shuffled.data[:] = 1
    return float(_eigenvectors(unit_rows(shuffled, idf), 2, _TOLERANCE_OF_NOISE)[0][1])


def _eigenvectors(
    weighted: sp.csr_matrix, k: int, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return leading eigenvalues and vectors, and the roots of the degrees."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    transposed = weighted.T  # a view; products in float32 spare SciPy a copy in float64 each
    n_cells = weighted.shape[0]
    of_peaks = transposed @ np.ones(n_cells, dtype=np.float32)
    root_degree = np.sqrt(np.maximum((weighted @ of_peaks).astype(np.float64) - 1.0, 1e-3))

    def multiply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = vector.ravel() / root_degree
        product = weighted @ (transposed @ scaled.astype(np.float32))
        return np.asarray((product - scaled) / root_degree, dtype=np.float64)

    operator = LinearOperator((n_cells, n_cells), matvec=multiply, dtype=np.float64)
    k = max(2, min(k, n_cells - 2))
    start = np.ones(n_cells) / np.sqrt(n_cells)  # fixed: the result must not depend on chance
    values, vectors = eigsh(operator, k=k, which="LA", v0=start, tol=tolerance)
    order = np.argsort(-values)
    vectors = vectors[:, order]
    # Signs are arbitrary; the larger entries are made positive.
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    return values[order], vectors * signs, root_degree
