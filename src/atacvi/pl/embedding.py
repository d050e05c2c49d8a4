"""Cells in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atacvi._constants import OBSM_MULTIVIEW
from atacvi.pl._coordinates import get_embedding, umap_coordinates
from atacvi.pl._style import (
    CMAP,
    MISSING,
    bare,
    colour_map,
    legend_beside,
    new_axes,
    palette,
    shorten,
)
from atacvi.pl._values import as_categories, cell_values, is_categorical

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

__all__ = ["latent_umap"]

_PANEL = 3.6  # inches; the width of the legend comes on top
_LEGEND, _BAR = 1.4, 0.8  # room for what stands beside a panel


def latent_umap(
    data: AnnData | MuData,
    color: str | Sequence[str] | None = None,
    use_rep: str = OBSM_MULTIVIEW,
    *,
    basis: str | None = None,
    size: float | None = None,
    cmap: str = CMAP,
    legend: str = "beside",
    n_neighbors: int = 15,
    random_state: int = 0,
    n_columns: int = 3,
    ax: Axes | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw the UMAP of an embedding, coloured by columns of ``obs`` or by features.

    Parameters
    ----------
    data
        Object whose ``obsm`` holds the embedding.
    color
        Column of ``obs`` (of a MuData also of its modalities) or name of a feature (values of
        ``X``); several give one panel each; ``None`` draws all cells alike. Numbers get a
        continuous scale, everything else categories. Missing values are grey.
    use_rep
        Embedding in ``obsm``, shape (cells, dimensions). Its UMAP is kept in
        ``obsm[use_rep + "_umap"]`` and is computed when it is lacking or older than the embedding.
    basis
        Coordinates in ``obsm`` to draw in place of a UMAP; its first two columns are used.
    size
        Area of a point in square points; by default it falls with the number of cells.
    cmap
        Colour map of continuous values.
    legend
        ``"beside"`` the axes, ``"on data"`` (names at the medians of the groups) or ``"none"``.
    n_neighbors, random_state
        Neighbours and seed of the UMAP (McInnes et al. 2018, arXiv:1802.03426).
    n_columns
        Panels in a row, for several colours.
    ax
        Axes to draw into; for one colour only.

    Returns
    -------
    Axes, or an array of them if `color` is a list.

    Raises
    ------
    KeyError
        If the embedding or a colour is missing.
    ValueError
        If the embedding is not finite, or `ax` is given with several colours.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.pl import latent_umap
    >>> cells = anndata.AnnData(np.ones((30, 2)))
    >>> cells.obsm["X_multiview"] = np.random.default_rng(0).normal(size=(30, 2))
    >>> cells.obs["batch"] = ["a", "b"] * 15
    >>> latent_umap(cells, color="batch").get_title(loc="left")
    'batch'
    """
    if legend not in ("beside", "on data", "none"):
        msg = f"legend is {legend!r}; it must be 'beside', 'on data' or 'none'."
        raise ValueError(msg)
    several = color is not None and not isinstance(color, str)
    keys: list[str | None] = [color] if not several else list(color or [])  # type: ignore[list-item]
    if several and (ax is not None or not keys):
        msg = f"color is a list of {len(keys)}; give at least one, and no `ax` with a list."
        raise ValueError(msg)
    values = [None if key is None else cell_values(data, key) for key in keys]
    if basis is None:
        points = umap_coordinates(data, use_rep, n_neighbors, random_state)
    else:
        points = get_embedding(data, basis)[:, :2]
    grouped = legend == "beside" and any(v is not None and is_categorical(v) for v in values)
    width = _PANEL + (_LEGEND if grouped else _BAR)
    axes = (
        _panels(len(keys), n_columns, width)
        if several
        else np.array([new_axes(ax, (width, _PANEL))])
    )
    area = size or float(np.clip(30_000 / max(len(points), 1), 1.5, 30.0))
    # Cells in random order: the last category of a file must not lie on top of the others.
    order = np.random.default_rng(random_state).permutation(len(points))
    for panel, key, column in zip(axes, keys, values, strict=True):
        _draw(panel, points, column, order, area, cmap, legend)
        panel.set_title("" if key is None else shorten(key, 40), loc="left")
    return axes if several else axes[0]


def _panels(n_panels: int, n_columns: int, width: float) -> NDArray[np.object_]:
    import matplotlib.pyplot as plt

    n_columns = max(1, min(n_panels, n_columns))
    n_rows = -(-n_panels // n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(width * n_columns, _PANEL * n_rows),
        squeeze=False,
        layout="constrained",
    )
    for unused in grid.ravel()[n_panels:]:
        figure.delaxes(unused)
    return grid.ravel()[:n_panels]


def _draw(
    ax: Axes,
    points: NDArray[np.float32],
    values: pd.Series | None,
    order: NDArray[np.int64],
    area: float,
    cmap: str,
    legend: str,
) -> None:
    # Points are drawn as pixels in vector formats: 10,000 paths make a file no viewer likes.
    style: dict[str, Any] = {"s": area, "linewidths": 0, "rasterized": True}
    if values is None:
        ax.scatter(points[:, 0], points[:, 1], color="#56606b", **style)
    elif is_categorical(values):
        _draw_categories(ax, points, as_categories(values), order, legend, style)
    else:
        _draw_numbers(ax, points, values.to_numpy(dtype=float, na_value=np.nan), cmap, style)
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    ax.set_box_aspect(1)
    bare(ax)


def _draw_categories(
    ax: Axes,
    points: NDArray[np.float32],
    values: pd.Categorical,
    order: NDArray[np.int64],
    legend: str,
    style: dict,
) -> None:
    from matplotlib.lines import Line2D

    names = [str(name) for name in values.categories]
    colours = [*palette(len(names)), MISSING]  # code -1, missing, is the last
    shown = np.array(colours, dtype=object)[np.asarray(values.codes, dtype=int)[order]]
    ax.scatter(points[order, 0], points[order, 1], c=shown.tolist(), **style)
    if (values.codes < 0).any():
        names = [*names, "missing"]
    if legend == "beside":
        marks = [
            Line2D([], [], marker="o", ls="", ms=6, color=colour)
            for colour in colours[: len(names) - 1] + [colours[len(names) - 1]]
        ]
        legend_beside(ax, marks, names)
    elif legend == "on data":
        _name_groups(ax, points, values)


def _name_groups(ax: Axes, points: NDArray[np.float32], values: pd.Categorical) -> None:
    from matplotlib import patheffects

    centres = np.stack(
        [np.median(points[values.codes == code], axis=0) for code in range(len(values.categories))]
    )
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    places = _spread((centres - low) / span) * span + low
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    for (x, y), name in zip(places, values.categories, strict=True):
        ax.text(x, y, shorten(name, 16), ha="center", va="center", size="small", path_effects=halo)


def _spread(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Push names apart vertically until none lies on another (axes are 1 wide and high)."""
    width, height = 0.16, 0.055
    places = centres.copy()
    for _ in range(100):
        gap = places[:, None] - places[None]
        # Of two names at one height the later one goes up.
        sign = np.where(gap[..., 1] == 0, np.sign(np.subtract.outer(*[np.arange(len(gap))] * 2)), 0)
        sign = sign + np.sign(gap[..., 1])
        close = (np.abs(gap[..., 0]) < width) & (np.abs(gap[..., 1]) < height - 1e-3)
        np.fill_diagonal(close, val=False)
        if not close.any():
            break
        push = np.where(close, sign * (height - np.abs(gap[..., 1])), 0.0)
        places[:, 1] += 0.4 * push.sum(axis=1)
    return places


def _draw_numbers(
    ax: Axes, points: NDArray[np.float32], values: NDArray[np.float64], cmap: str, style: dict
) -> None:
    known = np.isfinite(values)
    ax.scatter(points[~known, 0], points[~known, 1], color=MISSING, **style)
    # High values on top: of a sparse feature the few positive cells are what one looks for.
    order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
    limits: dict[str, Any] = {}
    if known.any():
        # A few extreme cells must not flatten the scale of all others.
        low, high = np.quantile(values[known], [0.0, 0.995])
        limits = {"vmin": low, "vmax": high if high > low else values[known].max()}
    dots = ax.scatter(
        points[order, 0],
        points[order, 1],
        c=values[order],
        cmap=colour_map(cmap),
        **limits,
        **style,
    )
    clipped = bool(limits) and limits["vmax"] < values[known].max()
    # Beside this very panel, wherever the layout puts the panels of a grid
    place = ax.inset_axes((1.03, 0.2, 0.045, 0.6))
    bar = ax.figure.colorbar(dots, cax=place, extend="max" if clipped else "neither")
    bar.outline.set_visible(False)
