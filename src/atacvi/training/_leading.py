"""Leading right singular vectors of matrices that are too large to be dense."""

from __future__ import annotations

from typing import Any

import numpy as np

_TOLERANCE = 1e-3
# Wanted vectors beyond this share of all are found from the dense Gram matrix
_LARGE_SHARE = 0.3


def leading_directions(matrix: Any, n_found: int, seed: int = 0) -> np.ndarray:
    """Return leading right singular vectors as columns, by Lanczos iteration.

    Shallow data have flat spectra, on which a few steps of subspace iteration mix components with
    noise.

    Parameters
    ----------
    matrix
        Sparse matrix or linear operator, shape (rows, columns).
    n_found
        Number of vectors, below the number of rows and of columns.
    seed
        Seed of the first vector.

    Returns
    -------
    Shape (columns, vectors). The largest entry of each vector is positive. Vectors of singular
    value zero are zero.

    References
    ----------
    Lehoucq, Sorensen & Yang, "ARPACK users' guide", SIAM (1998).
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    n_rows, n_columns = matrix.shape
    is_wide = n_rows <= n_columns
    size = min(n_rows, n_columns)
    transposed = matrix.T

    def gram(vector: np.ndarray) -> np.ndarray:
        if is_wide:
            return matrix @ (transposed @ vector)
        return transposed @ (matrix @ vector)

    if n_found >= _LARGE_SHARE * size:
        values, vectors = np.linalg.eigh(gram(np.eye(size)))
        values, vectors = values[-n_found:], vectors[:, -n_found:]
    else:
        start = np.random.default_rng(seed).normal(size=size)
        operator = LinearOperator((size, size), matvec=gram, dtype=np.float64)
        values, vectors = eigsh(operator, k=n_found, which="LA", v0=start, tol=_TOLERANCE)
    values, vectors = values[::-1], vectors[:, ::-1]
    if is_wide:
        vectors = transposed @ vectors
    lengths = np.linalg.norm(vectors, axis=0)
    kept = values > 1e-12 * max(float(values[0]), 1e-300)
    found = vectors * np.where(kept, 1.0 / np.maximum(lengths, 1e-300), 0.0)
    # the sign of a vector is arbitrary
    largest = found[np.abs(found).argmax(axis=0), np.arange(n_found)]
    return found * np.where(largest < 0, -1.0, 1.0)
