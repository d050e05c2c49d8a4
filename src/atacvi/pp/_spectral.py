"""Spectral embedding of binary accessibility without a cells x cells matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Cells on which the eigenvectors are found; all others are mapped by them.
MAX_LANDMARKS = 20_000


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
    opened = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    opened.eliminate_zeros()
    opened.data[:] = 1
    opened = opened[np.diff(opened.indptr) > 0]
    frequency = np.asarray(opened.sum(0)).ravel()
    idf = np.log(opened.shape[0] / (1.0 + frequency)).clip(min=0.0).astype(np.float32)
    values, vectors, weighted, root_degree = _eigenvectors(opened, idf, n_comps + 1)
    noise = 0.0
    if above_noise:
        shuffled = sp.csr_matrix(
            (opened.data, rng.permutation(opened.indices), opened.indptr), shape=opened.shape
        )
        shuffled.sum_duplicates()
        shuffled.data[:] = 1
        noise = float(_eigenvectors(shuffled, idf, 2)[0][1])
    values, vectors = values[1:], vectors[:, 1:]
    power = np.sqrt(np.maximum(values - noise, 0.0))
    if power[0] == 0:  # nothing stands out: take what there is
        noise, power = 0.0, np.sqrt(np.maximum(values, 0.0))
    scale = power / power[0]
    vectors = vectors * np.sqrt(len(vectors))  # of unit variance
    # A cell that is itself among the landmarks meets its own entry, 1 / degree beside the
    # eigenvalue; dividing by the sum of both makes the map shrink what rests on that entry.
    own = float(np.median(1.0 / root_degree**2))
    table = (weighted.T @ (vectors / root_degree[:, None])) / (np.maximum(values, 0.0) + own)
    degree_weights = np.asarray(weighted.sum(0)).ravel()
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
    opened = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    opened.data = (opened.data != 0).astype(np.float32)
    weighted = unit_rows(opened, fit.idf)
    degree = np.maximum(weighted @ fit.degree_weights, 1e-6)
    mapped = (weighted @ fit.table) / np.sqrt(degree)[:, None]
    return np.asarray(mapped * fit.scale if scaled else mapped, dtype=np.float32)


def unit_rows(opened: sp.csr_matrix, weights: NDArray[np.floating]) -> sp.csr_matrix:
    """Return the matrix with columns weighted and rows of unit norm, float32; zero rows stay."""
    weighted = opened.astype(np.float32)
    weighted.data *= weights[opened.indices].astype(np.float32)
    squares = np.add.reduceat(np.append(weighted.data**2, 0.0), weighted.indptr[:-1])
    squares[np.diff(weighted.indptr) == 0] = 0.0
    norm = np.sqrt(np.maximum(squares, 1e-12))
    weighted.data /= np.repeat(norm, np.diff(weighted.indptr)).astype(np.float32)
    return weighted


def _eigenvectors(
    opened: sp.csr_matrix, idf: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], sp.csr_matrix, NDArray[np.float64]]:
    """Return leading eigenvalues and vectors, the weighted matrix and the roots of the degrees."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    weighted = unit_rows(opened, idf)
    transposed = weighted.T.tocsr()
    n_cells = weighted.shape[0]
    degree = weighted @ np.asarray(weighted.sum(0)).ravel().astype(np.float64) - 1.0
    root_degree = np.sqrt(np.maximum(degree, 1e-3))

    def multiply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = vector.ravel() / root_degree
        product = weighted @ (transposed @ scaled) - scaled
        return np.asarray(product / root_degree, dtype=np.float64)

    operator = LinearOperator((n_cells, n_cells), matvec=multiply, dtype=np.float64)
    k = max(2, min(k, n_cells - 2))
    start = np.ones(n_cells) / np.sqrt(n_cells)  # fixed: the result must not depend on chance
    values, vectors = eigsh(operator, k=k, which="LA", v0=start, tol=1e-4)
    order = np.argsort(-values)
    vectors = vectors[:, order]
    # Signs are arbitrary; the larger entries are made positive.
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    return values[order], vectors * signs, weighted, root_degree
