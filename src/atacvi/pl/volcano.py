"""Effect against significance of a differential test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi.pl._style import MISSING, TEXT, bare, new_axes, shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["volcano"]

_UP, _DOWN = "#D55E00", "#0072B2"
_FLOOR = 1e-300
_LABEL_ROOM = 1.7


def volcano(
    table: pd.DataFrame,
    *,
    effect: str = "log2_fold_change",
    significance: str = "fdr",
    max_significance: float = 0.05,
    min_effect: float = 1.0,
    n_labels: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Draw effect against significance, and name the features that stand out.

    Parameters
    ----------
    table
        Result of :func:`atacvi.tl.differential`, or of a model's differential test; features in the
        index.
    effect
        Column of the effect.
    significance
        Column of p values or false discovery rates, drawn as ``-log10``; a column that starts with
        ``prob`` holds probabilities of a difference, drawn as they are.
    max_significance
        Features up to this value stand out; of probabilities, those from one minus it.
    min_effect
        Least absolute effect of those that stand out.
    n_labels
        Features named on either side, the most significant ones.
    ax
        Axes to draw into.

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If no feature has both values.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.pl import volcano
    >>> table = pd.DataFrame({"log2_fold_change": [2.0, 0.1], "fdr": [1e-5, 0.6]}, index=["A", "B"])
    >>> volcano(table).get_title(loc="left")
    '0 lower, 1 higher'
    """
    missing = {effect, significance} - set(table.columns)
    if missing:
        msg = f"the table lacks {sorted(missing)}; it has {list(map(str, table.columns))}"
        raise KeyError(msg)
    known = table[[effect, significance]].dropna()
    if known.empty:
        msg = f"no feature has both {effect!r} and {significance!r}"
        raise ValueError(msg)
    x = known[effect].to_numpy(dtype=float)
    raw = known[significance].to_numpy(dtype=float)
    is_probability = significance.startswith("prob")
    limit = 1 - max_significance if is_probability else -np.log10(max_significance)
    y = raw if is_probability else -np.log10(np.maximum(raw, _FLOOR))
    high = (y >= limit) & (x >= min_effect)
    low = (y >= limit) & (x <= -min_effect)
    ax = new_axes(ax, (6.0, 3.8))
    for mask, colour, size in ((~(high | low), MISSING, 5), (low, _DOWN, 9), (high, _UP, 9)):
        ax.scatter(x[mask], y[mask], s=size, color=colour, linewidths=0, rasterized=len(x) > 5000)
    ax.axhline(limit, color=TEXT, lw=0.6, ls=":")
    for edge in (-min_effect, min_effect):
        ax.axvline(edge, color=TEXT, lw=0.6, ls=":")
    reach = 1.08 * max(float(np.abs(x).max()), 1.2 * min_effect)
    if n_labels:  # columns of names stand beside the points
        reach *= _LABEL_ROOM
    ax.set_xlim(-reach, reach)
    ax.set_ylim(bottom=0 if not is_probability else None)
    ax.margins(y=0.08)
    names = np.array([str(name) for name in known.index], dtype=object)
    for mask, side in ((low, -1), (high, 1)):
        chosen = np.flatnonzero(mask)
        _label(ax, x, y, names, chosen[np.argsort(-y[chosen], kind="stable")][:n_labels], side)
    ax.set_title(f"{low.sum():,} lower, {high.sum():,} higher", loc="left")
    ax.set_xlabel(effect.replace("_", " ").replace("log2", "log$_2$"))
    name = significance.upper() if significance == "fdr" else significance.replace("_", " ")
    ax.set_ylabel(name if is_probability else f"$-$log$_{{10}}$ {name}")
    bare(ax)
    return ax


def _label(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: np.ndarray, chosen: np.ndarray, side: int
) -> None:
    """Write names in a column at the edge, in the order of height, joined to their points."""
    if not len(chosen):
        return
    low, high = ax.get_ylim()
    step = 0.062 * (high - low)
    order = chosen[np.argsort(-y[chosen], kind="stable")]
    at = high + 0.4 * step
    edge = 1.0 if side > 0 else 0.01
    transform = ax.get_yaxis_transform()
    for i in order:
        at -= step
        ax.annotate(
            shorten(names[i], 23),
            (x[i], y[i]),
            (edge, at),
            xycoords="data",
            textcoords=transform,
            ha="right" if side > 0 else "left",
            va="center",
            fontsize=7,
            color=TEXT,
            arrowprops={
                "arrowstyle": "-",
                "lw": 0.5,
                "color": "#999999",
                "shrinkA": 0,
                "shrinkB": 1,
            },
        )
