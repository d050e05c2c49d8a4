"""Project counts in one set of peaks onto another."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import UNS_KEY
from atacvi.data.checks import get_matrix
from atacvi.data.counts import check_matrix_type, iter_blocks, to_csr_matrix
from atacvi.regions import map_regions, parse_regions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from atacvi.regions import RegionMapping

__all__ = ["project_regions"]

logger = logging.getLogger(__name__)


def project_regions(
    adata: AnnData,
    reference: AnnData | pd.DataFrame | Iterable[str],
    *,
    layer: str | None = None,
    min_overlap: int = 1,
    min_overlap_fraction: float = 0.0,
    assign: Literal["best", "all"] = "best",
    reduce: Literal["sum", "max"] = "sum",
    min_share: float = 0.1,
) -> AnnData:
    """Count the peaks of a query in the peaks of a reference.

    A query with its own peaks can be mapped onto a model of other peaks this way. Counts of query
    peaks that overlap no reference peak are lost; how many is logged and stored.

    Parameters
    ----------
    adata
        Query counts (cells x query peaks) with regions as names or in ``var``; not changed.
    reference
        AnnData, table, or names with the reference's regions, in the order wanted.
    layer
        Layer that holds the counts; ``None`` takes ``X``.
    min_overlap
        Overlap that makes a query peak count for a reference peak, in base pairs.
    min_overlap_fraction
        The same as a share of the shorter of the two.
    assign
        ``"best"`` counts a query peak for the one reference peak with the largest overlap,
        ``"all"`` for every one that it overlaps.
    reduce
        Several query peaks in one reference peak: ``"sum"`` adds their counts, ``"max"`` takes the
        largest (right for binary data).
    min_share
        Share of the query peaks that must find a reference peak, see
        :func:`atacvi.regions.map_regions`.

    Returns
    -------
    AnnData (cells x reference peaks), csr counts in ``X``, with ``obs`` and ``obsm`` of the query
    and ``var`` of the reference. ``uns["atacvi"]["projection"]`` holds ``share_peaks`` and
    ``share_counts``, what of the query was kept, and ``share_covered``, the share of the reference
    peaks that the query has.

    Raises
    ------
    ValueError
        If regions cannot be read, an argument is unknown, or too few query peaks find a reference
        peak, as with another genome or other names of chromosomes.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.data import project_regions
    >>> var = pd.DataFrame(index=["chr1:0-10", "chr1:12-20"])
    >>> query = anndata.AnnData(np.array([[1.0, 2.0]]), var=var)
    >>> project_regions(query, ["chr1:5-15", "chr2:1-5"]).X.toarray().tolist()
    [[3.0, 0.0]]
    """
    if reduce not in ("sum", "max"):
        msg = f"reduce={reduce!r}; use 'sum' or 'max'"
        raise ValueError(msg)
    import anndata

    var = _reference_var(reference)
    mapping = map_regions(
        parse_regions(adata.var),
        parse_regions(var),
        min_overlap=min_overlap,
        min_overlap_fraction=min_overlap_fraction,
        assign=assign,
        min_share=min_share,
    )
    matrix = get_matrix(adata, layer, "adata")
    counts, share_counts = _project(matrix, mapping, reduce)
    report = {
        "share_peaks": mapping.share_mapped,
        "share_counts": share_counts,
        "share_covered": float(mapping.covered.mean()),
        "assign": assign,
        "reduce": reduce,
    }
    logger.info(
        "%.1f%% of the query peaks and %.1f%% of their counts fall into reference peaks; the query "
        "covers %.1f%% of the reference peaks",
        *(100 * float(report[key]) for key in ("share_peaks", "share_counts", "share_covered")),
    )
    return anndata.AnnData(
        counts,
        obs=adata.obs.copy(),
        var=var,
        obsm={key: adata.obsm[key].copy() for key in adata.obsm},
        uns={UNS_KEY: {"projection": report}},
    )


def _reference_var(reference: Any) -> pd.DataFrame:
    if isinstance(reference, pd.DataFrame):
        return reference.copy()
    if hasattr(reference, "var"):
        return reference.var.copy()
    return pd.DataFrame(index=pd.Index([str(name) for name in reference], dtype=object))


def _project(matrix: Any, mapping: RegionMapping, reduce: str) -> tuple[sp.csr_matrix, float]:
    """Project block by block of cells; returns the counts and the share of counts that was kept."""
    if sp.issparse(matrix):
        matrix = to_csr_matrix(matrix)
    check_matrix_type(matrix, "the query matrix")
    transfer = mapping.matrix(np.int64 if np.dtype(matrix.dtype).kind in "bui" else matrix.dtype)
    mapped, total, kept, blocks = mapping.mapped, 0.0, 0.0, []
    for _, rows, _ in iter_blocks(matrix):
        block = sp.csr_matrix(rows)
        total += float(block.data.sum(dtype=np.float64))
        kept += float(block.data[mapped[block.indices]].sum(dtype=np.float64))
        out = block @ transfer if reduce == "sum" else _max_project(block, mapping)
        out = sp.csr_matrix(out).astype(np.result_type(matrix.dtype, np.int32), copy=False)
        out.sort_indices()
        blocks.append(out)
    shape = (matrix.shape[0], mapping.n_reference)
    counts = sp.csr_matrix(sp.vstack(blocks, format="csr")) if blocks else sp.csr_matrix(shape)
    return counts, kept / total if total else 0.0


def _max_project(block: sp.csr_matrix, mapping: RegionMapping) -> sp.csr_matrix:
    """Largest count of the query peaks of each reference peak, for non-negative counts."""
    # Each stored count is written once for every reference peak of its query peak.
    pairs = mapping.matrix(np.int8)
    n_targets = np.diff(pairs.indptr)
    repeats = n_targets[block.indices]
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    rows, values = np.repeat(rows, repeats), np.repeat(block.data, repeats)
    first = np.repeat(np.cumsum(repeats) - repeats, repeats)
    offset = np.repeat(pairs.indptr[block.indices], repeats)
    columns = pairs.indices[offset + np.arange(len(values)) - first]
    order = np.lexsort((columns, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    shape = (block.shape[0], mapping.n_reference)
    if len(values) == 0:
        return sp.csr_matrix(shape, dtype=block.dtype)
    starts = np.flatnonzero(np.r_[True, (np.diff(rows) != 0) | (np.diff(columns) != 0)])
    largest = np.maximum.reduceat(values, starts)
    return sp.csr_matrix((largest, (rows[starts], columns[starts])), shape=shape)
