"""A stretch of the genome: its axis, and gene models under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.pl._style import TEXT

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MAX_ROWS = 6
# Width of a letter and gap between labels, as shares of the axis
_LETTER, _GAP = 0.013, 0.02
_GENE = "#4d4d4d"


class Locus(NamedTuple):
    """Chromosome, start and end (0-based, half-open)."""

    chrom: str
    start: int
    end: int


def read_locus(region: str) -> Locus:
    """Read ``chr1:1,000-2,000``."""
    from atacvi.regions import parse_regions

    table = parse_regions([str(region).replace(",", "")])
    return Locus(
        str(table["chrom"].iloc[0]), int(table["start"].iloc[0]), int(table["end"].iloc[0])
    )


def inside(table: pd.DataFrame, locus: Locus) -> pd.DataFrame:
    """Keep the regions that overlap the locus."""
    bare = {str(c).removeprefix("chr") for c in (locus.chrom,)}
    same = table["chrom"].astype(str).str.removeprefix("chr").isin(bare)
    return table[same & (table["start"] < locus.end) & (table["end"] > locus.start)]


def read_genes(genes: pd.DataFrame | None) -> pd.DataFrame | None:
    """Give an annotation its name column as index, and check the columns."""
    if genes is None:
        return None
    table = genes.set_index("gene") if "gene" in genes.columns else genes
    missing = {"chrom", "start", "end", "strand"} - set(table.columns)
    if missing:
        msg = f"genes lacks the columns {sorted(missing)}; it has {list(map(str, table.columns))}"
        raise KeyError(msg)
    return table


def genome_axis(ax: Axes, locus: Locus) -> None:
    """Scale the x axis to the locus and label it in Mb or kb."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_xlim(locus.start, locus.end)
    width = locus.end - locus.start
    unit, name = (1e6, "Mb") if width > 20_000 else (1e3, "kb")
    digits = max(0, int(np.ceil(np.log10(unit / max(1.0, width / 5)))))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit:,.{digits}f}"))
    ax.set_xlabel(f"{locus.chrom} ({name})")


def draw_genes(ax: Axes, genes: pd.DataFrame, locus: Locus, highlight: set[str]) -> None:
    """Draw genes as lines with arrows at the TSS, packed into rows so that names do not collide."""
    table = inside(genes, locus).sort_values("start")
    width = locus.end - locus.start
    ends: list[float] = []
    for name, gene in table.iterrows():
        low, high = max(gene["start"], locus.start), min(gene["end"], locus.end)
        needed = low + max(high - low, _LETTER * len(str(name)) * width)
        row = next((i for i, end in enumerate(ends) if end + _GAP * width < low), len(ends))
        if row >= _MAX_ROWS:
            continue
        ends[row : row + 1] = [needed]
        colour = "#D55E00" if str(name) in highlight else _GENE
        ax.plot([low, high], [-row, -row], color=colour, lw=3, solid_capstyle="butt")
        forward = gene["strand"] != "-"
        tss = gene["start"] if forward else gene["end"]
        if locus.start <= tss <= locus.end:
            reach = (0.015 if forward else -0.015) * width
            ax.annotate(
                "",
                (tss + reach, -row + 0.28),
                (tss, -row + 0.28),
                arrowprops={
                    "arrowstyle": "->",
                    "color": colour,
                    "lw": 1.0,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
                annotation_clip=True,
            )
            ax.plot([tss, tss], [-row, -row + 0.28], color=colour, lw=1.0)
        ax.text(
            low,
            -row - 0.2,
            str(name),
            ha="left",
            va="top",
            fontsize=7,
            style="italic",
            color=TEXT,
            clip_on=True,
        )
    ax.set_ylim(-max(1, len(ends)) + 0.2, 0.6)
    ax.set_yticks([])
    ax.spines[["left", "right", "top"]].set_visible(False)


def n_gene_rows(genes: pd.DataFrame | None, locus: Locus) -> int:
    """How many genes might need a row, at most the largest number of rows."""
    return 0 if genes is None else min(_MAX_ROWS, len(inside(genes, locus)))
