"""Two-sample tests of many features at once, on sparse columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray


class TestResult(NamedTuple):
    """Statistic and p value of each feature, and the area under the ROC curve.

    Parameters
    ----------
    statistic
        Signed z value, positive where the first group is higher.
    p_value
        Two-sided.
    auroc
        Chance that a cell of the first group lies above one of the second.
    """

    statistic: NDArray[np.float64]
    p_value: NDArray[np.float64]
    auroc: NDArray[np.float64]


def wilcoxon(matrix: sp.csc_matrix, first: NDArray[np.bool_]) -> TestResult:
    """Mann-Whitney test with correction for ties, normal approximation.

    Only stored values are sorted; the zeros of a column are one run of ties.

    Parameters
    ----------
    matrix
        Shape (cells, features), canonical CSC without stored zeros.
    first
        Whether a cell belongs to the first group, shape (cells,).
    """
    from scipy.special import ndtr

    n, n_features = matrix.shape
    n1 = int(first.sum())
    n2 = n - n1
    column = np.repeat(np.arange(n_features), np.diff(matrix.indptr))
    order = np.lexsort((matrix.data, column))
    value, row = matrix.data[order], matrix.indices[order]
    stored = np.diff(matrix.indptr)
    n_zero = n - stored
    negative = np.bincount(column[value < 0], minlength=n_features)
    place = np.arange(len(value)) - matrix.indptr[:-1][column]
    rank = place + 1.0 + np.where(value > 0, n_zero[column], 0)
    # runs of ties: equal values of one column
    starts = np.flatnonzero(np.r_[True, (np.diff(column) != 0) | (np.diff(value) != 0)])
    starts = starts if len(value) else np.zeros(0, dtype=np.int64)
    length = np.diff(np.r_[starts, len(value)])
    run = np.repeat(np.arange(len(starts)), length)
    mean_rank = rank[starts] + (length - 1) / 2 if len(value) else np.zeros(0)
    in_first = first[row]
    weight = mean_rank[run] * in_first
    rank_sum = np.bincount(column, weight, minlength=n_features).astype(np.float64)
    zeros_first = n1 - np.bincount(column, in_first, minlength=n_features)
    rank_sum += zeros_first * (negative + (n_zero + 1) / 2)
    cubes = length.astype(np.float64) ** 3 - length
    ties = np.bincount(column[starts], cubes, minlength=n_features).astype(np.float64)
    ties += n_zero.astype(float) ** 3 - n_zero
    u = rank_sum - n1 * (n1 + 1) / 2
    variance = n1 * n2 / 12 * (n + 1 - ties / (n * (n - 1)))
    z = np.divide(
        u - n1 * n2 / 2,
        np.sqrt(np.maximum(variance, 0)),
        out=np.zeros(n_features),
        where=variance > 0,
    )
    return TestResult(z, 2 * ndtr(-np.abs(z)), u / (n1 * n2))
