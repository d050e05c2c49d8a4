"""Genomic regions as arrays and data frames: parse, order, block, overlap, map onto a reference.

Nothing here knows of AnnData or torch. A table of regions has the columns ``chrom`` (str),
``start`` and ``end`` (int64), 0-based and half-open as in BED.
"""

from __future__ import annotations

from atacvi.regions.blocks import genome_blocks, sort_order
from atacvi.regions.mapping import RegionMapping, map_regions, match_chromosome_names
from atacvi.regions.overlap import overlap
from atacvi.regions.parse import format_regions, has_regions, parse_regions

__all__ = [
    "RegionMapping",
    "format_regions",
    "genome_blocks",
    "has_regions",
    "map_regions",
    "match_chromosome_names",
    "overlap",
    "parse_regions",
    "sort_order",
]
