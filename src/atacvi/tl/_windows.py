"""Where genes start, and which peaks lie near them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from atacvi.data._messages import examples
from atacvi.regions import match_chromosome_names, parse_regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Longer than any chromosome: positions of all chromosomes on one axis.
_FAR = np.int64(1) << 40


class Windows(NamedTuple):
    """Pairs of a gene and a peak in its window, sorted by gene, then by position.

    Parameters
    ----------
    gene, peak
        Positions of the pairs, each of shape (pairs,).
    distance
        Centre of the peak minus TSS in base pairs, negative upstream of a gene on the plus strand.
    """

    gene: NDArray[np.int64]
    peak: NDArray[np.int64]
    distance: NDArray[np.int64]


def gene_table(annotation: pd.DataFrame, genes: pd.Index, what: str) -> pd.DataFrame:
    """Give chromosome, body, TSS and strand of the genes that the annotation knows.

    Parameters
    ----------
    annotation
        One row a gene, its name in the index or in the column ``gene``; ``chrom`` and either
        ``tss`` or ``start`` and ``end`` with ``strand``. Of several rows of a gene the first
        counts.
    genes
        Names wanted.
    what
        What the annotation is called in messages.

    Returns
    -------
    Columns ``chrom``, ``start``, ``end``, ``tss``, ``strand``; the known genes in the order wanted.

    Raises
    ------
    KeyError
        If columns are missing.
    ValueError
        If no gene is known or coordinates cannot be read.
    """
    table = annotation.set_index("gene") if "gene" in annotation.columns else annotation
    table = table[~table.index.duplicated()]
    known = genes[genes.isin(table.index)]
    if not len(known):
        msg = (
            f"none of the {len(genes)} genes ({examples(genes[:5], len(genes))}) is in {what}, "
            f"whose names look like {examples(table.index[:5], len(table))}; use the same names"
        )
        raise ValueError(msg)
    table = table.loc[known]
    if "tss" not in table and not {"start", "end", "strand"} <= set(table.columns):
        if not {"start", "end"} <= set(table.columns) and "interval" not in table:
            msg = (
                f"{what} has the columns {list(map(str, table.columns))}; the TSS of a gene is "
                "read from 'chrom' with 'tss', or with 'start', 'end' and 'strand'"
            )
            raise KeyError(msg)
    if "tss" in table and not {"start", "end"} <= set(table.columns):
        table = table.assign(start=table["tss"], end=table["tss"] + 1)
    found = parse_regions(table)
    strand = table["strand"] if "strand" in table else pd.Series("+", index=table.index)
    forward = (strand.astype(str) != "-").to_numpy()
    if "tss" in table:
        tss = table["tss"].to_numpy(dtype=np.int64)
    else:
        tss = np.where(forward, found["start"], found["end"] - 1)
    return found.assign(tss=tss, strand=np.where(forward, "+", "-").astype(object))


def windows(genes: pd.DataFrame, peaks: pd.DataFrame, width: int) -> Windows:
    """Find the peaks whose centre lies within `width` base pairs of a TSS, on either side."""
    peaks = match_chromosome_names(peaks, genes)
    codes = pd.factorize(
        np.concatenate([np.asarray(list(t["chrom"]), dtype=object) for t in (genes, peaks)])
    )[0].astype(np.int64)
    gene_chrom, peak_chrom = np.split(codes, [len(genes)])
    middle = (peaks["start"].to_numpy(np.int64) + peaks["end"].to_numpy(np.int64)) // 2
    tss = gene_chrom * _FAR + genes["tss"].to_numpy(np.int64)
    centre = peak_chrom * _FAR + middle
    order = np.argsort(centre, kind="stable")
    low = np.searchsorted(centre[order], tss - width, side="left")
    high = np.searchsorted(centre[order], tss + width, side="right")
    count = high - low
    gene = np.repeat(np.arange(len(genes), dtype=np.int64), count)
    first = np.repeat(low - (np.cumsum(count) - count), count)
    peak = order[first + np.arange(count.sum())].astype(np.int64)
    return Windows(gene, peak, centre[peak] - tss[gene])
