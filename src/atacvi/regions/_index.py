"""Regions sorted along the genome, to be searched by compiled code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atacvi.regions.blocks import sort_order
from atacvi.regions.mapping import bare_name

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["IntervalIndex"]


class IntervalIndex:
    """Regions sorted by chromosome and start; they may overlap.

    Parameters
    ----------
    regions
        Table with ``chrom``, ``start`` and ``end``.
    ids
        Number that stands for each region; ``None`` takes its row.

    Attributes
    ----------
    chroms
        Names of chromosomes in the order of their codes.
    borders
        Region ``borders[c]`` is the first of chromosome ``c``, int64 of shape (chromosomes + 1,).
    start, end
        Positions of the sorted regions, int64 of shape (regions,).
    furthest
        Largest end of the regions of the chromosome up to each, int64 of shape (regions,). Where
        regions do not overlap it is their end; where they do, a search in it still finds the first
        region that may reach a point.
    ids
        Number of each sorted region, int64 of shape (regions,).
    """

    def __init__(self, regions: pd.DataFrame, ids: np.ndarray | None = None) -> None:
        order = sort_order(regions)
        names = np.asarray(regions["chrom"].tolist(), dtype=object)[order]
        codes, chroms = pd.factorize(names)
        self.chroms: list[str] = [str(chrom) for chrom in chroms]
        self.borders = np.searchsorted(codes, np.arange(len(chroms) + 1)).astype(np.int64)
        self.start = regions["start"].to_numpy(dtype=np.int64)[order]
        self.end = regions["end"].to_numpy(dtype=np.int64)[order]
        self.furthest = self.end.copy()
        for low, high in zip(self.borders[:-1], self.borders[1:], strict=True):
            np.maximum.accumulate(self.end[low:high], out=self.furthest[low:high])
        self.ids = (order if ids is None else np.asarray(ids)[order]).astype(np.int64)

    def codes(self, chroms: Iterable[str]) -> np.ndarray:
        """Return the codes of chromosomes by name, int64; -1 for those without a region.

        A name that is not known is looked up without its prefix ``chr``: ``1`` is ``chr1`` and
        ``MT`` is ``chrM``.
        """
        exact = {chrom: code for code, chrom in enumerate(self.chroms)}
        bare = {bare_name(chrom): code for chrom, code in exact.items()}
        found = [exact.get(chrom, bare.get(bare_name(chrom), -1)) for chrom in chroms]
        return np.asarray(found, dtype=np.int64)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return what compiled code searches."""
        return self.borders, self.start, self.end, self.furthest, self.ids
