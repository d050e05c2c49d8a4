"""Score imputations against truth that was hidden from the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def mask_nonzeros(
    matrix: sp.spmatrix | sp.sparray,
    fraction: float = 0.1,
    random_state: int | np.random.Generator = 0,
) -> tuple[sp.csr_matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Hide a random part of the non-zero entries of a sparse matrix.

    Entries are drawn without replacement, all with the same chance. A cell whose entries would
    all be hidden gets one back, since a model cannot be asked about a cell without data.

    Parameters
    ----------
    matrix
        Counts, shape ``(n_cells, n_features)``; left as it is.
    fraction
        Part of the non-zeros to hide, between 0 and 1 (both excluded).
    random_state
        Seed or generator of the draw.

    Returns
    -------
    The matrix without the hidden entries, and their rows and columns, sorted by row.

    Raises
    ------
    ValueError
        If `fraction` is out of range or the matrix has no non-zero entry.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.metrics import mask_nonzeros
    >>> masked, rows, cols = mask_nonzeros(sp.csr_matrix([[1, 2, 0], [3, 4, 5]]), fraction=0.4)
    >>> masked.nnz, len(rows)
    (3, 2)
    """
    if not 0 < fraction < 1:
        msg = f"fraction={fraction} was found; it has to lie between 0 and 1, both excluded."
        raise ValueError(msg)
    masked = sp.csr_matrix(matrix, copy=True)
    masked.sum_duplicates()
    masked.eliminate_zeros()
    if masked.nnz == 0:
        msg = "The matrix has no non-zero entry; there is nothing to hide."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    order = rng.permutation(masked.nnz)
    hidden = np.zeros(masked.nnz, dtype=bool)
    hidden[order[: max(1, round(fraction * masked.nnz))]] = True
    entry_rows = np.repeat(np.arange(masked.shape[0]), np.diff(masked.indptr))
    left = np.bincount(entry_rows[~hidden], minlength=masked.shape[0])
    emptied = np.flatnonzero((left == 0) & (np.diff(masked.indptr) > 0))
    # The first entry of a row in the shuffled order is a random one of that row.
    shuffled_rows, first = np.unique(entry_rows[order], return_index=True)
    hidden[order[first[np.searchsorted(shuffled_rows, emptied)]]] = False
    rows, cols = entry_rows[hidden].astype(np.int64), masked.indices[hidden].astype(np.int64)
    masked.data[hidden] = 0
    masked.eliminate_zeros()
    return masked, rows, cols


def masked_auroc(masked_scores: ArrayLike, zero_scores: ArrayLike) -> float:
    """Area under the ROC curve of hidden entries against zeros.

    The chance that a hidden non-zero entry is scored above a zero (Mann-Whitney U divided by the
    number of pairs; ties count one half; Hanley and McNeil, Radiology 143, 29 (1982)).

    Parameters
    ----------
    masked_scores
        Imputed values at the hidden entries, one-dimensional.
    zero_scores
        Imputed values at entries (or a random sample of entries) that are zero in the full data.

    Returns
    -------
    A number between 0 and 1; 0.5 for no information.

    Raises
    ------
    ValueError
        If either set is empty or holds NaN.

    Examples
    --------
    >>> from atacvi.metrics import masked_auroc
    >>> masked_auroc([0.9, 0.4], [0.1, 0.4])
    0.875
    """
    from scipy.stats import rankdata

    positive = np.asarray(masked_scores, dtype=np.float64).ravel()
    negative = np.asarray(zero_scores, dtype=np.float64).ravel()
    for name, values in (("masked_scores", positive), ("zero_scores", negative)):
        if values.size == 0:
            msg = f"`{name}` is empty; an AUROC needs at least one value on each side."
            raise ValueError(msg)
        if np.isnan(values).any():
            msg = f"`{name}` holds {int(np.isnan(values).sum())} NaN; impute every entry asked."
            raise ValueError(msg)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = ranks[: positive.size].sum() - positive.size * (positive.size + 1) / 2
    return float(above / positive.size / negative.size)


def sample_zeros(
    matrix: sp.spmatrix | sp.sparray,
    n_entries: int,
    random_state: int | np.random.Generator = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw entries that are zero, uniformly and with replacement, without densifying.

    Parameters
    ----------
    matrix
        Full counts, shape ``(n_cells, n_features)``: before masking, so that no hidden entry is
        drawn as a zero.
    n_entries
        How many to draw.
    random_state
        Seed or generator of the draw.

    Returns
    -------
    Rows and columns, each of shape ``(n_entries,)``.

    Raises
    ------
    ValueError
        If the matrix has no zero.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.metrics import sample_zeros
    >>> rows, cols = sample_zeros(sp.csr_matrix([[1, 0], [1, 1]]), 3)
    >>> rows.tolist(), cols.tolist()
    ([0, 0, 0], [1, 1, 1])
    """
    csr = sp.csr_matrix(matrix, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    n_columns = csr.shape[1]
    n_all = csr.shape[0] * n_columns
    if csr.nnz == n_all:
        msg = f"All {n_all} entries of the matrix are non-zero; there is no zero to draw."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    entry_rows = np.repeat(np.arange(csr.shape[0], dtype=np.int64), np.diff(csr.indptr))
    taken = np.sort(entry_rows * n_columns + csr.indices)
    # The r-th zero is found from how many zeros precede each non-zero entry.
    zeros_before = taken - np.arange(taken.size)
    rank = rng.integers(0, n_all - csr.nnz, size=n_entries)
    position = rank + np.searchsorted(zeros_before, rank, side="right")
    return position // n_columns, position % n_columns
