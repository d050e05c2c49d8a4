"""Fragment files to counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import UNS_KEY
from atacvi.data._counting import Counting, Target
from atacvi.data._gathering import check_genome, count_files, stack
from atacvi.data._messages import examples
from atacvi.regions import format_regions, parse_regions, read_bed
from atacvi.regions._index import IntervalIndex
from atacvi.regions.universe import as_regions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData

    from atacvi.data._counting import FileCounts
    from atacvi.data._files import Barcodes, Paths

__all__ = ["read_fragments"]


def read_fragments(
    paths: Paths,
    regions: Any = None,
    genes: pd.DataFrame | str | Path | None = None,
    *,
    tile_size: int = 500,
    chrom_sizes: Mapping[str, int] | None = None,
    upstream: int = 2000,
    barcodes: Barcodes = None,
    counting: Counting = "insertion",
    min_fragments: int = 1,
    tss: pd.DataFrame | str | Path | None = None,
    scheduler: Any = None,
    progress: bool | None = None,
) -> AnnData:
    r"""Count the fragments of cells in peaks, gene bodies or tiles.

    Files are streamed in blocks: beside the counts, memory does not grow with their size. They may
    be gzip, bgzip or plain, sorted or not.

    Parameters
    ----------
    paths
        Fragment file (10x: chromosome, start, end, barcode, count), a folder of them, a list, or a
        mapping from sample to file. Several files are read in parallel.
    regions
        Peaks to count in: table, AnnData, universe, names, or the path of a BED file.
    genes
        Genes to count in, from `upstream` base pairs before the start to the end: a table with
        ``chrom``, ``start``, ``end``, ``name`` and ``strand``, or a BED file with these columns.
        Regions of one name on one chromosome and strand (transcripts) are joined.
    tile_size
        Width of the tiles in base pairs that are counted in where neither is given.
    chrom_sizes
        Lengths of the chromosomes; all their tiles are returned, and other chromosomes are left
        out. ``None`` returns the tiles with a count.
    upstream
        Base pairs before a gene that belong to it; 0 needs no strand.
    barcodes
        Barcodes of the cells wanted: names, a file with one in the first column of each line, or a
        mapping from sample to either. All of them are returned, in this order, also those without
        fragments; ``None`` returns those with `min_fragments`.
    counting
        ``"insertion"`` counts each of the two ends of a fragment, the sites where the transposase
        cut; ``"fragment"`` each fragment that overlaps; ``"paired-insertion"`` the ends, but a
        fragment once where both lie in one region. Cell Ranger counts insertions; it also takes the
        position after the last base for the second, so that counts differ for fragments that end
        exactly where a peak begins or ends.
    min_fragments
        Fragments of a barcode to be returned, unless `barcodes` lists it.
    tss
        Transcription start sites, a table or BED file of sites (length 1) or of genes with their
        strand: adds ``obs["tss_enrichment"]``.
    scheduler
        ``None`` reads several files in threads; ``"threads"``, ``"processes"`` or a client of
        Dask's distributed scheduler through Dask (``pip install 'atacvi[dask]'``).
    progress
        Show a progress bar on stderr; ``None`` does so on a terminal.

    Returns
    -------
    AnnData (cells x regions) with int32 csr counts in ``X`` and ``chrom``, ``start``, ``end`` in
    ``var``. ``obs`` holds ``sample``, ``barcode``, ``n_fragments`` (lines of the file),
    ``fraction_in_regions`` (share of them that count; NaN without fragments) and, with `tss`,
    ``tss_enrichment``: insertions per base pair within 5 bp of the sites over those 1,900 to 2,000
    bp away plus 0.1, as in SnapATAC2. Cells of one file are called by their barcode; those of
    several, or of a mapping, ``sample:barcode``, where the sample is the key or the name of the
    file without endings.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a line cannot be read (with its number), a file is truncated, has no fragments, none of
        the barcodes or no chromosome of the regions, two files have one name, or an argument is out
        of range.
    ImportError
        If `scheduler` needs Dask and it is not installed.

    References
    ----------
    Zhang et al. A fast, scalable and versatile tool for analysis of single-cell omics data. Nat
    Methods 2024 (counting strategies and TSS enrichment).

    Examples
    --------
    >>> from pathlib import Path
    >>> from atacvi.data import read_fragments
    >>> lines = ["chr1 10 90 AAAC-1 1", "chr1 40 200 GGGT-1 2", "chr1 95 99 AAAC-1 1"]
    >>> _ = Path("fragments.tsv").write_text("\n".join(lines).replace(" ", "\t"))
    >>> adata = read_fragments("fragments.tsv", ["chr1:0-100", "chr1:150-300"])
    >>> adata.X.toarray().tolist()
    [[4, 0], [1, 1]]
    """
    if regions is not None and genes is not None:
        msg = "give regions or genes, not both"
        raise ValueError(msg)
    if tile_size < 1 or upstream < 0 or min_fragments < 0:
        msg = (
            f"tile_size={tile_size} must be at least 1, upstream={upstream} and "
            f"min_fragments={min_fragments} at least 0"
        )
        raise ValueError(msg)
    var = None
    if regions is not None:
        var = _named_regions(regions)
    elif genes is not None:
        var = gene_regions(genes, upstream)
    if var is None:
        target = Target(counting, tile_size=tile_size)
    else:
        target = Target(counting, IntervalIndex(var), len(var))
    counts, obs = count_files(
        paths,
        target,
        barcodes=barcodes,
        min_fragments=min_fragments,
        tss=tss,
        scheduler=scheduler,
        progress=progress,
        title="counting fragments",
    )
    if var is None:
        matrices, var = _tiles(counts, target, chrom_sizes)
    else:
        check_genome(counts, target, 0)
        matrices = [one.matrix for one in counts.values()]
    import anndata

    obs = obs.rename(columns={"share": "fraction_in_regions"})
    uns = {UNS_KEY: {"fragments": {"counting": counting}}}
    return anndata.AnnData(stack(matrices), obs=obs, var=var, uns=uns)


def gene_regions(genes: pd.DataFrame | str | Path, upstream: int) -> pd.DataFrame:
    """Table of gene bodies with their upstream part, by gene name.

    A name that stands on two chromosomes or strands (as in pseudoautosomal regions) is numbered.
    """
    table = genes if isinstance(genes, pd.DataFrame) else read_bed(genes)
    needed = ["name", "strand"] if upstream else ["name"]
    missing = [column for column in needed if column not in table.columns]
    if missing:
        msg = (
            f"genes lacks {examples(missing)} (it has {examples(table.columns)}); give chrom, start, "
            "end, name and strand, or upstream=0 without strands"
        )
        raise ValueError(msg)
    bodies = parse_regions(table).reset_index(drop=True)
    bodies["name"] = table["name"].astype(str).to_numpy()
    bodies["strand"] = table["strand"].astype(str).to_numpy() if "strand" in table else "."
    joined = bodies.groupby(["name", "chrom", "strand"], sort=False, as_index=False).agg(
        start=("start", "min"), end=("end", "max")
    )
    forward = (joined["strand"] != "-").to_numpy()
    start, end = joined["start"].to_numpy(), joined["end"].to_numpy()
    var = pd.DataFrame(
        {
            "chrom": np.asarray(joined["chrom"].tolist(), dtype=object),
            "start": np.where(forward, np.maximum(start - upstream, 0), start),
            "end": np.where(forward, end, end + upstream),
            "strand": np.asarray(joined["strand"].tolist(), dtype=object),
        }
    )
    number = joined.groupby("name").cumcount().to_numpy()
    names = [f"{n}-{i}" if i else n for n, i in zip(joined["name"], number, strict=True)]
    var.index = pd.Index(names, dtype=object)
    return var


def _named_regions(regions: Any) -> pd.DataFrame:
    table = as_regions(regions)
    var = table[["chrom", "start", "end"]].copy()
    if isinstance(table.index, pd.RangeIndex):
        var.index = format_regions(table)
    var.index = var.index.astype(str)
    if len(var) == 0:
        msg = "there is no region to count in"
        raise ValueError(msg)
    if not var.index.is_unique:
        twice = var.index[var.index.duplicated()].unique()
        msg = (
            f"{len(twice)} names of regions occur more than once: {examples(twice[:5], len(twice))}; "
            "drop the repeats, or make a universe of them: atacvi.regions.Universe(regions)"
        )
        raise ValueError(msg)
    return var


def _tiles(
    counts: Mapping[str, FileCounts], target: Target, chrom_sizes: Mapping[str, int] | None
) -> tuple[list[sp.csr_matrix], pd.DataFrame]:
    """Number the tiles of all files alike: those of the given chromosomes, or those with counts."""
    size, stride = target.tile_size, target.stride
    chroms = list(chrom_sizes or dict.fromkeys(c for one in counts.values() for c in one.chroms))
    rank = {chrom: i for i, chrom in enumerate(chroms)}
    n_tiles = np.zeros(len(chroms), dtype=np.int64)
    if chrom_sizes is not None:
        n_tiles[:] = [-(-int(length) // size) for length in chrom_sizes.values()]
    parts = []
    for one in counts.values():
        code, tile = one.matrix.indices // stride, one.matrix.indices % stride
        where = np.array([rank.get(chrom, -1) for chrom in one.chroms], dtype=np.int64)[code]
        parts.append((where, tile))
        if chrom_sizes is None and len(tile):
            np.maximum.at(n_tiles, where, tile.astype(np.int64) + 1)
    offset = np.cumsum(n_tiles) - n_tiles
    total = int(n_tiles.sum())
    used = np.full(total, chrom_sizes is not None)
    columns = []
    for where, tile in parts:
        inside = (where >= 0) & (tile < n_tiles[where])
        column = np.where(inside, offset[where] + tile, -1)
        used[column[inside]] = True
        columns.append(column)
    number = np.cumsum(used) - 1
    kept = np.flatnonzero(used)
    matrices = []
    for one, column in zip(counts.values(), columns, strict=True):
        inside = column >= 0
        rows = np.repeat(np.arange(one.matrix.shape[0]), np.diff(one.matrix.indptr))
        parts_ = (one.matrix.data[inside], (rows[inside], number[column[inside]]))
        matrices.append(sp.csr_matrix(parts_, shape=(one.matrix.shape[0], len(kept))))
    chrom = np.searchsorted(offset, kept, side="right") - 1
    start = (kept - offset[chrom]) * size
    var = pd.DataFrame({"chrom": np.asarray(chroms, dtype=object)[chrom], "start": start})
    var["end"] = var["start"] + size
    var.index = format_regions(var)
    return matrices, var
