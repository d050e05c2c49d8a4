"""Two-sample tests of many features at once, on sparse columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

_NEWTON_STEPS = 25


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


def logistic(
    values: NDArray[np.float64], first: NDArray[np.bool_], log_depth: NDArray[np.float64]
) -> TestResult:
    """Likelihood-ratio test of a feature in a logistic regression of the group on depth.

    All features of a block are fitted together by Newton's method; a feature that separates the
    groups perfectly has its deviance at the limit.

    Parameters
    ----------
    values
        Shape (cells, features).
    first
        Whether a cell belongs to the first group, shape (cells,).
    log_depth
        Log of each cell's depth, shape (cells,).
    """
    from scipy.stats import chi2

    y = first.astype(np.float64)
    depth = log_depth - log_depth.mean()
    depth = depth / max(float(depth.std()), 1e-12)
    mean, sd = values.mean(axis=0), values.std(axis=0)
    x = (values - mean) / np.where(sd > 1e-12, sd, np.inf)
    null = _deviance(np.zeros((len(y), 1)), y, depth)[0][0]
    deviance, slope = _deviance(x, y, depth)
    ratio = np.maximum(null - deviance, 0.0)
    statistic = np.sign(slope) * np.sqrt(ratio)
    return TestResult(statistic, chi2.sf(ratio, 1), np.full(len(slope), np.nan))


def _deviance(
    x: NDArray[np.float64], y: NDArray[np.float64], depth: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return deviance and slope of each feature, fitted with intercept and depth."""
    n_features = x.shape[1]
    base = np.column_stack([np.ones(len(y)), depth])
    beta = np.zeros((n_features, 3))
    constant = ~x.any(axis=0)
    best = np.full(n_features, np.inf)
    step = np.zeros_like(beta)
    for _ in range(_NEWTON_STEPS):
        eta = base @ beta[:, :2].T + x * beta[:, 2]
        found = 2 * (np.logaddexp(0, eta) - y[:, None] * eta).sum(axis=0)
        worse = found > best + 1e-9
        if worse.any():  # halve the steps that overshot
            step[worse] /= 2
            beta[worse] -= step[worse]
            if np.abs(step[worse]).max() > 1e-6:
                continue
        if np.all(np.abs(best - found) < 1e-8 * (1 + np.abs(found))):
            break
        best = np.minimum(best, found)
        p = 1 / (1 + np.exp(-eta))
        weight = p * (1 - p)
        error = y[:, None] - p
        gradient = np.column_stack([(base.T @ error).T, (x * error).sum(axis=0)])
        hessian = np.empty((n_features, 3, 3))
        hessian[:, :2, :2] = np.einsum("ni,nj,nf->fij", base, base, weight, optimize=True)
        weighted = weight * x
        hessian[:, 2, :2] = hessian[:, :2, 2] = (base.T @ weighted).T
        hessian[:, 2, 2] = (weighted * x).sum(axis=0)
        hessian[constant, 2, 2] = 1.0
        ridge = 1e-9 * len(y) * np.eye(3)
        step = np.linalg.solve(hessian + ridge, gradient[:, :, None])[:, :, 0]
        beta = beta + step
    return np.minimum(best, found), beta[:, 2]
