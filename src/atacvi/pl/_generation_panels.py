"""The panels of the figure of generated cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi.pl._style import (
    bare,
    integer_axis,
    legend_beside,
    palette,
    shorten,
)
from atacvi.pl._values import as_categories
from atacvi.pl.imputation import imputation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from scipy import sparse

ORIGINS = ("real", "generated")
_COLOURS = ("#0072B2", "#E69F00")
_BINS = 30
_ANNOTATED = 10


def open_share(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """Share of the cells in which each peak is open."""
    return np.asarray((matrix > 0).mean(axis=0), dtype=float).ravel()


def _area(n_points: int) -> float:
    return float(np.clip(30_000 / max(n_points, 1), 2.0, 30.0))


def _bare_space(ax: Axes, name: str) -> None:
    # Components of an LSI are numbered from the second, the first follows depth.
    numbers = (2, 3) if name == "LSI" else (1, 2)
    ax.set(xlabel=f"{name} {numbers[0]}", ylabel=f"{name} {numbers[1]}", xticks=[], yticks=[])
    bare(ax)


def _legend(ax: Axes, names: Sequence[str], **place: Any) -> None:
    place |= {"frameon": False, "ncols": 2, "borderaxespad": 0.0, "handletextpad": 0.1}
    ax.legend(_handles(list(_COLOURS)), names, columnspacing=0.8, **place)


def _handles(colours: list[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], marker="o", ls="", ms=6, color=colour) for colour in colours]


def draw_origin(ax: Axes, points: NDArray[np.float32], n_real: int, name: str, seed: int) -> None:
    """Real against generated cells in two dimensions."""
    # Cells in random order: neither set may lie on top of the other.
    order = np.random.default_rng(seed).permutation(len(points))
    colours = np.array(_COLOURS, dtype=object)[(order >= n_real).astype(int)]
    ax.scatter(
        points[order, 0],
        points[order, 1],
        c=colours.tolist(),
        s=_area(len(points)),
        alpha=0.7,
        linewidths=0,
        rasterized=True,
    )
    numbers = (n_real, len(points) - n_real)
    names = [f"{o} ({n:,})" for o, n in zip(ORIGINS, numbers, strict=True)]
    # In place of a title: nowhere inside is sure to be free of cells.
    _legend(ax, names, loc="lower left", bbox_to_anchor=(-0.04, 1.02))
    _bare_space(ax, name)


def draw_types(
    ax: Axes, points: NDArray[np.float32], types: list[NDArray[np.str_]], name: str
) -> None:
    """Cells by type: real ones filled, generated ones as rings."""
    together = as_categories(pd.Series(np.concatenate(types)))
    colours = palette(len(together.categories))
    shown = np.array(colours, dtype=object)[together.codes]
    n_real = len(types[0])
    style: dict[str, Any] = {"s": _area(len(points)), "rasterized": True}
    ax.scatter(
        points[:n_real, 0],
        points[:n_real, 1],
        c=shown[:n_real].tolist(),
        alpha=0.35,
        linewidths=0,
        **style,
    )
    drawn = shown[n_real:].tolist()
    ax.scatter(
        points[n_real:, 0],
        points[n_real:, 1],
        facecolors="none",
        edgecolors=drawn,
        linewidths=0.8,
        **style,
    )
    legend_beside(ax, _handles(colours), [str(c) for c in together.categories])
    ax.set_title("types (rings: generated)", loc="left")
    _bare_space(ax, name)


def draw_depth(
    ax: Axes, first: sparse.csr_matrix, second: sparse.csr_matrix, distance: float
) -> None:
    """Histograms of the numbers of open peaks."""
    from matplotlib.ticker import LogLocator, NullLocator

    depths = [np.asarray((m > 0).sum(axis=1)).ravel() for m in (first, second)]
    low = max(min(depth.min() for depth in depths), 1)
    high = max(max(depth.max() for depth in depths), low + 1)
    # Depths of cells spread over powers of ten.
    bins = np.geomspace(low, high, _BINS + 1).tolist()
    for depth, colour in zip(depths, _COLOURS, strict=True):
        weights = np.full(depth.size, 1 / depth.size)
        clipped = np.maximum(depth, low)
        ax.hist(clipped, bins, weights=weights, color=colour, alpha=0.35)
        ax.hist(clipped, bins, weights=weights, color=colour, histtype="step", lw=1.2)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="open peaks per cell", ylabel="share of cells")
    ax.set_title(f"depth: KS {distance:.2f}", loc="left")
    ax.set_ylim(top=1.15 * ax.get_ylim()[1])
    _legend(ax, ORIGINS, loc="upper right", fontsize="small")
    bare(ax)


def draw_agreement(
    ax: Axes, truth: NDArray[np.float64], drawn: NDArray[np.float64], what: str, name: str
) -> None:
    """Generated against real values, with their correlation."""
    imputation(
        truth[None],
        drawn[None],
        log=False,
        xlabel=f"{name}, real",
        ylabel=f"{name}, generated",
        ax=ax,
    )
    ax.set_title(ax.get_title(loc="left").replace("values", what), loc="left")
    ax.figure.axes[-1].set_ylabel(what)  # the colour bar, which was added last


def draw_profiles(
    ax: Axes,
    matrices: tuple[sparse.csr_matrix, sparse.csr_matrix],
    types: list[NDArray[np.str_]],
) -> None:
    """Correlations of the types' centred profiles, real against generated."""
    names = [list(as_categories(pd.Series(part)).categories) for part in types]
    profiles = []
    for matrix, part, present in zip(matrices, types, names, strict=True):
        shares = np.stack([open_share(matrix[np.flatnonzero(part == name)]) for name in present])
        # What all types share would make every pair of them alike.
        profiles.append(_standardised(shares - shares.mean(axis=0)))
    correlation = profiles[0] @ profiles[1].T
    picture = ax.imshow(correlation, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
    n_rows, n_columns = correlation.shape
    integer_axis(ax.yaxis, n_rows, [shorten(name, 16) for name in names[0]])
    integer_axis(ax.xaxis, n_columns, [shorten(name, 16) for name in names[1]])
    if max(len(str(name)) for name in names[1]) > 3:
        ax.tick_params(axis="x", rotation=90)
    if max(n_rows, n_columns) <= _ANNOTATED:
        for (row, column), value in np.ndenumerate(correlation):
            colour = "white" if abs(value) > 0.6 else "black"
            ax.text(
                column, row, f"{value:z.1f}", ha="center", va="center", size="small", color=colour
            )
    ax.set(xlabel="generated type", ylabel="real type")
    ax.set_title("profiles of types, centred", loc="left")
    # Beside this very panel, not beside the legend above it
    place = ax.inset_axes((1.04, 0.1, 0.05, 0.8))
    ax.figure.colorbar(picture, cax=place, label="Pearson's r")


def _standardised(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre and scale each row, so that products of rows are correlations; constant rows are 0."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
