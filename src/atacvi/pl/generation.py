"""Generated cells beside real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from atacvi.metrics import coaccessibility, depth_ks, lsi_space
from atacvi.pl._coordinates import umap_coordinates
from atacvi.pl._style import (
    bare,
    integer_axis,
    legend_beside,
    palette,
    shorten,
)
from atacvi.pl._values import as_categories, cell_values
from atacvi.pl.imputation import imputation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

__all__ = ["generation"]

_ORIGINS = ("real", "generated")
_COLOURS = ("#0072B2", "#E69F00")
_UMAP_CELLS = 100  # fewer have too few neighbours for it
_PANEL = (4.3, 3.7)
_BINS = 30
_ANNOTATED = 10


def generation(
    real: AnnData | Any,
    generated: AnnData | Any,
    labels: str | ArrayLike | None = None,
    generated_labels: ArrayLike | None = None,
    *,
    basis: str | None = None,
    n_components: int = 30,
    n_coaccessible: int = 500,
    max_cells: int = 3000,
    random_state: int = 0,
) -> NDArray[np.object_]:
    """Draw generated beside real cells: space, depth, peak frequencies, co-accessibility, types.

    All cells are compared as open / closed. The space is the LSI of both sets together (components
    2 to ``n_components + 1``), so that neither is favoured.

    Parameters
    ----------
    real, generated
        Counts (cells, peaks) with the same peaks: AnnData (``X`` is used), arrays or sparse
        matrices. As many cells of the same types make the fairest picture.
    labels
        Type of each real cell, or the column of ``obs`` of both AnnData that holds it. Adds the
        cells by type, and the correlations of the types' profiles.
    generated_labels
        Type of each generated cell, unless `labels` names a column.
    basis
        ``"umap"`` of the LSI, or its first two components, ``"lsi"``; by default the UMAP of 100
        cells or more.
    n_components
        Components of the LSI.
    n_coaccessible
        Peaks whose pairs are compared, those of highest variance in the real cells.
    max_cells
        Cells of each set in the panels of the space; more are sampled.
    random_state
        Seed of sample, LSI and UMAP.

    Returns
    -------
    Axes: origin, depth, peak frequencies, co-accessibility; with labels also types and profiles.
    The profiles are the types' shares of open cells less their mean over types; 1 on the diagonal
    of real against generated types is the aim.

    Raises
    ------
    KeyError
        If `labels` names a column that is missing.
    ValueError
        If peaks or labels do not fit, values are no counts, or the basis is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.pl import generation
    >>> cells = np.random.default_rng(0).poisson(0.5, (200, 40))
    >>> generation(cells[:100], cells[100:], basis="lsi")[1].get_title(loc="left")
    'depth: KS 0.12'
    """
    import matplotlib.pyplot as plt

    if basis not in (None, "umap", "lsi"):
        msg = f"basis is {basis!r}; it must be 'umap', 'lsi' or None."
        raise ValueError(msg)
    types = _types(real, generated, labels, generated_labels)
    first, second = _matrix(real), _matrix(generated)
    # Everything that can be refused is computed before anything is drawn.
    distance = depth_ks(first, second)
    truth, drawn = coaccessibility(first, second, n_coaccessible)
    rows = [_sample(m.shape[0], max_cells, random_state) for m in (first, second)]
    points, axis_name = _space(first[rows[0]], second[rows[1]], basis, n_components, random_state)
    n_columns = 2 if types is None else 3
    figure, grid = plt.subplots(
        2, n_columns, figsize=(_PANEL[0] * n_columns, _PANEL[1] * 2), layout="constrained"
    )
    origin, frequency = grid[0, 0], grid[1, 0]
    depth, pairs = grid[0, 1], grid[1, 1]
    n_real = rows[0].size
    _draw_origin(origin, points, n_real, axis_name, random_state)
    _draw_depth(depth, first, second, distance)
    _draw_agreement(frequency, _share(first), _share(second), "peaks", "share of open cells")
    _draw_agreement(pairs, truth, drawn, "peak pairs", "co-accessibility")
    axes = [origin, depth, frequency, pairs]
    if types is not None:
        _draw_types(grid[0, 2], points, [t[r] for t, r in zip(types, rows, strict=True)], axis_name)
        _draw_profiles(grid[1, 2], (first, second), types)
        axes += [grid[0, 2], grid[1, 2]]
    return np.array(axes, dtype=object)


def _matrix(cells: AnnData | Any) -> sparse.csr_matrix:
    return sparse.csr_matrix(cells.X if hasattr(cells, "obs") else cells)


def _types(
    real: Any, generated: Any, labels: str | ArrayLike | None, generated_labels: ArrayLike | None
) -> list[NDArray[np.str_]] | None:
    """Types of real and of generated cells as text, or None."""
    if labels is None and generated_labels is None:
        return None
    if isinstance(labels, str):
        if not (hasattr(real, "obs") and hasattr(generated, "obs")):
            msg = f"labels={labels!r} names a column of obs; pass AnnData, or one label a cell."
            raise ValueError(msg)
        if generated_labels is None:
            generated_labels = cell_values(generated, labels)
        labels = cell_values(real, labels)
    if labels is None or generated_labels is None:
        msg = "Only one of `labels` and `generated_labels` was given; give both or neither."
        raise ValueError(msg)
    both = [pd.Series(np.asarray(part).ravel()) for part in (labels, generated_labels)]
    for values, cells, name in zip(both, (real, generated), _ORIGINS, strict=True):
        if len(values) != cells.shape[0] or values.isna().any():
            found = f"{int(values.notna().sum())} known labels for {cells.shape[0]} {name} cells"
            msg = f"There are {found}; pass one label a cell and leave out cells without."
            raise ValueError(msg)
    return [values.astype(str).to_numpy(dtype=np.str_) for values in both]


def _sample(n_cells: int, max_cells: int, seed: int) -> NDArray[np.int64]:
    if n_cells <= max_cells:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, max_cells, replace=False))


def _space(
    first: sparse.csr_matrix,
    second: sparse.csr_matrix,
    basis: str | None,
    n_components: int,
    seed: int,
) -> tuple[NDArray[np.float32], str]:
    together = sparse.vstack([first, second])
    space = lsi_space(together, n_components=max(n_components, 2), random_state=seed)[0]
    if basis == "lsi" or (basis is None and len(space) < _UMAP_CELLS):
        return space[:, :2], "LSI"
    import anndata

    cells = anndata.AnnData(obsm={"X_lsi": space}, shape=(len(space), 0))
    return umap_coordinates(cells, "X_lsi", 15, seed), "UMAP"


def _share(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
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


def _draw_origin(ax: Axes, points: NDArray[np.float32], n_real: int, name: str, seed: int) -> None:
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
    names = [f"{o} ({n:,})" for o, n in zip(_ORIGINS, numbers, strict=True)]
    # In place of a title: nowhere inside is sure to be free of cells.
    _legend(ax, names, loc="lower left", bbox_to_anchor=(-0.04, 1.02))
    _bare_space(ax, name)


def _draw_types(
    ax: Axes, points: NDArray[np.float32], types: list[NDArray[np.str_]], name: str
) -> None:
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


def _draw_depth(
    ax: Axes, first: sparse.csr_matrix, second: sparse.csr_matrix, distance: float
) -> None:
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
    _legend(ax, _ORIGINS, loc="upper right", fontsize="small")
    bare(ax)


def _draw_agreement(
    ax: Axes, truth: NDArray[np.float64], drawn: NDArray[np.float64], what: str, name: str
) -> None:
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


def _draw_profiles(
    ax: Axes,
    matrices: tuple[sparse.csr_matrix, sparse.csr_matrix],
    types: list[NDArray[np.str_]],
) -> None:
    names = [list(as_categories(pd.Series(part)).categories) for part in types]
    profiles = []
    for matrix, part, present in zip(matrices, types, names, strict=True):
        shares = np.stack([_share(matrix[np.flatnonzero(part == name)]) for name in present])
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
                column, row, f"{value:.1f}", ha="center", va="center", size="small", color=colour
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
