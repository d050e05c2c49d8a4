"""Merge regions that overlap or lie close to each other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atacvi.regions.blocks import sort_order

__all__ = ["merge"]


def merge(regions: pd.DataFrame, *, max_gap: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Merge regions into disjoint ones.

    Parameters
    ----------
    regions
        Table with ``chrom``, ``start`` and ``end``, in any order.
    max_gap
        Regions this many base pairs apart are still merged; with 0 those that overlap or touch.

    Returns
    -------
    The merged region of each region, int64 of shape (regions,), and a table of the merged ones in
    genome order: ``chrom``, ``start``, ``end`` and ``n_regions``.

    Raises
    ------
    ValueError
        If `max_gap` is negative.

    Examples
    --------
    >>> from atacvi.regions import merge, parse_regions
    >>> of_region, merged = merge(parse_regions(["chr1:5-10", "chr2:1-4", "chr1:8-20"]))
    >>> of_region.tolist(), merged.values.tolist()
    ([0, 1, 0], [['chr1', 5, 20, 2], ['chr2', 1, 4, 1]])
    """
    if max_gap < 0:
        msg = f"max_gap={max_gap} must be 0 or more"
        raise ValueError(msg)
    order = sort_order(regions)
    chrom = np.asarray(regions["chrom"].tolist(), dtype=object)[order]
    start = regions["start"].to_numpy(dtype=np.int64)[order]
    end = regions["end"].to_numpy(dtype=np.int64)[order]
    new_chrom = np.ones(len(order), dtype=bool)
    new_chrom[1:] = chrom[1:] != chrom[:-1]
    furthest = _running_maximum(end, new_chrom)
    opens = new_chrom.copy()
    opens[1:] |= start[1:] > furthest[:-1] + max_gap
    label = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)
    last = np.r_[first[1:], len(order)] - 1
    of_region = np.empty(len(order), dtype=np.int64)
    of_region[order] = label
    table = {
        "chrom": chrom[first],
        "start": start[first],
        "end": furthest[last] if len(first) else end,
        "n_regions": last - first + 1,
    }
    return of_region, pd.DataFrame(table)


def _running_maximum(values: np.ndarray, restart: np.ndarray) -> np.ndarray:
    """Largest value so far, beginning anew where `restart` says so."""
    if len(values) == 0:
        return values
    # Lifted by more than any value at each restart, so that earlier ones never win.
    lift = np.cumsum(restart) * (values.max() + 1)
    return np.maximum.accumulate(values + lift) - lift
