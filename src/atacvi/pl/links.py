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
    from numpy.typing import NDArray

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
    from atacvi.regions import parse_regions

    locus, annotation = read_locus(region), read_genes(genes)
    table = _checked(table, gene, max_fdr, min_probability)
    peaks = inside(parse_regions(pd.Index(table["peak"]).unique()), locus)
    shown = table[table["peak"].isin(peaks.index)]
    called, pale = _called(shown, max_fdr, min_probability)
    ax = new_axes(ax, (7.0, 2.7 + 0.28 * n_gene_rows(annotation, locus)))
    centre = ((peaks["start"] + peaks["end"]) / 2).loc[shown["peak"]].to_numpy()
    height = 1.15 * _draw_arcs(ax, centre, shown, called)
    for peak in peaks.itertuples():
        ax.fill_between([peak.start, peak.end], -0.045 * height, 0, color=_PEAK, lw=0.8)
    bare(ax)
    genome_axis(ax, locus)
    highlight = set(shown["gene"][called]) if gene is None else {gene}
    _genes_below(ax, annotation, locus, highlight, height)
    ax.set_ylabel("score", y=0.7)
    _legend(ax, pale)
    return ax


def _checked(
    table: pd.DataFrame, gene: str | None, max_fdr: float | None, min_probability: float | None
) -> pd.DataFrame:
    """Return the links of the gene, or all, if the table holds what is to be drawn."""
    needed = {"gene", "peak", "score", "distance"}
    if min_probability is not None:
        needed.add("probability")
    elif max_fdr is not None:
        needed.add("fdr")
    missing = needed - set(table.columns)
    if missing:
        msg = f"the table of links lacks {sorted(missing)}"
        raise KeyError(msg)
    if gene is None:
        return table
    table = table[table["gene"] == gene]
    if table.empty:
        msg = f"gene {gene!r} has no link in the table"
        raise KeyError(msg)
    return table


def _called(
    shown: pd.DataFrame, max_fdr: float | None, min_probability: float | None
) -> tuple[NDArray[np.bool_], str]:
    """Return which links stand out, and what the others are called."""
    if min_probability is not None:
        called = (shown["probability"] >= min_probability).to_numpy()
        return called, f"probability < {min_probability:g}"
    if max_fdr is not None:
        return (shown["fdr"] <= max_fdr).to_numpy(), f"FDR > {max_fdr:g}"
    return np.ones(len(shown), dtype=bool), ""


def _draw_arcs(
    ax: Axes, centre: NDArray[np.float64], shown: pd.DataFrame, called: NDArray[np.bool_]
) -> float:
    """Draw a parabola from each peak to its TSS, and return the height of the highest."""
    tss = centre - shown["distance"].to_numpy()
    score = shown["score"].to_numpy(dtype=float)
    x = np.linspace(0, 1, 40)
    for k in np.argsort(called, kind="stable"):
        ax.plot(
            centre[k] + (tss[k] - centre[k]) * x,
            4 * x * (1 - x) * abs(score[k]),
            color=_POSITIVE if score[k] >= 0 else _NEGATIVE,
            lw=1.6 if called[k] else 0.6,
            alpha=0.9 if called[k] else 0.2,
            zorder=3 if called[k] else 2,
        )
    return float(np.abs(score).max(initial=0.0)) or 1.0


def _legend(ax: Axes, pale: str) -> None:
    """Name colours and pale links above the arcs."""
    from matplotlib.lines import Line2D

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
