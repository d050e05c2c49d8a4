"""Arcs from peaks to the genes they are linked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atacvi.pl._genome import (
    Locus,
    draw_genes,
    genome_axis,
    inside,
    n_gene_rows,
    read_genes,
    read_locus,
)
from atacvi.pl._style import TEXT, bare, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["links"]

_POSITIVE, _NEGATIVE = "#0072B2", "#D55E00"
_PEAK = "#333333"


def links(
    table: pd.DataFrame,
    region: str,
    genes: pd.DataFrame,
    *,
    gene: str | None = None,
    max_fdr: float | None = 0.05,
    min_probability: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw links over a locus as arcs from each peak to the TSS, as high as their score.

    Parameters
    ----------
    table
        Links of :func:`atacvi.tl.link_peaks_to_genes`.
    region
        Locus, such as ``"chr1:1,000,000-1,200,000"``.
    genes
        Annotation with ``chrom``, ``start``, ``end`` and ``strand``, named by the index or the
        column ``gene``.
    gene
        Draw the links of this gene alone.
    max_fdr
        Links up to this false discovery rate stand out, others are pale; ``None`` draws all alike.
    min_probability
        Let links of at least this probability stand out instead.
    ax
        Axes to draw into.

    Returns
    -------
    The Axes; genes are drawn below its zero line.

    Raises
    ------
    KeyError
        If columns are missing, or the gene has no link in the table.
    ValueError
        If the region cannot be read.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.pl import links
    >>> genes = pd.DataFrame(
    ...     {"chrom": ["chr1"], "start": [500], "end": [900], "strand": ["+"]}, index=["A"]
    ... )
    >>> table = pd.DataFrame(
    ...     {
    ...         "gene": ["A"],
    ...         "peak": ["chr1:100-200"],
    ...         "score": [0.4],
    ...         "distance": [-350],
    ...         "fdr": 0.01,
    ...     }
    ... )
    >>> links(table, "chr1:1-1000", genes).get_ylabel()
    'score'
    """
    from matplotlib.lines import Line2D

    from atacvi.regions import parse_regions

    locus, annotation = read_locus(region), read_genes(genes)
    needed = {"gene", "peak", "score", "distance"}
    if min_probability is not None:
        needed.add("probability")
    elif max_fdr is not None:
        needed.add("fdr")
    missing = needed - set(table.columns)
    if missing:
        msg = f"the table of links lacks {sorted(missing)}"
        raise KeyError(msg)
    if gene is not None:
        table = table[table["gene"] == gene]
        if table.empty:
            msg = f"gene {gene!r} has no link in the table"
            raise KeyError(msg)
    peaks = parse_regions(pd.Index(table["peak"]).unique())
    peaks = inside(peaks, locus)
    shown = table[table["peak"].isin(peaks.index)]
    centre = ((peaks["start"] + peaks["end"]) / 2).loc[shown["peak"]].to_numpy()
    tss = centre - shown["distance"].to_numpy()
    called, pale = np.ones(len(shown), dtype=bool), ""
    if min_probability is not None:
        called = (shown["probability"] >= min_probability).to_numpy()
        pale = f"probability < {min_probability:g}"
    elif max_fdr is not None:
        called, pale = (shown["fdr"] <= max_fdr).to_numpy(), f"FDR > {max_fdr:g}"
    ax = new_axes(ax, (7.0, 2.7 + 0.28 * n_gene_rows(annotation, locus)))
    score = shown["score"].to_numpy(dtype=float)
    top = (
        float(np.abs(score[called]).max(initial=0.0))
        or float(np.abs(score).max(initial=0.0))
        or 1.0
    )
    for k in np.argsort(called, kind="stable"):
        colour = _POSITIVE if score[k] >= 0 else _NEGATIVE
        x = np.linspace(0, 1, 40)
        ax.plot(
            centre[k] + (tss[k] - centre[k]) * x,
            4 * x * (1 - x) * abs(score[k]),
            color=colour,
            lw=1.6 if called[k] else 0.6,
            alpha=0.9 if called[k] else 0.2,
            zorder=3 if called[k] else 2,
        )
    height = 1.15 * max(top, float(np.abs(score).max(initial=0.0)))
    for peak in peaks.itertuples():
        ax.fill_between([peak.start, peak.end], -0.045 * height, 0, color=_PEAK, lw=0.8)
    bare(ax)
    genome_axis(ax, locus)
    _genes_below(
        ax, annotation, locus, set(shown["gene"][called]) if gene is None else {gene}, height
    )
    ax.set_ylabel("score", y=0.7)
    handles = [Line2D([], [], color=c, lw=1.6) for c in (_POSITIVE, _NEGATIVE)]
    names = ["positive", "negative"]
    if pale:
        handles.append(Line2D([], [], color=TEXT, lw=0.6, alpha=0.4))
        names.append(pale)
    ax.legend(
        handles,
        names,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize="small",
        borderaxespad=0.1,
        handlelength=1.4,
    )
    return ax


def _genes_below(
    ax: Axes, genes: pd.DataFrame, locus: Locus, highlight: set[str], height: float
) -> None:
    """Make room below zero, and draw the genes there in a strip that follows the genome's axis."""
    share = 0.15 + 0.06 * n_gene_rows(genes, locus)
    low = -height * share / (1 - share)
    ax.set_ylim(low, height)
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= height])
    ax.spines["left"].set_bounds(0, height)
    ax.axhline(0, color=TEXT, lw=0.6)
    strip = ax.inset_axes((0.0, 0.0, 1.0, share * 0.8))
    draw_genes(strip, genes, locus, highlight)
    strip.set_xlim(locus.start, locus.end)
    strip.axis("off")
