"""Tokens of one BED file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atacvi.data._counting import SHIFTS
from atacvi.data._gathering import refuse_chance
from atacvi.regions import read_bed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from atacvi.regions import RegionTokenizer

# Regions of a file that are also looked up elsewhere, to see what chance gives
_SAMPLE = 20_000


def bed_row(
    path: Path,
    tokenizer: RegionTokenizer,
    min_share: float,
    on_bytes: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, int, int]:
    """Ids of one file, the number of its regions and of those that hit."""
    regions = read_bed(path)
    if on_bytes is not None:
        on_bytes(path.stat().st_size)
    pairs = tokenizer.hits(regions)
    n_hit = len(np.unique(pairs[:, 0]))
    if len(regions) and n_hit < min_share * len(regions):
        msg = (
            f"only {n_hit} of {len(regions)} regions of {path} hit the universe of "
            f"{len(tokenizer.universe)}; at least {min_share:.0%} (min_share) must. Is the file of "
            "another genome build or species?"
        )
        raise ValueError(msg)
    if min_share > 0 and len(regions):
        sample = regions.iloc[:: -(-len(regions) // _SAMPLE)]
        tried = [_n_hit(sample, tokenizer, shift) for shift in (0, *SHIFTS)]
        refuse_chance(str(path), "regions", tried[0], float(np.mean(tried[1:])), len(sample))
    return np.unique(pairs[:, 1]), len(regions), n_hit


def _n_hit(regions: pd.DataFrame, tokenizer: RegionTokenizer, shift: int) -> int:
    """Number of regions that hit after a move along the genome."""
    start, end = regions["start"] + shift, regions["end"] + shift
    moved = pd.DataFrame({"chrom": regions["chrom"], "start": start, "end": end})
    return len(np.unique(tokenizer.hits(moved[start >= 0])[:, 0]))
