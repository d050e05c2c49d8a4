"""Correlations of pairs of columns, shrunk, and partial ones, dense or sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAIRS_PER_BLOCK = 20_000


def standardized(matrix: Any, columns: NDArray[np.int64]) -> DenseStandard | SparseStandard:
    """Return some columns of a matrix (observations, columns), standardised."""
    part = matrix[:, columns]
    if sp.issparse(part):
        return SparseStandard(sp.csc_matrix(part, dtype=np.float64))
    part = np.asarray(part, dtype=np.float64)
    return DenseStandard(part)


class DenseStandard:
    """Standardised columns, products of pairs of them."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        centred = values - values.mean(axis=0)
        sd = centred.std(axis=0)
        self.n = len(values)
        self.values = centred / np.where(sd > 1e-12, sd, np.inf)

    def moments(
        self, one: NDArray[np.int64], two: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and mean square of the products of pairs of columns."""
        product = self.values[:, one] * self.values[:, two]
        return product.mean(axis=0), (product**2).mean(axis=0)

    def correlation(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the correlation matrix of some columns."""
        part = self.values[:, columns]
        return part.T @ part / self.n


class SparseStandard:
    """The same for sparse columns, of which only the stored values are touched."""

    def __init__(self, values: sp.csc_matrix) -> None:
        self.values, self.n = values, values.shape[0]
        self.square = values.copy()
        self.square.data **= 2
        self.mean = np.asarray(values.mean(axis=0)).ravel()
        self.second = np.asarray(self.square.mean(axis=0)).ravel()
        variance = self.second - self.mean**2
        self.sd = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), np.inf)

    def moments(
        self, one: NDArray[np.int64], two: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and mean square of the products of pairs of columns."""
        a, b = self.values[:, one], self.values[:, two]
        a2, b2 = self.square[:, one], self.square[:, two]

        def mean(left: sp.csc_matrix, right: sp.csc_matrix) -> NDArray[np.float64]:
            return np.asarray(left.multiply(right).mean(axis=0)).ravel()

        m, k = self.mean[one], self.mean[two]
        s, t = self.second[one], self.second[two]
        e11, e21, e12, e22 = mean(a, b), mean(a2, b), mean(a, b2), mean(a2, b2)
        scale = self.sd[one] * self.sd[two]
        # E[(a - m)^2 (b - k)^2], expanded
        square = e22 - 2 * k * e21 - 2 * m * e12 + k**2 * s + m**2 * t + 4 * m * k * e11
        square -= 3 * m**2 * k**2
        return (e11 - m * k) / scale, square / scale**2

    def correlation(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the correlation matrix of some columns."""
        part = self.values[:, columns]
        product = (part.T @ part).toarray() / self.n
        centred = product - np.outer(self.mean[columns], self.mean[columns])
        return centred / np.outer(self.sd[columns], self.sd[columns])


def shrunk(
    x: DenseStandard | SparseStandard,
    one: NDArray[np.int64],
    two: NDArray[np.int64],
    shrinkage: float | None,
) -> tuple[NDArray[np.float64], float]:
    """Return shrunk correlations of pairs, and the weight of the identity."""
    r, variance = np.empty(len(one)), 0.0
    for start in range(0, len(one), _PAIRS_PER_BLOCK):
        part = slice(start, start + _PAIRS_PER_BLOCK)
        r[part], second = x.moments(one[part], two[part])
        variance += float((second - r[part] ** 2).sum())
    if shrinkage is None:
        # Schäfer & Strimmer 2005: sum of the variances of r over the sum of r squared.
        total = float((r**2).sum())
        share = variance / max(x.n - 1, 1) / total if total > 0 else 1.0
        shrinkage = float(np.clip(share, 0.0, 1.0))
    return (1 - shrinkage) * r, shrinkage


def partial_correlations(
    x: DenseStandard | SparseStandard,
    at: NDArray[np.int64],
    one: NDArray[np.int64],
    two: NDArray[np.int64],
    window: int,
    shrinkage: float,
) -> NDArray[np.float64]:
    """Return partial correlations of pairs, averaged over the windows that hold both."""
    total, count = np.zeros(len(one)), np.zeros(len(one))
    first_pair = np.searchsorted(one, np.arange(len(at) + 1))
    # Windows of twice the reach that start every `window`: a pair lies in one or two of them.
    for start in range(int(at[0]) - window, int(at[-1]) + 1, window):
        low, high = np.searchsorted(at, [start, start + 2 * window])
        if high - low < 2:
            continue
        columns = np.arange(low, high)
        matrix = (1 - shrinkage) * x.correlation(columns)
        np.fill_diagonal(matrix, 1.0)
        precision = np.linalg.inv(matrix)
        scale = np.sqrt(np.diag(precision))
        partial = -precision / np.outer(scale, scale)
        pairs = np.arange(first_pair[low], first_pair[high])
        pairs = pairs[two[pairs] < high]
        total[pairs] += partial[one[pairs] - low, two[pairs] - low]
        count[pairs] += 1
    return total / np.maximum(count, 1)
