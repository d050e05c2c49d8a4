"""Map one set of regions onto another: which reference region stands for a query region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.sparse import csr_matrix

from atacvi.regions.overlap import overlap

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

__all__ = ["RegionMapping", "map_regions", "match_chromosome_names"]

_N_EXAMPLES = 5
# Overlap by chance is measured by moving the query along the genome: far enough to leave its peaks,
# near enough to stay in the same gene-rich stretch. Real peak sets of one build overlap 1.8 to 3.5
# times as often where they are as when moved, sets of two builds or species 0.9 to 1.15 times.
_SHIFTS = (-20_000, -10_000, 10_000, 20_000)
_MIN_ENRICHMENT = 1.3
# A query that covers most of the reference (genome-wide tiles) overlaps wherever it is moved, and
# few regions tell nothing.
_CLEAR_SHARE = 0.5
_MIN_MAPPED_FOR_SHIFTS = 50


@dataclass(frozen=True)
class RegionMapping:
    """Pairs of a query region and a reference region it is counted for.

    Parameters
    ----------
    query, reference
        Positions of the pairs, int64 of shape (pairs,).
    n_query, n_reference
        Numbers of regions on either side.

    Examples
    --------
    >>> from atacvi.regions import map_regions, parse_regions
    >>> query = parse_regions(["chr1:0-100", "chr1:900-950"])
    >>> mapping = map_regions(query, parse_regions(["chr1:50-150", "chr1:500-600"]))
    >>> mapping.mapped, mapping.share_mapped
    (array([ True, False]), 0.5)
    """

    query: np.ndarray
    reference: np.ndarray
    n_query: int
    n_reference: int

    @property
    def mapped(self) -> np.ndarray:
        """Which query regions found a reference region, bool of shape (query regions,)."""
        mask = np.zeros(self.n_query, dtype=bool)
        mask[self.query] = True
        return mask

    @property
    def covered(self) -> np.ndarray:
        """Which reference regions were found by a query, bool of shape (reference regions,)."""
        mask = np.zeros(self.n_reference, dtype=bool)
        mask[self.reference] = True
        return mask

    @property
    def share_mapped(self) -> float:
        """Share of the query regions that found a reference region."""
        return float(self.mapped.mean()) if self.n_query else 0.0

    def matrix(self, dtype: np.dtype | type = np.float32) -> csr_matrix:
        """Return the 0/1 matrix (query regions, reference regions) of the pairs."""
        values = np.ones(len(self.query), dtype=dtype)
        shape = (self.n_query, self.n_reference)
        return csr_matrix((values, (self.query, self.reference)), shape=shape)


def map_regions(
    query: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    min_overlap: int = 1,
    min_overlap_fraction: float = 0.0,
    assign: Literal["best", "all"] = "best",
    min_share: float = 0.1,
) -> RegionMapping:
    """Map query regions onto the reference regions that they overlap.

    Parameters
    ----------
    query, reference
        Tables with ``chrom``, ``start`` and ``end``.
    min_overlap
        Overlap a pair needs, in base pairs.
    min_overlap_fraction
        Overlap a pair needs, as a share of the shorter region.
    assign
        ``"best"`` gives a query region to the one reference region with the largest overlap (the
        first of equals), so that counts are neither lost nor doubled; ``"all"`` to every one it
        overlaps.
    min_share
        Share of the query regions that must find a reference region. Unless it is 0, regions of
        which fewer than half do must also overlap more often than when they are moved by 10 or 20
        kb: peaks of another genome build overlap by chance only, but that can be one in five.

    Returns
    -------
    The pairs.

    Raises
    ------
    ValueError
        If an argument is out of range, fewer query regions than `min_share` find a reference
        region, or no more than by chance, as with another genome.

    Examples
    --------
    >>> from atacvi.regions import map_regions, parse_regions
    >>> query = parse_regions(["chr1:0-10", "chr1:8-30"])
    >>> reference = parse_regions(["chr1:5-20", "chr1:25-40"])
    >>> map_regions(query, reference).reference.tolist()
    [0, 0]
    """
    if min_overlap < 1 or not 0 <= min_overlap_fraction <= 1:
        msg = (
            f"min_overlap={min_overlap} must be at least 1 and "
            f"min_overlap_fraction={min_overlap_fraction} within 0 and 1"
        )
        raise ValueError(msg)
    if assign not in ("best", "all"):
        msg = f"assign={assign!r}; use 'best' or 'all'"
        raise ValueError(msg)
    index_query, index_reference, length = _pairs(
        query, reference, min_overlap, min_overlap_fraction
    )
    if assign == "best":
        order = np.lexsort((index_reference, -length, index_query))
        first = order[np.unique(index_query[order], return_index=True)[1]]
        index_query, index_reference = index_query[first], index_reference[first]
    mapping = RegionMapping(index_query, index_reference, len(query), len(reference))
    if mapping.share_mapped < min_share:
        raise ValueError(_mismatch_message(query, reference, mapping, min_share))
    if min_share > 0:
        _check_against_chance(query, reference, mapping, min_overlap, min_overlap_fraction)
    return mapping


def match_chromosome_names(regions: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Write the chromosomes of regions as a reference does (``chr1`` or ``1``, ``chrM`` or ``MT``).

    Parameters
    ----------
    regions, reference
        Tables with ``chrom``, ``start`` and ``end``.

    Returns
    -------
    A copy of `regions`; chromosomes that the reference does not have keep their names.

    Examples
    --------
    >>> from atacvi.regions import match_chromosome_names, parse_regions
    >>> reference = parse_regions(["chr1:1-5", "chrM:1-5"])
    >>> match_chromosome_names(parse_regions(["1:1-5", "MT:1-5"]), reference)["chrom"].tolist()
    ['chr1', 'chrM']
    """
    known = {bare_name(chrom): chrom for chrom in _unique(reference["chrom"])}
    exact = set(reference["chrom"])
    chroms = [c if c in exact else known.get(bare_name(c), c) for c in regions["chrom"]]
    out = regions.copy()
    out["chrom"] = np.asarray(chroms, dtype=object)
    return out


def bare_name(chrom: str) -> str:
    """Name of a chromosome without what conventions differ in: ``chr1`` and ``1``, ``MT``, ``M``."""
    bare = chrom.lower().removeprefix("chr")
    return "m" if bare == "mt" else bare


def _lengths(regions: pd.DataFrame) -> np.ndarray:
    return (regions["end"] - regions["start"]).to_numpy(dtype=np.int64)


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _pairs(
    query: pd.DataFrame, reference: pd.DataFrame, min_overlap: int, min_overlap_fraction: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping pairs that overlap far enough, as positions and base pairs."""
    index_query, index_reference, length = overlap(query, reference)
    shorter = np.minimum(_lengths(query)[index_query], _lengths(reference)[index_reference])
    keep = (length >= min_overlap) & (length >= min_overlap_fraction * shorter)
    return index_query[keep], index_reference[keep], length[keep]


def _check_against_chance(
    query: pd.DataFrame,
    reference: pd.DataFrame,
    mapping: RegionMapping,
    min_overlap: int,
    min_overlap_fraction: float,
) -> None:
    """Refuse a query that overlaps no better where it is than elsewhere."""
    n_mapped = int(mapping.mapped.sum())
    if mapping.share_mapped >= _CLEAR_SHARE or n_mapped < _MIN_MAPPED_FOR_SHIFTS:
        return
    by_chance = []
    for shift in _SHIFTS:
        moved = query.assign(start=query["start"] + shift, end=query["end"] + shift)
        pairs = _pairs(moved, reference, min_overlap, min_overlap_fraction)
        by_chance.append(len(np.unique(pairs[0])))
    expected = float(np.mean(by_chance))
    if n_mapped < _MIN_ENRICHMENT * expected:
        msg = (
            f"{n_mapped} of {mapping.n_query} query regions overlap a reference region, but "
            f"{expected:.0f} still do when all are moved by 10 to 20 kb: they overlap by chance. "
            "The "
            "query is probably from another genome build or species: lift it over to the genome of "
            "the reference (min_share=0 turns this check off)"
        )
        raise ValueError(msg)


def _mismatch_message(
    query: pd.DataFrame, reference: pd.DataFrame, mapping: RegionMapping, min_share: float
) -> str:
    chroms_query, chroms_reference = _unique(query["chrom"]), _unique(reference["chrom"])
    shared = set(chroms_query) & set(chroms_reference)
    head = (
        f"only {mapping.mapped.sum()} of {mapping.n_query} query regions "
        f"({mapping.share_mapped:.1%}) overlap one of the {mapping.n_reference} reference regions; "
        f"at least {min_share:.0%} (min_share) must"
    )
    if len(shared) < min(len(chroms_query), len(chroms_reference)) / 2:
        named = {bare_name(c) for c in chroms_query} & {bare_name(c) for c in chroms_reference}
        found = (
            f"the chromosomes differ: query {chroms_query[:_N_EXAMPLES]}, "
            f"reference {chroms_reference[:_N_EXAMPLES]}"
        )
        if len(named) > len(shared):
            return (
                f"{head}; {found}. They are the same chromosomes written in two ways: rename them "
                "with atacvi.regions.match_chromosome_names(query, reference)"
            )
        return f"{head}; {found}. Is the query from another species?"
    return (
        f"{head}; the chromosome names agree, so the query is probably from another genome build "
        "or "
        "species: lift it over to the genome of the reference, or lower min_share if so few common "
        "regions are expected"
    )
