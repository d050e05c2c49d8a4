"""Put the counts of several files together, check them, and describe the cells."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi.data._counting import (
    FileCounts,
    Target,
    count_file,
)
from atacvi.data._files import (
    FRAGMENT_ENDINGS,
    Barcodes,
    Paths,
    barcodes_of,
    named_files,
    run_jobs,
)
from atacvi.data._messages import examples
from atacvi.data._start_sites import start_sites, tss_enrichment, tss_windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

# Real fragments lie in peaks at least this many times as often as when moved by 10 to 20 kb
# (map_regions); a share this high, or few fragments, tell nothing.
_MIN_ENRICHMENT, _CLEAR_SHARE, _FEW = 1.3, 0.5, 50


def count_files(
    paths: Paths,
    target: Target,
    *,
    barcodes: Barcodes,
    min_fragments: int,
    tss: pd.DataFrame | str | Path | None,
    scheduler: Any,
    progress: bool | None,
    title: str,
) -> tuple[dict[str, FileCounts], pd.DataFrame]:
    """Count all files; returns the counts by sample and the table of all cells.

    Cells are called by their barcode, with several files or named ones by ``sample:barcode``.
    """
    files, several = named_files(paths, FRAGMENT_ENDINGS)
    wanted = barcodes_of(barcodes, list(files))
    windows = None if tss is None else tss_windows(start_sites(tss))
    jobs = [
        {
            "path": path,
            "target": target,
            "barcodes": wanted[sample],
            "min_fragments": min_fragments,
            "tss": windows,
        }
        for sample, path in files.items()
    ]
    found = run_jobs(count_file, jobs, scheduler=scheduler, progress=progress, title=title)
    counts = dict(zip(files, found, strict=True))
    for sample, path in files.items():
        nameless = counts[sample].report["n_without_barcode"]
        if nameless:
            warnings.warn(
                f"{nameless} fragments of {path} have an empty barcode and are left out",
                stacklevel=3,
            )
    return counts, _cells(counts, several)


def _cells(counts: dict[str, FileCounts], several: bool) -> pd.DataFrame:
    tables = []
    for sample, one in counts.items():
        names = [f"{sample}:{b}" for b in one.barcodes] if several else one.barcodes
        with np.errstate(invalid="ignore"):
            share = np.where(one.n_fragments > 0, one.n_hit / one.n_fragments, np.nan)
        columns = {
            "sample": sample,
            "barcode": one.barcodes,
            "n_fragments": one.n_fragments,
            "share": share,
        }
        if one.tss is not None:
            scores = np.where(one.n_fragments > 0, tss_enrichment(one.tss), np.nan)
            columns["tss_enrichment"] = scores
        tables.append(pd.DataFrame(columns, index=pd.Index(names, dtype=object)))
    obs = pd.concat(tables)
    obs["sample"] = pd.Categorical(obs["sample"], categories=list(counts))
    return obs


def stack(matrices: Sequence[sp.csr_matrix]) -> sp.csr_matrix:
    """Stack rows; one matrix stays as it is."""
    if len(matrices) == 1:
        return matrices[0]
    return sp.csr_matrix(sp.vstack(list(matrices), format="csr"))


def check_genome(counts: dict[str, FileCounts], target: Target, min_share: float) -> float:
    """Refuse fragments of another genome than the regions; returns the share that hits.

    With `min_share` 0 only files without a chromosome in common are refused.
    """
    index = target.index
    if index is None:
        msg = "tiles have no genome"
        raise TypeError(msg)
    shares = []
    for sample, one in counts.items():
        report = one.report
        if report["n_known"] == 0:
            # the codes of the index come first, whether the file has these chromosomes or not
            theirs = one.chroms[len(index.chroms) :]
            msg = (
                f"the fragments of {sample!r} and the regions have no chromosome in common: "
                f"{examples(theirs)} and {examples(index.chroms)}. Are they from another genome or "
                "species?"
            )
            raise ValueError(msg)
        hit, tried = int(report["n_hit"]), int(report["n_tried"])
        share = hit / tried
        shares.append((hit, tried))
        logger.info("%s: %.1f%% of the fragments lie in the regions", sample, 100 * share)
        if min_share == 0:
            continue
        if share < min_share:
            msg = (
                f"only {share:.1%} of the fragments of {sample!r} lie in the {target.n_columns} "
                f"regions; at least {min_share:.0%} (min_share) must. Are they from another genome "
                "build or species? Give regions of the same genome, or lower min_share for a small "
                "set of regions"
            )
            raise ValueError(msg)
        refuse_chance(repr(sample), "fragments", hit, report["n_hit_moved"], tried)
    return sum(hit for hit, _ in shares) / sum(tried for _, tried in shares)


def refuse_chance(name: str, what: str, hit: int, moved: float, tried: int) -> None:
    """Refuse fragments or regions that hit no better where they are than after a move."""
    if hit >= _FEW and hit < _CLEAR_SHARE * tried and hit < _MIN_ENRICHMENT * moved:
        msg = (
            f"{hit / tried:.1%} of the {what} of {name} hit, but {moved / tried:.1%} still do when "
            "all are moved by 10 to 20 kb: they hit by chance. They are probably from another genome "
            "build or species than the universe (min_share=0 turns this check off)"
        )
        raise ValueError(msg)
