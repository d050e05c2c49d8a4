"""Genome order and blocks of neighbouring regions."""

from __future__ import annotations

import heapq
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["genome_blocks", "sort_order"]

_PARTS = re.compile(r"(\d+)")
# after the numbered chromosomes, in this order; anything else (scaffolds) follows
_LETTERS = {"x": 0, "y": 1, "m": 2, "mt": 2}


def sort_order(regions: pd.DataFrame) -> np.ndarray:
    """Return the order of regions along the genome.

    Chromosomes are ordered as people do: 1, 2, ..., 10, ..., X, Y, M, then scaffolds by name.

    Parameters
    ----------
    regions
        Table with ``chrom``, ``start`` and ``end``.

    Returns
    -------
    Positions of shape (regions,): ``regions.iloc[sort_order(regions)]`` is sorted. Equal regions
    keep their order.

    Examples
    --------
    >>> from atacvi.regions import parse_regions, sort_order
    >>> sort_order(parse_regions(["chr10:1-5", "chr2:7-9", "chr2:1-9", "chrX:1-2"])).tolist()
    [2, 1, 0, 3]
    """
    rank = _chromosome_rank(regions["chrom"].tolist())
    start = regions["start"].to_numpy(dtype=np.int64)
    end = regions["end"].to_numpy(dtype=np.int64)
    return np.lexsort((end, start, rank))


def genome_blocks(regions: pd.DataFrame, n_blocks: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Cut the genome into blocks of neighbouring regions, about equally many in each.

    Each chromosome gets at least one block and further ones in turn, the next always going to the
    chromosome whose blocks are largest (this minimises the largest block; D'Hondt's method), so no
    block crosses a chromosome border. Only with fewer blocks than chromosomes blocks span borders.

    Parameters
    ----------
    regions
        Table with ``chrom``, ``start`` and ``end``, in any order.
    n_blocks
        Number of blocks; never more than there are regions.

    Returns
    -------
    The block of each region, int64 of shape (regions,), numbered in genome order, and a table with
    one row a block: ``chrom`` (joined by commas where a block spans several), ``start`` of its
    first region, ``end`` of its last (on the last chromosome), ``n_regions``.

    Raises
    ------
    ValueError
        If `n_blocks` is below 1 or there are no regions.

    Examples
    --------
    >>> from atacvi.regions import genome_blocks, parse_regions
    >>> regions = parse_regions(["chr1:1-5", "chr2:1-5", "chr1:7-9", "chr1:20-30"])
    >>> block, table = genome_blocks(regions, 3)
    >>> block.tolist(), table["chrom"].tolist()
    ([0, 2, 0, 1], ['chr1', 'chr1', 'chr2'])
    """
    n_regions = len(regions)
    if n_blocks < 1 or n_regions == 0:
        msg = f"n_blocks={n_blocks} for {n_regions} regions: both must be at least 1"
        raise ValueError(msg)
    n_blocks = min(int(n_blocks), n_regions)
    order = sort_order(regions)
    sorted_regions = regions.iloc[order]
    chrom = np.asarray(sorted_regions["chrom"].tolist(), dtype=object)
    borders = np.flatnonzero(np.r_[True, chrom[1:] != chrom[:-1], True])
    sizes = np.diff(borders)
    parts = _shares(sizes, n_blocks) if len(sizes) <= n_blocks else None
    sorted_block = (
        np.arange(n_regions) * n_blocks // n_regions
        if parts is None
        else _blocks_within(sizes, parts)
    )
    block = np.empty(n_regions, dtype=np.int64)
    block[order] = sorted_block
    return block, _block_table(sorted_regions, chrom, sorted_block)


def _shares(sizes: np.ndarray, n_blocks: int) -> np.ndarray:
    """Number of blocks of each chromosome, at least one."""
    parts = np.ones(len(sizes), dtype=np.int64)
    queue = [(-float(size), i) for i, size in enumerate(sizes)]
    heapq.heapify(queue)
    for _ in range(n_blocks - len(sizes)):
        _, i = heapq.heappop(queue)
        parts[i] += 1
        heapq.heappush(queue, (-float(sizes[i]) / float(parts[i]), i))
    return parts


def _blocks_within(sizes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    first = np.cumsum(parts) - parts
    pieces = [
        f + np.arange(size) * part // size
        for f, size, part in zip(first, sizes, parts, strict=True)
    ]
    return np.concatenate(pieces)


def _block_table(regions: pd.DataFrame, chrom: np.ndarray, block: np.ndarray) -> pd.DataFrame:
    """Describe blocks of regions in genome order."""
    n_blocks = int(block[-1]) + 1
    first = np.searchsorted(block, np.arange(n_blocks), side="left")
    last = np.searchsorted(block, np.arange(n_blocks), side="right")
    ends = regions["end"].to_numpy(dtype=np.int64)
    names, end = [], np.empty(n_blocks, dtype=np.int64)
    for i, (low, high) in enumerate(zip(first, last, strict=True)):
        names.append(",".join(dict.fromkeys(chrom[low:high])))
        end[i] = ends[low:high][chrom[low:high] == chrom[high - 1]].max()
    starts = regions["start"].to_numpy(dtype=np.int64)[first]
    table = {"chrom": names, "start": starts, "end": end, "n_regions": last - first}
    return pd.DataFrame(table, index=pd.RangeIndex(n_blocks, name="block"))


def _chromosome_rank(chroms: Sequence[str]) -> np.ndarray:
    codes, unique = pd.factorize(np.asarray(chroms, dtype=object))
    rank = np.empty(len(unique), dtype=np.int64)
    for position, i in enumerate(sorted(range(len(unique)), key=lambda i: _natural(unique[i]))):
        rank[i] = position
    return rank[codes]


def _natural(chrom: str) -> tuple[int, int, list[tuple[int, int, str]], str]:
    bare = chrom.lower().removeprefix("chr")
    if bare.isdecimal():
        return 0, int(bare), [], chrom
    if bare in _LETTERS:
        return 1, _LETTERS[bare], [], chrom
    parts = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in _PARTS.split(bare)]
    return 2, 0, parts, chrom
