"""Checks shared by the scores of generated cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from atacvi.metrics._checks import check_embedding

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    Matrix: TypeAlias = ArrayLike | sp.spmatrix | sp.sparray


def check_counts(matrix: Matrix, name: str) -> sp.csr_matrix:
    """Give counts as a sparse matrix without explicit zeros, or say what is wrong with them."""
    if not sp.issparse(matrix) and np.ndim(matrix) != 2:  # type: ignore[arg-type]
        msg = f"`{name}` has {np.ndim(matrix)} dimensions; a matrix (cells, peaks) is needed."  # type: ignore[arg-type]
        raise ValueError(msg)
    counts = sp.csr_matrix(matrix, copy=True)
    if 0 in counts.shape:
        msg = f"`{name}` has shape {counts.shape}; at least one cell and one peak are needed."
        raise ValueError(msg)
    if not np.isfinite(counts.data).all() or (counts.data < 0).any():
        msg = f"`{name}` holds negative, NaN or infinite values; pass counts or open / closed."
        raise ValueError(msg)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts


def check_count_pair(real: Matrix, generated: Matrix) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Give two count matrices over the same peaks."""
    pair = check_counts(real, "real"), check_counts(generated, "generated")
    if pair[0].shape[1] != pair[1].shape[1]:
        msg = (
            f"`real` has {pair[0].shape[1]} peaks and `generated` {pair[1].shape[1]}; pass the "
            "same peaks in the same order."
        )
        raise ValueError(msg)
    return pair


def binarised(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Give 1 where a peak is open; the counts themselves stay as they are."""
    values = np.ones(counts.nnz, dtype=np.float64)
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def check_spaces(*embeddings: ArrayLike) -> list[NDArray[np.float64]]:
    """Give embeddings as finite float64 matrices with equally many dimensions."""
    spaces = [check_embedding(values).astype(np.float64) for values in embeddings]
    widths = [space.shape[1] for space in spaces]
    if len(set(widths)) > 1:
        msg = f"The embeddings have {widths} dimensions; project all cells into one space."
        raise ValueError(msg)
    return spaces


def check_cell_labels(labels: ArrayLike, n_cells: int, name: str) -> NDArray[np.str_]:
    """Give one known label a cell, as text, so that labels of two sets compare."""
    import pandas as pd

    values = pd.Series(np.asarray(labels).ravel())
    if values.size != n_cells:
        msg = f"`{name}` holds {values.size} labels for {n_cells} cells; pass one label a cell."
        raise ValueError(msg)
    if values.isna().any():
        msg = f"`{name}` lacks the label of {int(values.isna().sum())} cells; leave these out."
        raise ValueError(msg)
    return values.astype(str).to_numpy(dtype=np.str_)


def at_most(
    cells: NDArray[np.float64], max_cells: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Give all cells, or a random sample of `max_cells` of them in their order."""
    if cells.shape[0] <= max_cells:
        return cells
    return cells[np.sort(rng.choice(cells.shape[0], max_cells, replace=False))]
