"""Colours, axes and legends that all figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

#: Continuous values: perceptually uniform, also in grey and to the colour-blind.
CMAP = "viridis"
#: Shares and probabilities on white paper: zero is white, so that empty cells do not shout.
CMAP_SHARE = "Blues"
MISSING = "#d0d0d0"
TEXT = "#222222"
#: Entries of a legend column; more go into a further one.
LEGEND_ROWS = 18

# Okabe & Ito (2008), Color Universal Design; black softened, yellow last: pale on white.
_FEW = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#333333", "#F0E442")
# Krzywinski's 15 colours for the common kinds of colour blindness (mk.bcgsc.ca/colorblind), ordered
# so that neighbours differ most.
_MANY = (
    "#009FFA",
    "#68023F",
    "#00E307",
    "#FF71FD",
    "#003C86",
    "#FFDC3D",
    "#008169",
    "#F60239",
    "#9400E6",
    "#00DCB5",
    "#6A0213",
    "#FFCFE2",
    "#008607",
    "#EF0096",
    "#7CFFFA",
)


def palette(n_categories: int) -> list[str]:
    """Give one colour a category, safe for the common kinds of colour blindness up to 15.

    From the 16th category on the colours return darker, then paler.
    """
    if n_categories <= len(_FEW):
        return list(_FEW[:n_categories])
    from matplotlib.colors import to_hex, to_rgb

    colours = []
    for i in range(n_categories):
        rgb: tuple[float, ...] = to_rgb(_MANY[i % len(_MANY)])
        turn = i // len(_MANY)
        if turn % 3 == 1:
            rgb = tuple(0.6 * part for part in rgb)
        elif turn % 3 == 2:
            rgb = tuple(0.5 + 0.5 * part for part in rgb)
        colours.append(to_hex((rgb[0], rgb[1], rgb[2])))
    return colours


def new_axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return `ax`, or the Axes of a new figure with a constrained layout.

    The layout makes room for legends and colour bars beside the axes.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=figsize, layout="constrained")
    return axes


def bare(ax: Axes) -> None:
    """Take away the two spines that carry no scale."""
    ax.spines[["top", "right"]].set_visible(False)


def integer_axis(axis: Any, n_values: int, names: Sequence[str], n_max: int = 40) -> None:
    """Label categories along an axis; when there are too many, only every second, third, ..."""
    step = -(-n_values // n_max)
    axis.set_ticks(range(0, n_values, step), labels=[str(name) for name in names[::step]])


def legend_beside(
    ax: Axes, handles: Sequence[Any], labels: Sequence[str], title: str | None = None
) -> None:
    """Put a legend to the right of the axes, in as many columns as it needs."""
    n_columns = -(-len(labels) // LEGEND_ROWS)
    ax.legend(
        handles,
        [shorten(label) for label in labels],
        title=title,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        borderaxespad=0.0,
        frameon=False,
        ncols=n_columns,
        fontsize="small" if len(labels) > 10 else "medium",
        handletextpad=0.3,
        columnspacing=1.0,
    )


def shorten(label: object, length: int = 28) -> str:
    """Cut a long label, so that a legend does not crowd out the axes."""
    text = str(label)
    return text if len(text) <= length else text[: length - 1] + "…"


def colour_map(name: str, missing: str = MISSING) -> Colormap:
    """Return a colour map whose colour for missing values is grey."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=missing)
