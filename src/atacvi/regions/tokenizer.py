"""From regions to ids of a universe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi.regions._index import IntervalIndex
from atacvi.regions.bed import read_bed
from atacvi.regions.parse import parse_regions, var_of
from atacvi.regions.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["RegionTokenizer"]


class RegionTokenizer:
    """Turn regions into the ids of the universe's regions that they overlap.

    A region ``[s, e)`` hits a region ``[a, b)`` of the universe if both are on one chromosome,
    ``s < b`` and ``e > a``: regions that touch do not hit, nor do regions of length 0. A region may
    hit several, and the universe's regions may overlap each other. ``chr1`` and ``1``, ``chrM`` and
    ``MT`` are the same chromosome unless the universe has both.

    A cell is the *set* of the regions it hits (LeRoy et al., bioRxiv 2025.11.03.685753): ids come
    once, in ascending order, and what lies outside the universe leaves no trace. The tokenizer of
    gtars repeats ids and emits ``unk``; options give the same sequence.

    Parameters
    ----------
    universe
        The vocabulary, or what :class:`Universe` makes one of.

    Examples
    --------
    >>> from atacvi.regions import RegionTokenizer
    >>> tokenizer = RegionTokenizer(["chr1:0-10", "chr1:20-30", "chr2:0-50"])
    >>> tokenizer.tokenize_regions(["chr2:5-8", "chr1:5-25", "chr1:10-20"]).tolist()
    [0, 1, 2]
    >>> tokenizer.tokenize_regions(["chr2:5-8", "chr2:6-9"], keep_duplicates=True).tolist()
    [2, 2]
    >>> tokenizer.tokenize_regions(["chr3:1-2"], emit_unknown=True).tolist() == [3]
    True
    """

    def __init__(self, universe: Universe | pd.DataFrame | Iterable[str]) -> None:
        self.universe = universe if isinstance(universe, Universe) else Universe(universe)
        self.index = IntervalIndex(self.universe.regions)

    @property
    def vocab_size(self) -> int:
        """Number of ids: regions and special tokens."""
        return self.universe.vocab_size

    def tokenize_regions(
        self,
        regions: pd.DataFrame | Iterable[str] | Any,
        *,
        keep_duplicates: bool = False,
        emit_unknown: bool = False,
    ) -> np.ndarray:
        """Return the ids that regions hit.

        Parameters
        ----------
        regions
            Table with ``chrom``, ``start`` and ``end``, an AnnData with regions in ``var``, a
            universe, or names.
        keep_duplicates
            Return an id as often as it is hit, in the order of the regions and, within a region, of
            the genome.
        emit_unknown
            Return the id of ``unk`` where nothing is hit.

        Returns
        -------
        Ids, int64 of shape (tokens,).

        Raises
        ------
        ValueError
            If regions cannot be read or a start lies above its end.
        """
        pairs = self.hits(regions)
        ids = pairs[:, 1] if keep_duplicates else np.unique(pairs[:, 1])
        if len(ids) == 0 and emit_unknown:
            return np.array([self.universe.unk_id], dtype=np.int64)
        return ids

    def tokenize_bed(
        self, path: str | Path, *, keep_duplicates: bool = False, emit_unknown: bool = False
    ) -> np.ndarray:
        """Return the ids that the regions of a BED file hit; arguments as above.

        Parameters
        ----------
        path
            BED file, plain or gzip (:func:`read_bed`).
        keep_duplicates
            Return an id as often as it is hit, in the order of the file.
        emit_unknown
            Return the id of ``unk`` where nothing is hit.
        """
        return self.tokenize_regions(
            read_bed(path), keep_duplicates=keep_duplicates, emit_unknown=emit_unknown
        )

    def hits(self, regions: pd.DataFrame | Iterable[str] | Any) -> np.ndarray:
        """Return all pairs of a region and an id that it hits.

        Parameters
        ----------
        regions
            As in :meth:`tokenize_regions`.

        Returns
        -------
        Pairs (position in `regions`, id), int64 of shape (pairs, 2), in the order of the regions.
        """
        from atacvi.regions._sweep import find_regions

        table = _read(regions)
        codes, names = pd.factorize(np.asarray(table["chrom"].tolist(), dtype=object))
        known = self.index.codes(names)
        chrom = known[codes] if len(codes) else np.empty(0, dtype=np.int64)
        start = table["start"].to_numpy(dtype=np.int64)
        end = table["end"].to_numpy(dtype=np.int64)
        pairs = np.empty((len(table) + 16, 2), dtype=np.int64)
        n = find_regions(*self.index.arrays(), chrom, start, end, pairs)
        if n > len(pairs):
            pairs = np.empty((n, 2), dtype=np.int64)
            find_regions(*self.index.arrays(), chrom, start, end, pairs)
        return pairs[:n]


def _read(regions: Any) -> pd.DataFrame:
    """Table of regions; those of length 0, which BED allows and which hit nothing, may be there."""
    if isinstance(regions, Universe):
        return regions.regions
    if not isinstance(regions, pd.DataFrame):
        return parse_regions(var_of(regions))
    if {"chrom", "start", "end"} <= set(regions.columns):
        empty = (regions["start"] == regions["end"]).to_numpy()
        if empty.any():
            parse_regions(regions[~empty])
            return regions
    return parse_regions(regions)
