"""Scores of methods as a table whose best entries stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi.pl._style import CMAP_SHARE, MISSING, TEXT, colour_map, new_axes, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["benchmark"]

_DARK = 0.6  # of the colour scale; white text from here on
_SPAN = 0.85  # of the colour scale in use, so that text stays readable


def benchmark(
    table: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    label: str = "method",
    lower: Sequence[str] = (),
    digits: int = 3,
    ax: Axes | None = None,
) -> Axes:
    """Draw a table of scores, each column coloured from its worst to its best, the best in bold.

    Parameters
    ----------
    table
        One row a method, such as the CSV files that the benchmarks write. Where a column
        ``<name>_sd`` stands beside ``<name>``, it is printed too.
    columns
        Columns to draw; by default all numeric ones but deviations, ``runs`` and ``seed``.
    label
        Column with the names of the methods; the index where there is none.
    lower
        Columns in which less is better, such as seconds.
    digits
        Decimals.
    ax
        Axes to draw into.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If there is nothing to draw.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.pl import benchmark
    >>> scores = pd.DataFrame({"method": ["a", "b"], "ari": [0.5, 0.7], "seconds": [3.0, 9.0]})
    >>> ax = benchmark(scores, lower=["seconds"])
    >>> [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"]
    ['3.000', '0.700']
    """
    names = table[label] if label in table.columns else table.index
    if columns is None:
        numeric = table.select_dtypes("number").columns
        skip = {f"{name}_sd" for name in numeric} | {"runs", "seed", label}
        columns = [name for name in numeric if name not in skip]
    missing = [name for name in [*columns, *lower] if name not in table.columns]
    if missing:
        msg = f"the table has no column {missing[0]!r}, only {list(map(str, table.columns))}"
        raise KeyError(msg)
    values = table[list(columns)].to_numpy(dtype=float)
    if not values.size or np.isnan(values).all():
        msg = (
            f"the table has {len(table)} rows and {len(columns)} columns with scores; none to draw"
        )
        raise ValueError(msg)
    shade = np.full(values.shape, np.nan)
    best = np.zeros(values.shape, dtype=bool)
    for j, name in enumerate(columns):
        signed = -values[:, j] if name in lower else values[:, j]
        known = ~np.isnan(signed)
        if not known.any():
            continue
        low, high = signed[known].min(), signed[known].max()
        shade[known, j] = _SPAN * ((signed[known] - low) / (high - low) if high > low else 0.5)
        best[known, j] = np.round(signed[known], digits) == np.round(high, digits)
    ax = new_axes(ax, (1.1 * len(columns) + 2.2, 0.36 * len(table) + 0.9))
    ax.imshow(
        np.ma.masked_invalid(shade),
        cmap=colour_map(CMAP_SHARE, MISSING),
        vmin=0,
        vmax=1,
        aspect="auto",
    )
    for i, j in np.ndindex(values.shape):
        text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.{digits}f}"
        spread = table[f"{columns[j]}_sd"].iloc[i] if f"{columns[j]}_sd" in table else np.nan
        text += "" if np.isnan(spread) else f" ± {spread:.{digits}f}"
        ax.text(
            j,
            i,
            text,
            ha="center",
            va="center",
            fontsize="small",
            fontweight="bold" if best[i, j] else "normal",
            color="white" if shade[i, j] > _DARK else TEXT,
        )
    ax.set_yticks(range(len(table)), [shorten(name) for name in names])
    heads = [f"{name} ↓" if name in lower else f"{name} ↑" for name in map(str, columns)]
    ax.set_xticks(range(len(columns)), [shorten(h.replace("_", " "), 24) for h in heads])
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(table) - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=1.5)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)
    return ax
