"""What was observed against what a model imputes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from atacvi.pl._style import CMAP, TEXT, bare, new_axes
from atacvi.pl._values import as_categories

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

__all__ = ["imputation"]

_MAX_POINTS = 2_000_000


def imputation(
    observed: Any,
    imputed: Any,
    groups: ArrayLike | pd.Series | None = None,
    *,
    log: bool = True,
    xlabel: str = "observed",
    ylabel: str = "imputed",
    random_state: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw imputed against observed values, with their Pearson correlation.

    Single counts are noise; with `groups` the means of each feature in each group of cells are
    compared, which a good model reproduces.

    Parameters
    ----------
    observed, imputed
        Matrices (cells, features) in the same order and on the same scale: arrays, tables, or
        sparse matrices. Two tables must have the same cells and features.
    groups
        Group of each cell; ``None`` compares single entries (a sample of 2 million of more).
    log
        Draw, and correlate, ``log1p`` of the values, or of the means.
    xlabel, ylabel
        Names of the axes.
    random_state
        Seed of the sample.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        If shapes or names differ, values are not finite, or with `log` are below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.pl import imputation
    >>> counts = np.random.default_rng(0).poisson(2.0, (50, 10))
    >>> imputation(counts, counts + 0.1).get_title(loc="left")
    'r = 1.00 (500 values)'
    """
    _check_same(observed, imputed)
    if groups is None:
        x, y = _entries(observed, imputed, random_state)
        what = "values"
    else:
        x, y = (_group_means(matrix, groups).ravel() for matrix in (observed, imputed))
        what = "group means"
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        msg = "observed and imputed must be finite; leave out features or cells that are not."
        raise ValueError(msg)
    if log:
        if min(x.min(), y.min()) < 0:
            msg = "values below 0 have no log1p; pass log=False for values that are scaled."
            raise ValueError(msg)
        x, y = np.log1p(x), np.log1p(y)
    return _draw(new_axes(ax, (4.4, 3.8)), x, y, what, _scale(xlabel, log), _scale(ylabel, log))


def _scale(label: str, log: bool) -> str:
    return f"{label}, log1p" if log else label


def _check_same(observed: Any, imputed: Any) -> None:
    shapes = [tuple(np.shape(part)) for part in (observed, imputed)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or 0 in shapes[0]:
        msg = (
            f"observed has shape {shapes[0]}, imputed {shapes[1]}; both must be (cells, features) "
            "of the same, non-empty cells and features."
        )
        raise ValueError(msg)
    if isinstance(observed, pd.DataFrame) and isinstance(imputed, pd.DataFrame):
        for axis in ("index", "columns"):
            if not getattr(observed, axis).equals(getattr(imputed, axis)):
                msg = f"the {axis} of observed and imputed differ; reindex one like the other."
                raise ValueError(msg)


def _entries(
    observed: Any, imputed: Any, random_state: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Paired entries; of very many a sample, so that no large matrix becomes dense."""
    n_rows, n_columns = np.shape(observed)
    rows = np.arange(n_rows)
    n_sampled = max(1, _MAX_POINTS // n_columns)
    if n_sampled < n_rows:
        chosen = np.random.default_rng(random_state).choice(n_rows, n_sampled, replace=False)
        rows = np.sort(chosen)
    return _dense(observed, rows).ravel(), _dense(imputed, rows).ravel()


def _dense(matrix: Any, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    if sparse.issparse(matrix):
        return np.asarray(matrix.tocsr()[rows].toarray(), dtype=float)
    return np.asarray(matrix, dtype=float)[rows]


def _group_means(matrix: Any, groups: ArrayLike | pd.Series) -> NDArray[np.float64]:
    """Mean of each feature in each group, (groups, features)."""
    codes = as_categories(pd.Series(groups).reset_index(drop=True)).codes
    if len(codes) != np.shape(matrix)[0]:
        msg = f"{len(codes)} groups were given for {np.shape(matrix)[0]} cells; pass one a cell."
        raise ValueError(msg)
    known = np.flatnonzero(codes >= 0)
    if not known.size:
        msg = "No cell has a group: there is nothing to compare."
        raise ValueError(msg)
    counts = np.bincount(codes[known])
    member = sparse.csr_matrix(
        (1.0 / counts[codes[known]], (codes[known], known)), (len(counts), len(codes))
    )
    values = matrix if sparse.issparse(matrix) else np.asarray(matrix, dtype=float)
    means = member @ values
    return np.asarray(means.toarray() if sparse.issparse(means) else means, dtype=float)


def _draw(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], what: str, xlabel: str, ylabel: str
) -> Axes:
    low = min(x.min(), y.min())
    high = max(x.max(), y.max())
    high = high if high > low else low + 1.0
    bins = ax.hexbin(
        x,
        y,
        gridsize=45,
        bins="log",
        mincnt=1,
        cmap=CMAP,
        linewidths=0.1,
        extent=(low, high, low, high),
    )
    ax.plot([low, high], [low, high], color=TEXT, lw=0.8, ls="--")
    r = np.corrcoef(x, y)[0, 1] if x.std() > 0 and y.std() > 0 else np.nan
    ax.set_title(f"r = {r:.2f} ({len(x):,} {what})", loc="left")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_box_aspect(1)
    ax.figure.colorbar(bins, ax=ax, label=what, shrink=0.8, aspect=18)
    bare(ax)
    return ax
