"""Enrichment of insertions at transcription start sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atacvi.regions import parse_regions, read_bed
from atacvi.regions._index import IntervalIndex

if TYPE_CHECKING:
    from pathlib import Path

# The centre and the two flanks of the profile, in base pairs
_CENTRE, _FLANK, _REACH = 5, 100, 2000
_TSS_PSEUDOCOUNT = 0.1


def start_sites(annotation: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Table of transcription start sites with ``chrom`` and ``start``.

    A region of length 1 is a site; of a longer one the end that ``strand`` tells is.
    """
    table = annotation if isinstance(annotation, pd.DataFrame) else read_bed(annotation)
    regions = parse_regions(table)
    start, end = regions["start"].to_numpy(), regions["end"].to_numpy()
    site = start.copy()
    if (end - start > 1).any():
        if "strand" not in table.columns:
            msg = (
                "the annotation of start sites has regions of more than one base pair and no "
                "column 'strand'; give genes with their strand, or sites of length 1"
            )
            raise ValueError(msg)
        site = np.where(table["strand"].astype(str) == "-", end - 1, start)
    return pd.DataFrame({"chrom": regions["chrom"].to_numpy(), "start": site})


def tss_windows(sites: pd.DataFrame) -> IntervalIndex:
    """Index of the centre (0) and the flanks (1) around transcription start sites.

    `sites` has ``chrom`` and ``start``, the position of each site.
    """
    sites = sites[["chrom", "start"]].drop_duplicates()
    where = sites["start"].to_numpy(dtype=np.int64)
    spans = (
        (where - _CENTRE, where + _CENTRE + 1),
        (where - _REACH, where - _REACH + _FLANK),
        (where + _REACH - _FLANK + 1, where + _REACH + 1),
    )
    parts = [pd.DataFrame({"chrom": sites["chrom"], "start": a, "end": b}) for a, b in spans]
    windows = pd.concat(parts, ignore_index=True)
    ids = np.repeat([0, 1, 1], len(sites))
    return IntervalIndex(windows, ids)


def tss_enrichment(tss: np.ndarray) -> np.ndarray:
    """Insertions per base pair in the centre over those in the flanks, float64 of shape (cells,)."""
    centre = tss[:, 0] / (2 * _CENTRE + 1)
    return centre / (tss[:, 1] / (2 * _FLANK) + _TSS_PSEUDOCOUNT)
