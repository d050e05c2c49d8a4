"""Order along a trajectory against known order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def ordering_correlation(
    pseudotime: ArrayLike,
    time: ArrayLike,
    method: Literal["spearman", "kendall"] = "spearman",
) -> float:
    """Rank correlation of pseudotime with known time.

    Parameters
    ----------
    pseudotime
        Position of each cell, shape ``(n_cells,)``. Cells that were not reached (infinite or NaN)
        are left out.
    time
        Known time of each cell, NaN where unknown; ties count as scipy counts them (mean ranks;
        Kendall's tau-b).
    method
        ``"spearman"`` or ``"kendall"``.

    Returns
    -------
    A number between -1 and 1; NaN where either is constant.

    Raises
    ------
    ValueError
        If lengths differ, fewer than three cells are left, or the method is unknown.

    Examples
    --------
    >>> from atacvi.metrics import ordering_correlation
    >>> ordering_correlation([0.1, 0.2, 0.5, 0.9], [0, 0, 1, 3]) > 0.9
    True
    """
    from scipy.stats import kendalltau, spearmanr

    x, y = (np.asarray(values, dtype=np.float64).ravel() for values in (pseudotime, time))
    if x.shape != y.shape:
        msg = f"{x.size} pseudotimes and {y.size} times were given; pass one of each a cell"
        raise ValueError(msg)
    if method not in ("spearman", "kendall"):
        msg = f"method={method!r}; use 'spearman' or 'kendall'"
        raise ValueError(msg)
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3:
        msg = f"{int(known.sum())} cells have both a finite pseudotime and a time; 3 are needed"
        raise ValueError(msg)
    x, y = x[known], y[known]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    found = spearmanr(x, y) if method == "spearman" else kendalltau(x, y)
    return float(found.statistic)
