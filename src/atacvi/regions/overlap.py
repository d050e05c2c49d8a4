"""Overlap join of two sets of regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["overlap"]


def overlap(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of overlapping regions.

    Two half-open regions overlap where the start of one lies inside the other, so two binary
    searches over sorted starts find every pair once, in O((n + m) log(n + m) + pairs); touching
    regions do not overlap.

    Parameters
    ----------
    a, b
        Tables with ``chrom``, ``start`` and ``end`` (:func:`parse_regions`), in any order; regions
        of one table may overlap each other.

    Returns
    -------
    Positions in `a`, positions in `b` and the overlap in base pairs, each of shape (pairs,) and
    int64, sorted by the position in `a`, then in `b`.

    Examples
    --------
    >>> from atacvi.regions import overlap, parse_regions
    >>> a = parse_regions(["chr1:0-10", "chr1:20-30"])
    >>> b = parse_regions(["chr1:5-25", "chr2:0-10"])
    >>> [pairs.tolist() for pairs in overlap(a, b)]
    [[0, 1], [0, 0], [5, 5]]
    """
    (start_a, end_a), (start_b, end_b), _ = on_one_line(a, b)
    # b starts inside a (or together with it); else a starts strictly inside b
    in_a, in_b = _starts_within(start_b, start_a, end_a)
    other_b, other_a = _starts_within(start_a, start_b + 1, end_b)
    index_a = np.concatenate([in_a, other_a])
    index_b = np.concatenate([in_b, other_b])
    order = np.lexsort((index_b, index_a))
    index_a, index_b = index_a[order], index_b[order]
    length = np.minimum(end_a[index_a], end_b[index_b]) - np.maximum(
        start_a[index_a], start_b[index_b]
    )
    return index_a, index_b, length


def on_one_line(a: pd.DataFrame, b: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lay the chromosomes end to end, so that one coordinate orders everything.

    Returns starts and ends of either table, and the codes of their chromosomes.
    """
    chroms = np.concatenate([_array(a["chrom"]), _array(b["chrom"])])
    codes = pd.factorize(chroms)[0].astype(np.int64)
    starts = [table["start"].to_numpy(dtype=np.int64) for table in (a, b)]
    ends = [table["end"].to_numpy(dtype=np.int64) for table in (a, b)]
    length = max((int(end.max()) for end in ends if end.size), default=0) + 1
    offsets = np.split(codes * length, [len(a)])
    lines = [(s + o, e + o) for s, e, o in zip(starts, ends, offsets, strict=True)]
    return [*lines, (codes[: len(a)], codes[len(a) :])]


def _starts_within(
    points: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (interval, point) for all points with ``start <= point < end``."""
    order = np.argsort(points, kind="stable")
    sorted_points = points[order]
    low = np.searchsorted(sorted_points, start, side="left")
    high = np.maximum(np.searchsorted(sorted_points, end, side="left"), low)
    n_hits = high - low
    interval = np.repeat(np.arange(len(start), dtype=np.int64), n_hits)
    first = np.repeat(np.cumsum(n_hits) - n_hits, n_hits)
    position = np.repeat(low, n_hits) + np.arange(n_hits.sum()) - first
    return interval, order[position].astype(np.int64)


def _array(values: Iterable[str]) -> np.ndarray:
    return np.asarray(list(values), dtype=object)
