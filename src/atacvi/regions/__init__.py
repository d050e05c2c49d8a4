"""Genomic regions as arrays and data frames: read, order, block, overlap, merge, map, tokenize.

Nothing here knows of AnnData or torch. A table of regions has the columns ``chrom`` (str),
``start`` and ``end`` (int64), 0-based and half-open as in BED.
"""

from __future__ import annotations

from atacvi.regions.bed import read_bed, write_bed
from atacvi.regions.blocks import genome_blocks, sort_order
from atacvi.regions.fragments import FragmentBlock, FragmentReader
from atacvi.regions.mapping import RegionMapping, map_regions, match_chromosome_names
from atacvi.regions.merge import merge
from atacvi.regions.nearest import nearest
from atacvi.regions.overlap import overlap
from atacvi.regions.parse import format_regions, has_regions, parse_regions
from atacvi.regions.tokenizer import RegionTokenizer
from atacvi.regions.universe import Universe

__all__ = [
    "FragmentBlock",
    "FragmentReader",
    "RegionMapping",
    "RegionTokenizer",
    "Universe",
    "format_regions",
    "genome_blocks",
    "has_regions",
    "map_regions",
    "match_chromosome_names",
    "merge",
    "nearest",
    "overlap",
    "parse_regions",
    "read_bed",
    "sort_order",
    "write_bed",
]
