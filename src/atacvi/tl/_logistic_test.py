"""Likelihood-ratio tests of many features in logistic regressions, on sparse columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.tl._rank_test import TestResult

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

_MAX_STEPS = 40
_TOLERANCE = 1e-8  # of the deviance, relative
_NODES = 32
_RIDGE = 1e-9  # a cell


def logistic(
    matrix: sp.csc_matrix, first: NDArray[np.bool_], log_depth: NDArray[np.float64]
) -> TestResult:
    """Test a feature in a logistic regression of the group on it and on depth.

    All features of a block are fitted together by Newton's method. Where a feature is zero, the
    likelihood hangs on depth alone: its sum over all cells is taken by Gauss quadrature for the
    cells' own distribution of depth, and only stored values are corrected one by one. The rule of
    32 nodes is exact for polynomials up to degree 63 in log depth. A feature that separates the
    groups perfectly has its deviance at the limit.

    Parameters
    ----------
    matrix
        Shape (cells, features), canonical CSC without stored zeros.
    first
        Whether a cell belongs to the first group, shape (cells,).
    log_depth
        Log of each cell's depth, shape (cells,).

    References
    ----------
    Ntranos et al., Nature Methods 16, 163 (2019); Golub and Welsch, Math. Comp. 23, 221 (1969).
    """
    from scipy.special import chdtrc

    depth = log_depth - log_depth.mean()
    depth = depth / max(float(depth.std()), 1e-12)
    n_features = matrix.shape[1]
    cells = _Cells(depth, first, *gauss_rule(depth, _NODES))
    nothing = np.zeros(0, dtype=np.int64)
    alone = _Columns(nothing, nothing, np.zeros(0), 1)
    null, null_beta = _fit(cells, alone, np.zeros((1, 3)))
    column = np.repeat(np.arange(n_features), np.diff(matrix.indptr))
    value = matrix.data.astype(np.float64)
    value /= _deviations(column, value, matrix.shape)[column]
    columns = _Columns(column, matrix.indices.astype(np.int64), value, n_features)
    deviance, beta = _fit(cells, columns, np.repeat(null_beta, n_features, axis=0))
    ratio = np.maximum(null[0] - deviance, 0.0)
    statistic = np.sign(beta[:, 2]) * np.sqrt(ratio)
    return TestResult(statistic, chdtrc(1, ratio), np.full(n_features, np.nan))


class _Cells(NamedTuple):
    """Depth and group of the cells, and the quadrature that stands in for sums over them."""

    depth: NDArray[np.float64]
    first: NDArray[np.bool_]
    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]


class _Columns(NamedTuple):
    """Stored values with column and row, each of shape (values,), sorted by column."""

    column: NDArray[np.int64]
    row: NDArray[np.int64]
    value: NDArray[np.float64]
    n: int

    def take(self, kept: NDArray[np.bool_]) -> _Columns:
        """Give some of the columns, numbered anew."""
        here = kept[self.column]
        place = np.cumsum(kept) - 1
        return _Columns(place[self.column[here]], self.row[here], self.value[here], int(kept.sum()))

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up by column."""
        return np.bincount(self.column, values, minlength=self.n).astype(np.float64)


def gauss_rule(
    points: NDArray[np.float64], n_nodes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights whose sums of polynomials are those over the points.

    Lanczos' method on the diagonal matrix of the points, then the eigenvalues of the tridiagonal
    matrix; exact up to degree 2 `n_nodes` - 1, and for anything with as few distinct points.
    """
    n = len(points)
    vectors = [np.full(n, 1 / np.sqrt(n))]
    diagonal: list[float] = []
    off: list[float] = []
    for _ in range(n_nodes):
        new = points * vectors[-1]
        diagonal.append(float(new @ vectors[-1]))
        known = np.array(vectors)
        for _ in range(2):  # twice is enough to stay orthogonal
            new = new - known.T @ (known @ new)
        norm = float(np.linalg.norm(new))
        if norm < 1e-10:
            break
        off.append(norm)
        vectors.append(new / norm)
    inner = off[: len(diagonal) - 1]
    tridiagonal = np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1)
    nodes, states = np.linalg.eigh(tridiagonal)
    return nodes, n * states[0] ** 2


def _deviations(
    column: NDArray[np.int64], value: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return standard deviations by column; infinite where a column does not vary."""
    mean = np.bincount(column, value, minlength=shape[1]) / shape[0]
    square = np.bincount(column, value**2, minlength=shape[1]) / shape[0]
    variance = square - mean**2
    constant = variance <= 1e-12 * square
    return np.sqrt(np.where(constant, np.inf, variance))


def _fit(
    cells: _Cells, columns: _Columns, beta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return deviance and coefficients (features, 3) of intercept, depth and feature."""
    beta = beta.copy()
    best = np.full(columns.n, np.inf)
    step = np.zeros_like(beta)
    active = np.arange(columns.n)
    for _ in range(_MAX_STEPS):
        now = beta[active]
        deviance, gradient, hessian = _evaluate(cells, columns, now)
        before = best[active]
        worse = deviance > before + 1e-9
        done = ~worse & (before - deviance <= _TOLERANCE * (1 + np.abs(deviance)))
        done |= worse & (np.abs(step[active]).max(axis=1) < 1e-6)
        best[active] = np.minimum(before, deviance)
        # Half of a step that overshot is taken back, else the next one is taken.
        newton = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        taken = np.where(worse[:, None], -step[active] / 2, newton)
        step[active] = np.where(worse[:, None], step[active] / 2, newton)
        beta[active[~done]] += taken[~done]
        if done.all():
            break
        if done.any():
            active, columns = active[~done], columns.take(~done)
    return best, beta


def _evaluate(
    cells: _Cells, columns: _Columns, beta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return deviance, gradient and Hessian of the log-likelihood (sign turned) by feature."""
    depth, y = cells.depth[columns.row], cells.first[columns.row]
    x, add = columns.value, columns.sum
    base = beta[columns.column, 0] + beta[columns.column, 1] * depth
    at_zero, p_zero = _softplus(base)
    loss, p = _softplus(base + beta[columns.column, 2] * x)
    node_loss, node_p = _softplus(beta[:, :1] + beta[:, 1:2] * cells.nodes)
    node_spread = node_p * (1 - node_p)
    powers = cells.weights[:, None] * cells.nodes[:, None] ** np.arange(3)
    of_y = np.array([cells.first.sum(), cells.depth[cells.first].sum()])
    linear = beta[:, :2] @ of_y + beta[:, 2] * add(x * y)
    deviance = 2 * (node_loss @ cells.weights + add(loss - at_zero) - linear)
    more = p - p_zero
    expected = node_p @ powers[:, :2] + np.column_stack([add(more), add(more * depth)])
    gradient = np.column_stack([of_y - expected, add(x * (y - p))])
    spread = p * (1 - p)
    change = spread - p_zero * (1 - p_zero)
    plain = node_spread @ powers
    hessian = np.empty((columns.n, 3, 3))
    hessian[:, 0, 0] = plain[:, 0] + add(change)
    hessian[:, 0, 1] = plain[:, 1] + add(change * depth)
    hessian[:, 1, 1] = plain[:, 2] + add(change * depth**2)
    spread = spread * x
    hessian[:, 0, 2] = add(spread)
    hessian[:, 1, 2] = add(spread * depth)
    hessian[:, 2, 2] = add(spread * x)
    hessian[:, 1, 0], hessian[:, 2, 0] = hessian[:, 0, 1], hessian[:, 0, 2]
    hessian[:, 2, 1] = hessian[:, 1, 2]
    hessian += _RIDGE * len(cells.depth) * np.eye(3)
    return deviance, gradient, hessian


def _softplus(eta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log(1 + exp(eta)) and its derivative from one exponential."""
    small = np.exp(-np.abs(eta))
    p = np.where(eta >= 0, 1.0, small) / (1.0 + small)
    return np.maximum(eta, 0.0) + np.log1p(small), p
