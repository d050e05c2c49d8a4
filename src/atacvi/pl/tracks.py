"""Accessibility of groups of cells along a locus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from atacvi.pl._genome import (
    Locus,
    draw_genes,
    genome_axis,
    inside,
    n_gene_rows,
    read_genes,
    read_locus,
)
from atacvi.pl._style import palette, shorten
from atacvi.pl._values import as_categories, cell_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["tracks"]

_GETTER = "get_normalized_accessibility"
_BATCH = 512


def tracks(
    adata: AnnData,
    region: str,
    groupby: str,
    *,
    values: Any = None,
    genes: pd.DataFrame | None = None,
    groups: list[str] | None = None,
    normalize: bool = True,
    axes: list[Axes] | None = None,
) -> list[Axes]:
    """Draw the mean accessibility of each group over a locus, one track a group.

    Parameters
    ----------
    adata
        Accessibility (cells, regions) with regions as names or in ``var``.
    region
        Locus, such as ``"chr1:1,000,000-1,200,000"``.
    groupby
        Column of ``obs``.
    values
        Layer, array or sparse matrix like ``X``, or a fitted model whose imputed accessibility is
        drawn; of a model only the regions of the locus are asked for.
    genes
        Annotation drawn below: ``chrom``, ``start``, ``end``, ``strand``, named by the index or the
        column ``gene``.
    groups
        Groups to draw, in this order; all by default.
    normalize
        Divide stored counts by the depth of the cell, so that tracks show counts per 10,000.
    axes
        One Axes a group, and one more where genes are given; by default those of a new figure.

    Returns
    -------
    The Axes, from top to bottom.

    Raises
    ------
    KeyError
        If the column, layer or a group is unknown.
    ValueError
        If the region cannot be read or holds no peak, or the number of Axes does not fit.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.pl import tracks
    >>> adata = anndata.AnnData(np.ones((4, 2)))
    >>> adata.var_names = ["chr1:100-200", "chr1:500-600"]
    >>> adata.obs["type"] = ["a", "a", "b", "b"]
    >>> len(tracks(adata, "chr1:0-1000", "type"))
    2
    """
    from atacvi.regions import parse_regions

    locus, annotation = read_locus(region), read_genes(genes)
    category = as_categories(cell_values(adata, groupby))
    names = [str(name) for name in category.categories]
    wanted = names if groups is None else [str(name) for name in groups]
    unknown = set(wanted) - set(names)
    if unknown:
        msg = f"groups {sorted(unknown)} are not in obs[{groupby!r}], which holds {names}"
        raise KeyError(msg)
    regions = parse_regions(adata.var).reset_index(drop=True)
    shown = inside(regions, locus)
    if shown.empty:
        msg = f"no region of the data lies in {region}"
        raise ValueError(msg)
    columns = shown.index.to_numpy()
    means = _means(adata, columns, values, category.codes, len(names), normalize)
    rows = n_gene_rows(annotation, locus)
    if axes is None:
        axes = _new(len(wanted), rows)
    if len(axes) != len(wanted) + (annotation is not None):
        msg = f"{len(axes)} Axes for {len(wanted)} groups{' and genes' if rows else ''}"
        raise ValueError(msg)
    colours = palette(len(names))
    top = float(means[[names.index(name) for name in wanted]].max()) or 1.0
    for ax, name in zip(axes, wanted, strict=False):
        k = names.index(name)
        _track(ax, shown, means[k], colours[k], locus)
        ax.set_ylim(0, 1.08 * top)
        ax.set_yticks([0, float(f"{top:.1g}")])
        ax.set_ylabel(shorten(name, 18), rotation=0, ha="right", va="center")
    if annotation is not None:
        draw_genes(axes[-1], annotation, locus, set())
        axes[-1].set_xlim(locus.start, locus.end)
    genome_axis(axes[-1], locus)
    for ax in axes[:-1]:
        ax.tick_params(axis="x", labelbottom=False, length=0)
        ax.set_xlim(locus.start, locus.end)
    unit = "imputed" if hasattr(values, _GETTER) else "counts per 10,000" if normalize else "mean"
    axes[0].set_title(f"accessibility ({unit})", loc="left", fontsize="medium")
    return list(axes)


def _means(
    adata: AnnData,
    columns: NDArray[np.int64],
    values: Any,
    codes: NDArray[np.int8],
    n_groups: int,
    normalize: bool,
) -> NDArray[np.float64]:
    """Mean of each region in each group, (groups, regions)."""
    known = np.flatnonzero(codes >= 0)
    counts = np.maximum(np.bincount(codes[known], minlength=n_groups), 1)
    member = sparse.csr_matrix(
        (1.0 / counts[codes[known]], (codes[known], known)), (n_groups, len(codes))
    )
    if hasattr(values, _GETTER):
        wanted = adata.var_names[columns].tolist()
        total = np.zeros((n_groups, len(columns)))
        for start in range(0, adata.n_obs, _BATCH):
            cells = np.arange(start, min(start + _BATCH, adata.n_obs))
            block = values.get_normalized_accessibility(
                indices=cells, region_list=wanted, return_numpy=True
            )
            total += member[:, cells] @ np.asarray(block, dtype=float)
        return total
    stored = values is None or isinstance(values, str)
    matrix = values
    if stored:
        from atacvi.data import get_matrix

        matrix = get_matrix(adata, values, "adata")
    if stored and normalize:
        depth = np.maximum(np.asarray(matrix.sum(axis=1), dtype=float).ravel(), 1.0)
        member = member @ sparse.diags(1e4 / depth)
    part = matrix[:, columns]
    means = member @ (part if sparse.issparse(part) else np.asarray(part, dtype=float))
    return np.asarray(means.toarray() if sparse.issparse(means) else means, dtype=float)


def _new(n_groups: int, gene_rows: int) -> list[Axes]:
    import matplotlib.pyplot as plt

    heights = [1.0] * n_groups + ([0.5 + 0.5 * gene_rows] if gene_rows else [])
    _, axes = plt.subplots(
        len(heights),
        1,
        figsize=(7.0, 0.55 * sum(heights) + 0.9),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    return list(axes[:, 0])


def _track(
    ax: Axes, regions: pd.DataFrame, height: NDArray[np.float64], colour: str, locus: Locus
) -> None:
    """Bars of the regions; those narrower than a line are widened so that they can be seen."""
    least = 0.004 * (locus.end - locus.start)
    width = np.maximum((regions["end"] - regions["start"]).to_numpy(dtype=float), least)
    centre = ((regions["start"] + regions["end"]) / 2).to_numpy()
    ax.bar(centre, height, width=width, color=colour, linewidth=0)
    ax.axhline(0, color=colour, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", labelsize="small")
