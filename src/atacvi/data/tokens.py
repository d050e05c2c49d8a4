"""Cells as sets of regions of a universe: from fragments, from counts in peaks, from BED files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import OBSM_TOKENS, UNS_KEY
from atacvi.data._bed_rows import bed_row
from atacvi.data._counting import Counting, Target
from atacvi.data._files import BED_ENDINGS, Barcodes, Paths, named_files, run_jobs
from atacvi.data._gathering import check_genome, count_files, stack
from atacvi.data._peak_tokens import gather_tokens
from atacvi.data.checks import get_matrix
from atacvi.data.counts import check_counts
from atacvi.regions import (
    RegionTokenizer,
    Universe,
    map_regions,
    match_chromosome_names,
    parse_regions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

__all__ = ["get_universe", "tokenize_anndata", "tokenize_bed", "tokenize_fragments"]


def tokenize_fragments(
    paths: Paths,
    universe: Universe | pd.DataFrame | Iterable[str] | str | Path,
    *,
    barcodes: Barcodes = None,
    mode: Counting = "fragment",
    min_fragments: int = 1,
    tss: pd.DataFrame | str | Path | None = None,
    min_share: float = 0.05,
    scheduler: Any = None,
    progress: bool | None = None,
) -> AnnData:
    r"""Turn the fragments of each cell into the set of universe regions that they hit.

    Files are streamed in blocks: beside the tokens, memory does not grow with their size.

    Parameters
    ----------
    paths
        Fragment file (10x: chromosome, start, end, barcode, count), a folder of them, a list, or a
        mapping from sample to file.
    universe
        The vocabulary, what :class:`atacvi.regions.Universe` makes one of, or the path of a BED
        file or of a folder with ``universe.bed.gz``.
    barcodes
        Barcodes of the cells wanted: names, a file with one in the first column of each line, or a
        mapping from sample to either. All of them are returned, in this order, also those without
        fragments; ``None`` returns those with `min_fragments`.
    mode
        What of a fragment hits: all of it (``"fragment"``), or its two ends, the sites where the
        transposase cut (``"insertion"``; ``"paired-insertion"`` gives the same set).
    min_fragments
        Fragments of a barcode to be returned, unless `barcodes` lists it.
    tss
        Transcription start sites: adds ``obs["tss_enrichment"]``
        (:func:`atacvi.data.read_fragments`).
    min_share
        Share of the fragments that must hit the universe. Unless it is 0, fragments of which fewer
        than half do must also hit more often than when they are moved by 10 or 20 kb: those of
        another genome build hit by chance only.
    scheduler
        ``None`` reads several files in threads; ``"threads"``, ``"processes"`` or a client of
        Dask's distributed scheduler through Dask (``pip install 'atacvi[dask]'``).
    progress
        Show a progress bar on stderr; ``None`` does so on a terminal.

    Returns
    -------
    AnnData without features: ``obsm["X_tokens"]`` is a bool csr matrix (cells x regions of the
    universe), ``obs`` holds ``sample``, ``barcode``, ``n_fragments``, ``n_tokens``,
    ``fraction_in_universe`` (share of the fragments that hit; NaN without fragments), ``is_empty``
    (no token) and, with `tss`, ``tss_enrichment``; ``uns["atacvi"]["tokens"]`` the universe
    (:func:`get_universe`), its hash, the mode and the share of fragments that hit. Names of cells
    as in :func:`atacvi.data.read_fragments`.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a line cannot be read (with its number), a file is truncated or empty, has none of the
        barcodes, or fits another genome than the universe's.

    References
    ----------
    LeRoy et al. Atacformer: a transformer-based foundation model for analysis and interpretation of
    ATAC-seq data. bioRxiv 2025.11.03.685753.

    Examples
    --------
    >>> from pathlib import Path
    >>> from atacvi.data import tokenize_fragments
    >>> lines = ["chr1 10 90 AAAC-1 1", "chr1 40 200 GGGT-1 2", "chr1 95 99 AAAC-1 1"]
    >>> _ = Path("fragments.tsv").write_text("\n".join(lines).replace(" ", "\t"))
    >>> cells = tokenize_fragments("fragments.tsv", ["chr1:0-100", "chr1:150-300"])
    >>> [row.indices.tolist() for row in cells.obsm["X_tokens"]]
    [[0], [0, 1]]
    """
    if not 0 <= min_share <= 1:
        msg = f"min_share={min_share} must lie within 0 and 1"
        raise ValueError(msg)
    tokenizer = _tokenizer(universe)
    target = Target(mode, tokenizer.index, len(tokenizer.universe))
    counts, obs = count_files(
        paths,
        target,
        barcodes=barcodes,
        min_fragments=min_fragments,
        tss=tss,
        scheduler=scheduler,
        progress=progress,
        title="tokenizing fragments",
    )
    share = check_genome(counts, target, min_share)
    tokens = stack([one.matrix for one in counts.values()]).astype(bool)
    obs = obs.rename(columns={"share": "fraction_in_universe"})
    return _tokenized(tokens, obs, tokenizer.universe, {"mode": mode, "share_hit": share})


def tokenize_anndata(
    adata: AnnData,
    universe: Universe | pd.DataFrame | Iterable[str] | str | Path,
    *,
    layer: str | None = None,
    threshold: float = 0,
    min_share: float = 0.05,
) -> AnnData:
    """Turn the open peaks of each cell into the set of universe regions that they overlap.

    Each peak is looked up once; the tokens of a cell are then gathered from its non-zeros, in
    blocks of cells, so that data backed by a file need not fit into memory.

    Parameters
    ----------
    adata
        Counts (cells x peaks) with regions as names or in ``var``; not changed.
    universe
        As in :func:`tokenize_fragments`.
    layer
        Layer that holds the counts; ``None`` takes ``X``.
    threshold
        A peak is open where its value lies above this; at least 0.
    min_share
        Share of the peaks that must hit the universe; see
        :func:`atacvi.regions.map_regions`.

    Returns
    -------
    AnnData without features, as of :func:`tokenize_fragments`, with ``obs`` and ``obsm`` of
    `adata`; ``n_tokens``, ``fraction_in_universe`` (share of the open peaks that hit) and
    ``is_empty`` are added.

    Raises
    ------
    TypeError
        If `adata` is no AnnData, or the counts are of a kind that cannot be read.
    ValueError
        If regions cannot be read, counts are negative or not finite, or fewer than `min_share` of the peaks hit the universe or no
        more than by chance, as with another genome.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.data import tokenize_anndata
    >>> var = pd.DataFrame(index=["chr1:0-10", "chr1:12-20"])
    >>> adata = anndata.AnnData(np.array([[1.0, 2.0], [0.0, 1.0]]), var=var)
    >>> cells = tokenize_anndata(adata, ["chr1:5-15", "chr1:18-30", "chr2:1-5"])
    >>> [row.indices.tolist() for row in cells.obsm["X_tokens"]]
    [[0, 1], [0, 1]]
    """
    if not hasattr(adata, "obsm") or hasattr(adata, "mod"):
        msg = f"an AnnData is needed, this is {type(adata).__name__}; of a MuData give one modality"
        raise TypeError(msg)
    if isinstance(threshold, str) or not threshold >= 0:
        msg = f"threshold={threshold!r} must be a number of at least 0: peaks that are not stored are closed"
        raise ValueError(msg)
    universe = _tokenizer(universe).universe if not isinstance(universe, Universe) else universe
    peaks, vocabulary = parse_regions(adata.var), universe.regions
    mapping = map_regions(
        match_chromosome_names(peaks, vocabulary), vocabulary, assign="all", min_share=min_share
    )
    to_tokens = mapping.matrix(np.bool_)
    to_tokens.sort_indices()
    matrix = get_matrix(adata, layer, "adata")
    if sp.issparse(matrix) and matrix.format == "csc":
        matrix = sp.csr_matrix(matrix)
    check_counts(
        matrix,
        "adata.X" if layer is None else f"adata.layers[{layer!r}]",
        obs_names=adata.obs_names,
        var_names=adata.var_names,
        integer=False,
    )
    tokens, n_open, n_mapped = gather_tokens(matrix, to_tokens, threshold)
    obs = adata.obs.copy()
    with np.errstate(invalid="ignore"):
        obs["fraction_in_universe"] = np.where(n_open > 0, n_mapped / n_open, np.nan)
    report = {"mode": "peaks", "share_hit": mapping.share_mapped}
    out = _tokenized(tokens, obs, universe, report)
    for key in adata.obsm:
        if key != OBSM_TOKENS:  # those that the object holds are of another universe
            out.obsm[key] = adata.obsm[key].copy()
    return out


def tokenize_bed(
    paths: Paths,
    universe: Universe | pd.DataFrame | Iterable[str] | str | Path,
    *,
    min_share: float = 0.05,
    progress: bool | None = None,
) -> AnnData:
    r"""Turn BED files into sets of universe regions, one row a file.

    Parameters
    ----------
    paths
        BED file, a folder of them, a list, or a mapping from sample to file.
    universe
        As in :func:`tokenize_fragments`.
    min_share
        Share of the regions of each file that must hit the universe.
    progress
        Show a progress bar on stderr; ``None`` does so on a terminal.

    Returns
    -------
    AnnData without features, as of :func:`tokenize_fragments`; rows are called by the key or the
    name of the file without endings, and ``obs`` holds ``n_regions``, ``n_tokens``,
    ``fraction_in_universe`` and ``is_empty``.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file cannot be read (:func:`atacvi.regions.read_bed`) or has too few regions in the
        universe, as with another genome.

    Examples
    --------
    >>> from pathlib import Path
    >>> from atacvi.data import tokenize_bed
    >>> _ = Path("sample.bed").write_text("chr1\t5\t10\nchr1\t95\t160\n")
    >>> tokenize_bed("sample.bed", ["chr1:0-100", "chr1:150-300"]).obs["n_tokens"].to_dict()
    {'sample': 2}
    """
    tokenizer = _tokenizer(universe)
    files, _ = named_files(paths, BED_ENDINGS)
    jobs = [
        {"path": path, "tokenizer": tokenizer, "min_share": min_share} for path in files.values()
    ]
    found = run_jobs(bed_row, jobs, progress=progress, title="tokenizing BED files")
    obs = pd.DataFrame(
        {
            "n_regions": [n for _, n, _ in found],
            "fraction_in_universe": [hit / n if n else np.nan for _, n, hit in found],
        },
        index=pd.Index(list(files), dtype=object),
    )
    sizes = [len(ids) for ids, _, _ in found]
    indices = np.concatenate([ids for ids, _, _ in found])
    shape = (len(found), len(tokenizer.universe))
    parts = (np.ones(len(indices), dtype=bool), indices, np.r_[0, np.cumsum(sizes)])
    tokens = sp.csr_matrix(parts, shape=shape)
    n_regions = int(obs["n_regions"].sum())
    share = sum(hit for _, _, hit in found) / n_regions if n_regions else np.nan
    return _tokenized(tokens, obs, tokenizer.universe, {"mode": "bed", "share_hit": share})


def get_universe(adata: AnnData) -> Universe:
    """Rebuild the universe that the tokens of an object belong to.

    Parameters
    ----------
    adata
        Object that a function of this file returned, or that was read from a file of it.

    Returns
    -------
    The universe.

    Raises
    ------
    KeyError
        If the object holds no tokens.
    ValueError
        If the stored regions do not fit their hash.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.data import get_universe, tokenize_anndata
    >>> adata = anndata.AnnData(np.ones((1, 1)), var=pd.DataFrame(index=["chr1:0-10"]))
    >>> get_universe(tokenize_anndata(adata, ["chr1:5-15"])).names.tolist()
    ['chr1:5-15']
    """
    stored = adata.uns.get(UNS_KEY, {}).get("tokens")
    if stored is None:
        msg = (
            f'the object holds no tokens: uns["{UNS_KEY}"]["tokens"] is missing; make them with '
            "atacvi.data.tokenize_fragments, tokenize_anndata or tokenize_bed"
        )
        raise KeyError(msg)
    return read_universe(stored)


def read_universe(stored: dict[str, Any]) -> Universe:
    """Rebuild a universe from what is stored beside tokens.

    Raises
    ------
    ValueError
        If the regions do not fit their hash.
    """
    universe = Universe.from_arrays(stored["universe"])
    if universe.hash != stored["universe_hash"]:
        msg = (
            f"the stored regions have the hash {universe.hash[:8]}, not "
            f"{str(stored['universe_hash'])[:8]}: they were changed; tokenize the data again"
        )
        raise ValueError(msg)
    return universe


def _tokenizer(universe: Any) -> RegionTokenizer:
    if isinstance(universe, (str, Path)):
        universe = Universe.load(universe)
    return RegionTokenizer(universe)


def _tokenized(
    tokens: sp.csr_matrix, obs: pd.DataFrame, universe: Universe, report: dict[str, Any]
) -> AnnData:
    import anndata

    obs["n_tokens"] = np.diff(tokens.indptr).astype(np.int64)
    obs["is_empty"] = obs["n_tokens"] == 0
    uns = {
        UNS_KEY: {
            "tokens": {
                "universe": universe.to_arrays(),
                "universe_hash": universe.hash,
                **report,
            }
        }
    }
    return anndata.AnnData(obs=obs, obsm={OBSM_TOKENS: tokens}, uns=uns)
