"""Term frequency - inverse document frequency of accessibility counts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ._matrix import (
    by_row_blocks,
    checked_matrix,
    column_sums,
    get_modality,
    name_some,
    row_sums,
    set_matrix,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import DTypeLike, NDArray

logger = logging.getLogger(__name__)

IDF_COLUMN = "idf"


def tfidf(
    data: AnnData | MuData,
    *,
    layer: str | None = None,
    key_added: str | None = None,
    log_tf: bool = True,
    log_idf: bool = True,
    log_tfidf: bool = False,
    scale_factor: float | None = 1e4,
    idf: NDArray[np.floating] | None = None,
    dtype: DTypeLike = np.float32,
    modality: str = "atac",
    copy: bool = False,
) -> AnnData | MuData | None:
    """Weight counts by TF-IDF: `log1p(scale * x_cj / sum_j x_cj) * log1p(N / sum_c x_cj)`.

    The options are those of `muon.atac.pp.tfidf`, with equal values. `log_tf=False,
    log_idf=False, log_tfidf=True` is the default of Signac and Seurat (Stuart et al. 2021).
    Zeros stay zeros, and nothing is made dense.

    Parameters
    ----------
    data
        Annotated data, or a MuData of which `modality` is used.
    layer
        Layer with the counts; `X` by default.
    key_added
        Layer for the result; by default the matrix that was read is replaced.
    log_tf, log_idf
        Take `log1p` of the scaled term frequency, of the inverse document frequency.
    log_tfidf
        Take `log1p` of the product; only with `log_tf=False` and `log_idf=False`.
    scale_factor
        Factor on the term frequency; `None` or 0 for none.
    idf
        Inverse document frequencies to use, one per feature, before `log_idf`: those of a
        reference (its `var["idf"]`) put a query on the same scale. Computed from `data` by default.
    dtype
        Floating type of the result.
    modality
        Modality of a MuData.
    copy
        Return a changed copy and leave `data` alone.

    Returns
    -------
    `None`, or the changed copy with `copy=True`. `var["idf"]` holds the inverse document
    frequencies before the logarithm (0 for features without counts). Cells and features without
    counts stay zero; they are named in a warning of the log.

    Raises
    ------
    KeyError
        If the layer or the modality does not exist.
    ValueError
        If a value is negative or not finite, `idf` has another length, or the logarithms clash.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> atacvi.pp.tfidf(mdata, key_added="tfidf")
    >>> mdata["atac"].layers["tfidf"].dtype
    dtype('float32')
    """
    if log_tfidf and (log_tf or log_idf):
        msg = "`log_tfidf=True` takes the logarithm of TF * IDF: set `log_tf=False, log_idf=False`."
        raise ValueError(msg)
    if not np.issubdtype(np.dtype(dtype), np.floating):
        msg = f"`dtype` is {np.dtype(dtype)}; TF-IDF needs a floating type such as float32."
        raise ValueError(msg)
    data = data.copy() if copy else data
    adata = get_modality(data, modality)
    counts = checked_matrix(adata, layer)
    cell_total = row_sums(counts)
    _warn_empty(cell_total, adata.obs_names, "cells")
    idf = _idf(counts, adata) if idf is None else _given_idf(idf, adata.n_vars)
    scale = np.zeros_like(cell_total)
    np.divide(scale_factor or 1.0, cell_total, out=scale, where=cell_total > 0)
    weight = np.log1p(idf) if log_idf else idf
    result = _weighted(counts, scale, weight, log_tf, log_tfidf, np.dtype(dtype))
    set_matrix(adata, result, layer if key_added is None else key_added)
    adata.var[IDF_COLUMN] = idf
    return data if copy else None


def _idf(counts: sp.spmatrix | NDArray, adata: AnnData) -> NDArray[np.float64]:
    """Number of cells over the feature's total count; 0 where there is none."""
    total = column_sums(counts)
    _warn_empty(total, adata.var_names, "features")
    idf = np.zeros_like(total)
    np.divide(counts.shape[0], total, out=idf, where=total > 0)
    return idf


def _given_idf(idf: NDArray[np.floating], n_vars: int) -> NDArray[np.float64]:
    given: NDArray[np.float64] = np.asarray(idf, dtype=np.float64)
    if given.shape != (n_vars,):
        msg = (
            f"`idf` has shape {given.shape}; it must hold one value for each of {n_vars} features."
        )
        raise ValueError(msg)
    if not (np.isfinite(given).all() and (given >= 0).all()):
        msg = (
            "`idf` holds negative, NaN or infinite values; give those of a reference's var['idf']."
        )
        raise ValueError(msg)
    return given


def _warn_empty(total: NDArray[np.float64], names: NDArray, what: str) -> None:
    empty = np.flatnonzero(total == 0)
    if empty.size:
        logger.warning(
            "%d %s have no counts and stay zero: %s.", empty.size, what, name_some(names[empty])
        )


def _weighted(
    counts: sp.spmatrix | NDArray,
    scale: NDArray[np.float64],
    weight: NDArray[np.float64],
    log_tf: bool,
    log_tfidf: bool,
    dtype: np.dtype,
) -> sp.spmatrix | NDArray:
    """Give `f(scale * counts) * weight`, block by block on the stored values alone."""
    if not sp.issparse(counts):
        result = counts * scale.astype(dtype)[:, None]
        if log_tf:
            np.log1p(result, out=result)
        result *= weight.astype(dtype)
        if log_tfidf:
            np.log1p(result, out=result)
        return result.astype(dtype, copy=False)
    counts = sp.csr_matrix(counts)
    scale, weight = scale.astype(dtype), weight.astype(dtype)
    out = np.empty(counts.nnz, dtype=dtype)

    def work(part: slice, factor: NDArray) -> None:
        block = out[part]
        np.multiply(counts.data[part], factor, out=block, casting="same_kind")
        if log_tf:
            np.log1p(block, out=block)
        block *= weight[counts.indices[part]]
        if log_tfidf:
            np.log1p(block, out=block)

    by_row_blocks(counts, scale, work)
    # The index arrays are copied: another layer may still use those of the counts.
    return sp.csr_matrix((out, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
