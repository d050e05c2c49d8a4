"""Agreement of predicted with true profiles, per cell and per feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    Matrix: TypeAlias = ArrayLike | sp.spmatrix | sp.sparray

#: Rows or columns that are made dense together; bounds memory to this many profiles.
_BLOCK = 256


def per_cell_correlation(
    truth: Matrix, prediction: Matrix, method: Literal["pearson", "spearman"] = "pearson"
) -> NDArray[np.float64]:
    """Correlate prediction and truth over the features, for each cell.

    Parameters
    ----------
    truth
        Observed values, shape ``(n_cells, n_features)``, dense or sparse.
    prediction
        Predicted values of the same shape, dense or sparse.
    method
        ``"pearson"``, or ``"spearman"`` (Pearson of the ranks, ties at their mean rank).

    Returns
    -------
    Correlations, shape ``(n_cells,)``. A cell whose truth is constant has no correlation: NaN.
    A cell whose prediction alone is constant predicts nothing: 0. Take means with
    :func:`numpy.nanmean`; thus cells without signal do not count and empty predictions do.

    Raises
    ------
    ValueError
        If shapes disagree, the method is unknown, or values are not finite.

    Examples
    --------
    >>> from atacvi.metrics import per_cell_correlation
    >>> per_cell_correlation([[1, 2, 3], [1, 1, 1]], [[2, 4, 6], [1, 2, 3]]).round(6).tolist()
    [1.0, nan]
    """
    return _correlation(truth, prediction, method, axis=1)


def per_feature_correlation(
    truth: Matrix, prediction: Matrix, method: Literal["pearson", "spearman"] = "pearson"
) -> NDArray[np.float64]:
    """Correlate prediction and truth over the cells, for each feature.

    Parameters
    ----------
    truth
        Observed values, shape ``(n_cells, n_features)``, dense or sparse.
    prediction
        Predicted values of the same shape, dense or sparse.
    method
        ``"pearson"``, or ``"spearman"`` (Pearson of the ranks, ties at their mean rank).

    Returns
    -------
    Correlations, shape ``(n_features,)``; NaN where the truth is constant, 0 where only the
    prediction is (see :func:`per_cell_correlation`).

    Raises
    ------
    ValueError
        If shapes disagree, the method is unknown, or values are not finite.

    Examples
    --------
    >>> from atacvi.metrics import per_feature_correlation
    >>> per_feature_correlation([[1, 0], [2, 0], [3, 1]], [[3, 5], [2, 5], [1, 5]]).tolist()
    [-1.0, 0.0]
    """
    return _correlation(truth, prediction, method, axis=0)


def per_cell_auroc(truth: Matrix, prediction: Matrix) -> NDArray[np.float64]:
    """Area under the ROC curve of open against closed features, for each cell.

    Works through the cells in blocks, so neither matrix is made dense as a whole.

    Parameters
    ----------
    truth
        Observed values, shape ``(n_cells, n_features)``; an entry above zero is open.
    prediction
        Predicted values of the same shape, dense or sparse.

    Returns
    -------
    Areas, shape ``(n_cells,)``; NaN for a cell with no open or no closed feature.

    Raises
    ------
    ValueError
        If shapes disagree or predictions are not finite.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.metrics import per_cell_auroc
    >>> per_cell_auroc(sp.csr_matrix([[1, 0, 0], [0, 0, 0]]), [[0.9, 0.1, 0.2], [0, 1, 2]]).tolist()
    [1.0, nan]
    """
    return _auroc(truth, prediction, axis=1)


def per_feature_auroc(truth: Matrix, prediction: Matrix) -> NDArray[np.float64]:
    """Area under the ROC curve of open against closed cells, for each feature.

    Works through the features in blocks, so neither matrix is made dense as a whole.

    Parameters
    ----------
    truth
        Observed values, shape ``(n_cells, n_features)``; an entry above zero is open.
    prediction
        Predicted values of the same shape, dense or sparse.

    Returns
    -------
    Areas, shape ``(n_features,)``; NaN for a feature open in no or in every cell.

    Raises
    ------
    ValueError
        If shapes disagree or predictions are not finite.

    Examples
    --------
    >>> from atacvi.metrics import per_feature_auroc
    >>> per_feature_auroc([[1, 0], [0, 0], [0, 1]], [[0.9, 0.5], [0.1, 0.5], [0.2, 0.5]]).tolist()
    [1.0, 0.5]
    """
    return _auroc(truth, prediction, axis=0)


def _as_matrix(values: Matrix, name: str, axis: int) -> NDArray[np.generic] | sp.spmatrix:
    """Give a two-dimensional matrix that is fast to cut along `axis` (1: rows, 0: columns)."""
    if sp.issparse(values):
        matrix = values.tocsr() if axis == 1 else values.tocsc()
        finite = np.isfinite(matrix.data).all()
    else:
        matrix = np.asarray(values)
        finite = np.isfinite(matrix).all()
    if matrix.ndim != 2:
        msg = f"`{name}` has {matrix.ndim} dimensions; a matrix (cells, features) is needed."
        raise ValueError(msg)
    if not finite:
        msg = f"`{name}` holds NaN or infinite values; leave those cells or features out."
        raise ValueError(msg)
    return matrix


def _pair(truth: Matrix, prediction: Matrix, axis: int) -> tuple:
    first, second = _as_matrix(truth, "truth", axis), _as_matrix(prediction, "prediction", axis)
    if first.shape != second.shape:
        msg = (
            f"`truth` has shape {first.shape} and `prediction` {second.shape}; pass the same "
            "cells and features in the same order."
        )
        raise ValueError(msg)
    return first, second


def _block(matrix: NDArray[np.generic] | sp.spmatrix, start: int, axis: int) -> NDArray:
    """Make one block dense, profiles as rows."""
    part = matrix[start : start + _BLOCK] if axis == 1 else matrix[:, start : start + _BLOCK]
    dense = part.toarray() if sp.issparse(part) else np.asarray(part)
    dense = dense.astype(np.float64, copy=False)
    return dense if axis == 1 else np.ascontiguousarray(dense.T)


def _correlation(truth: Matrix, prediction: Matrix, method: str, axis: int) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    if method not in ("pearson", "spearman"):
        msg = f"method={method!r} was found; allowed are 'pearson' and 'spearman'."
        raise ValueError(msg)
    first, second = _pair(truth, prediction, axis)
    n_profiles = first.shape[1 - axis]
    result = np.empty(n_profiles)
    for start in range(0, n_profiles, _BLOCK):
        x, y = _block(first, start, axis), _block(second, start, axis)
        if method == "spearman":
            x, y = rankdata(x, axis=1), rankdata(y, axis=1)
        result[start : start + _BLOCK] = _row_pearson(x, y)
    return result


def _row_pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    # A constant row can keep a rounding residue after centring, so constancy is read off the range.
    x_constant, y_constant = np.ptp(x, axis=1) == 0, np.ptp(y, axis=1) == 0
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    norm = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.clip((x * y).sum(axis=1) / norm, -1, 1)
    value[y_constant] = 0
    value[x_constant] = np.nan
    return value


def _auroc(truth: Matrix, prediction: Matrix, axis: int) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    first, second = _pair(truth, prediction, axis)
    n_profiles, n_entries = first.shape[1 - axis], first.shape[axis]
    result = np.empty(n_profiles)
    for start in range(0, n_profiles, _BLOCK):
        is_open = _block(first, start, axis) > 0
        ranks = rankdata(_block(second, start, axis), axis=1)
        n_open = is_open.sum(axis=1)
        above = np.where(is_open, ranks, 0).sum(axis=1) - n_open * (n_open + 1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            area = above / (n_open * (n_entries - n_open))
        area[(n_open == 0) | (n_open == n_entries)] = np.nan
        result[start : start + _BLOCK] = area
    return result
