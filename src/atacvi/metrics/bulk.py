"""Single cells against a bulk profile of the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp

from atacvi.metrics.agreement import per_cell_correlation

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    Matrix: TypeAlias = ArrayLike | sp.spmatrix | sp.sparray

_BLOCK = 256


class PeakRecovery(NamedTuple):
    """Open peaks of each cell that bulk confirms, each of shape ``(n_cells,)``.

    Parameters
    ----------
    n_called
        Peaks called open.
    n_confirmed
        Those among them that are open in bulk.
    precision
        Confirmed of called, NaN for a cell without calls.
    recall
        Confirmed of all that are open in bulk.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import PeakRecovery
    >>> found = PeakRecovery(np.array([4]), np.array([3]), np.array([0.75]), np.array([0.3]))
    >>> found.n_confirmed / found.n_called
    array([0.75])
    """

    n_called: NDArray[np.int64]
    n_confirmed: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def bulk_correlation(
    values: Matrix, bulk: ArrayLike, method: Literal["pearson", "spearman"] = "spearman"
) -> NDArray[np.float64]:
    """Correlate each cell (or pseudo-bulk) with a bulk profile over the features.

    Parameters
    ----------
    values
        Raw or imputed values, shape ``(n_cells, n_features)``, dense or sparse.
    bulk
        Bulk profile of the same features, shape ``(n_features,)``.
    method
        ``"spearman"`` or ``"pearson"``.

    Returns
    -------
    Correlations, shape ``(n_cells,)``; 0 for a cell whose values are constant.

    Raises
    ------
    ValueError
        If shapes disagree, values are not finite, or the bulk profile is constant.

    Examples
    --------
    >>> from atacvi.metrics import bulk_correlation
    >>> bulk_correlation([[1, 2, 3], [3, 2, 1]], [10, 20, 90]).round(6).tolist()
    [1.0, -1.0]
    """
    profile = np.asarray(bulk, dtype=np.float64).ravel()
    shape = np.shape(values)
    if len(shape) != 2 or shape[1] != profile.size:
        msg = f"values of shape {shape} do not fit a bulk profile of {profile.size} features"
        raise ValueError(msg)
    if not profile.size or np.ptp(profile) == 0:
        msg = "the bulk profile is constant over the features; there is no correlation with it"
        raise ValueError(msg)
    matrix = sp.csr_matrix(values) if sp.issparse(values) else np.asarray(values)
    out = np.empty(shape[0])
    for start in range(0, shape[0], _BLOCK):
        part = slice(start, min(start + _BLOCK, shape[0]))
        truth = np.tile(profile, (part.stop - start, 1))
        out[part] = per_cell_correlation(truth, matrix[part], method)
    return out


def peak_recovery(called: Matrix, bulk_open: ArrayLike) -> PeakRecovery:
    """Count the peaks called open in each cell that bulk confirms.

    Parameters
    ----------
    called
        Calls, shape ``(n_cells, n_peaks)``; what is above zero is open.
    bulk_open
        Whether each peak is open in bulk, shape ``(n_peaks,)``.

    Returns
    -------
    Numbers, precision and recall of each cell.

    Raises
    ------
    ValueError
        If shapes disagree or bulk has no open peak.

    Examples
    --------
    >>> from atacvi.metrics import peak_recovery
    >>> found = peak_recovery([[1, 1, 0, 0], [0, 0, 0, 0]], [True, False, True, False])
    >>> found.n_confirmed.tolist(), found.precision.tolist(), found.recall.tolist()
    ([1, 0], [0.5, nan], [0.5, 0.0])
    """
    matrix = sp.csr_matrix(called)
    truth = np.asarray(bulk_open, dtype=bool).ravel()
    if matrix.shape[1] != truth.size:
        msg = f"calls of {matrix.shape[1]} peaks do not fit {truth.size} peaks of bulk"
        raise ValueError(msg)
    if not truth.any():
        msg = "no peak is open in bulk; check that both have the same peaks"
        raise ValueError(msg)
    is_open = sp.csr_matrix(matrix > 0, dtype=np.int64)
    n_called = np.asarray(is_open.sum(axis=1)).ravel()
    n_confirmed = np.asarray(is_open @ truth.astype(np.int64)).ravel()
    precision = np.full(len(n_called), np.nan)
    np.divide(n_confirmed, n_called, out=precision, where=n_called > 0)
    return PeakRecovery(n_called, n_confirmed, precision, n_confirmed / truth.sum())
