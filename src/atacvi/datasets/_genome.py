"""A made-up genome annotation: genes, peaks and the links between them on hg38's chromosomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Lengths in base pairs of the GRCh38/hg38 assembly (UCSC chrom.sizes), in karyotype order.
HG38_CHROM_SIZES: dict[str, int] = {
    "chr1": 248_956_422,
    "chr2": 242_193_529,
    "chr3": 198_295_559,
    "chr4": 190_214_555,
    "chr5": 181_538_259,
    "chr6": 170_805_979,
    "chr7": 159_345_973,
    "chr8": 145_138_636,
    "chr9": 138_394_717,
    "chr10": 133_797_422,
    "chr11": 135_086_622,
    "chr12": 133_275_309,
    "chr13": 114_364_328,
    "chr14": 107_043_718,
    "chr15": 101_991_189,
    "chr16": 90_338_345,
    "chr17": 83_257_441,
    "chr18": 80_373_285,
    "chr19": 58_617_616,
    "chr20": 64_444_167,
    "chr21": 46_709_983,
    "chr22": 50_818_468,
    "chrX": 156_040_895,
}
_CHROMS = np.array(list(HG38_CHROM_SIZES))
_SIZES = np.array(list(HG38_CHROM_SIZES.values()), dtype=np.int64)

# Peaks live in slots of this many base pairs, at most one in a slot: they cannot overlap.
_SLOT = 1_000
_MAX_SHIFT = 400
_MIN_WIDTH, _MAX_WIDTH = 400, 600
_SLOTS_PER_CHROM = _SIZES // _SLOT - 1
MAX_PEAKS = int(_SLOTS_PER_CHROM.sum() // 2)

_NEAR_GENE = 100_000  # peaks this close to a TSS may regulate the gene
_LINK_DECAY = 30_000.0  # length scale in bp at which the chance of a link falls
_MEAN_EXTRA_LINKS = 3.0


@dataclass(frozen=True)
class Genome:
    """Genes (`var` of the RNA), peaks (`var` of the ATAC) and links between their positions."""

    genes: pd.DataFrame
    peaks: pd.DataFrame
    link_gene: NDArray[np.int64]
    link_peak: NDArray[np.int64]
    link_effect: NDArray[np.float64]
    link_distance: NDArray[np.int64]


def make_genome(n_genes: int, n_peaks: int, rng: np.random.Generator) -> Genome:
    """Place genes and peaks on hg38's chromosomes and link peaks to the genes near them."""
    chrom, tss, genes = _place_genes(n_genes, rng)
    peak_chrom, start, end = _place_peaks(n_peaks, chrom, tss, rng)
    gene, peak, effect, distance = _link(chrom, tss, peak_chrom, (start + end) // 2, rng)
    chrom_names = _CHROMS[peak_chrom].astype(object)
    names = [f"{c}:{s}-{e}" for c, s, e in zip(chrom_names, start, end, strict=True)]
    promoter = np.zeros(n_peaks, dtype=bool)
    promoter[peak[np.abs(distance) < _SLOT]] = True
    peaks = pd.DataFrame(
        {"chrom": chrom_names, "start": start, "end": end, "promoter": promoter}, index=names
    )
    return Genome(genes, peaks, gene, peak, effect, distance)


def _place_genes(
    n_genes: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], pd.DataFrame]:
    chrom = np.sort(rng.choice(_SIZES.size, n_genes, p=_SIZES / _SIZES.sum()))
    margin = 2_000_000  # keeps gene bodies and their peaks away from the chromosome ends
    tss = (margin + rng.random(n_genes) * (_SIZES[chrom] - 2 * margin)).astype(np.int64)
    order = np.lexsort((tss, chrom))
    chrom, tss = chrom[order], tss[order]
    length = np.clip(rng.lognormal(np.log(25_000), 1.1, n_genes), 500, 1_500_000).astype(np.int64)
    forward = rng.random(n_genes) < 0.5
    digits = max(4, len(str(n_genes)))
    genes = pd.DataFrame(
        {
            "chrom": _CHROMS[chrom].astype(object),
            "start": np.where(forward, tss, tss - length),
            "end": np.where(forward, tss + length, tss + 1),
            "strand": np.where(forward, "+", "-").astype(object),
            "tss": tss,
        },
        index=[f"SIM{i:0{digits}d}" for i in range(1, n_genes + 1)],
    )
    return chrom, tss, genes


def _place_peaks(
    n_peaks: int,
    gene_chrom: NDArray[np.int64],
    tss: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw promoters first, then peaks near genes, then anywhere, until there are enough."""
    offset = np.concatenate([[0], np.cumsum(_SLOTS_PER_CHROM)])
    tss_slot = offset[gene_chrom] + tss // _SLOT
    n_promoters = min(int(0.8 * tss.size), int(0.3 * n_peaks))
    chosen = np.unique(rng.choice(tss_slot, n_promoters, replace=False))
    near_share = 0.6
    while chosen.size < n_peaks:
        missing = n_peaks - chosen.size
        n_near = int(np.ceil(near_share * missing))
        shift = rng.laplace(0.0, _LINK_DECAY / _SLOT, n_near)
        limit = _NEAR_GENE // _SLOT - 1
        near = rng.choice(tss_slot, n_near) + np.clip(shift, -limit, limit).astype(np.int64)
        anywhere = rng.integers(0, offset[-1], missing - n_near)
        chosen = np.union1d(chosen, np.concatenate([near, anywhere]))
        near_share *= 0.5  # crowded genes must not make this loop long
    chrom = np.searchsorted(offset, chosen, side="right") - 1
    start = (chosen - offset[chrom]) * _SLOT + rng.integers(0, _MAX_SHIFT, chosen.size)
    end = start + rng.integers(_MIN_WIDTH, _MAX_WIDTH, chosen.size)
    return chrom, start, end


def _link(
    gene_chrom: NDArray[np.int64],
    tss: NDArray[np.int64],
    peak_chrom: NDArray[np.int64],
    centre: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Choose for each gene some peaks near its TSS, the nearer the likelier; effects sum to one."""
    far = np.int64(1_000_000_000)  # longer than any chromosome: one axis for the whole genome
    peak_at, tss_at = peak_chrom * far + centre, gene_chrom * far + tss
    first = np.searchsorted(peak_at, tss_at - _NEAR_GENE)
    last = np.searchsorted(peak_at, tss_at + _NEAR_GENE)
    genes, peaks, effects = [], [], []
    for i in np.flatnonzero(last > first):
        candidates = np.arange(first[i], last[i])
        weight = np.exp(-np.abs(peak_at[candidates] - tss_at[i]) / _LINK_DECAY)
        n_links = min(candidates.size, 1 + rng.poisson(_MEAN_EXTRA_LINKS))
        linked = rng.choice(candidates, n_links, replace=False, p=weight / weight.sum())
        linked.sort()
        genes.append(np.full(n_links, i))
        peaks.append(linked)
        effects.append(rng.dirichlet(np.full(n_links, 2.0)))
    if not genes:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0), none
    gene, peak = np.concatenate(genes), np.concatenate(peaks)
    distance = peak_at[peak] - tss_at[gene]
    return gene, peak, np.concatenate(effects), distance
