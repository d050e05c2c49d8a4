"""The nearest region of another set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi.regions.overlap import on_one_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["nearest"]


def nearest(query: pd.DataFrame, reference: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest reference region of each query region.

    Of the reference regions that start before the end of a query region the one that reaches
    furthest is the nearest, of the others the first: two binary searches a region.

    Parameters
    ----------
    query, reference
        Tables with ``chrom``, ``start`` and ``end``, in any order; regions of one table may overlap
        each other.

    Returns
    -------
    Positions in `reference` and distances in base pairs, each int64 of shape (query regions,). The
    distance is the gap between the two: 0 where they overlap or touch. Both are -1 where the
    reference has no region on the chromosome. Of a region on either side at the same distance the
    left one is taken.

    Examples
    --------
    >>> from atacvi.regions import nearest, parse_regions
    >>> query = parse_regions(["chr1:10-20", "chr1:50-60", "chr2:1-5"])
    >>> reference = parse_regions(["chr1:25-30", "chr1:55-70"])
    >>> [found.tolist() for found in nearest(query, reference)]
    [[0, 1, -1], [5, 0, -1]]
    """
    (start, end), (start_b, end_b), (chrom, chrom_b) = on_one_line(query, reference)
    index = np.full(len(query), -1, dtype=np.int64)
    distance = np.full(len(query), -1, dtype=np.int64)
    if len(reference) == 0 or len(query) == 0:
        return index, distance
    order = np.lexsort((end_b, start_b))
    start_b, end_b, chrom_b = start_b[order], end_b[order], chrom_b[order]
    # Chromosomes lie end to end, so the furthest end so far is one of the same chromosome.
    furthest = np.maximum.accumulate(end_b)
    holder = np.maximum.accumulate(np.where(end_b == furthest, np.arange(len(order)), 0))
    after = np.searchsorted(start_b, end, side="left")
    for position, is_left in ((after - 1, True), (after, False)):
        exists = (position >= 0) & (position < len(order))
        exists[exists] = chrom_b[position[exists]] == chrom[exists]
        found = position[exists]
        if is_left:
            found = holder[found]
            gap = np.maximum(start[exists] - end_b[found], 0)
        else:
            gap = start_b[found] - end[exists]
        rows = np.flatnonzero(exists)
        better = (distance[rows] < 0) | (gap < distance[rows])
        index[rows[better]], distance[rows[better]] = order[found[better]], gap[better]
    return index, distance
