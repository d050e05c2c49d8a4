"""Entry to the preprocessing functions: which object, which matrix, and is it sound."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

BLOCK = 1 << 18  # entries worked on at a time: temporaries stay in cache


def get_modality(data: AnnData | MuData, modality: str) -> AnnData:
    """Give the AnnData to work on: `data` itself, or the modality of a MuData."""
    if hasattr(data, "mod"):
        if modality not in data.mod:
            msg = f"The MuData has no modality {modality!r}, only {list(data.mod)}; "
            msg += "name one of them with `modality=`."
            raise KeyError(msg)
        return _actual(data.mod[modality])
    if not hasattr(data, "layers"):
        msg = f"`data` is a {type(data).__name__}; it must be an AnnData or a MuData."
        raise TypeError(msg)
    return _actual(data)


def _actual(adata: AnnData) -> AnnData:
    """Make a view an object of its own, as scanpy does: the parent stays as it is."""
    if adata.is_view:
        logger.warning("The AnnData is a view; it becomes a copy of its own.")
        adata._init_as_actual(adata.copy())
    return adata


def get_matrix(adata: AnnData, layer: str | None) -> sp.spmatrix | NDArray:
    """Give `X` or a layer as a CSR/CSC matrix or a dense array, without copying sound ones.

    Sparse arrays become sparse matrices, which the readers and models of this package take.
    """
    if layer is not None and layer not in adata.layers:
        known = [name for name in adata.layers if name is not None]
        msg = f"`layer` {layer!r} is not in `adata.layers`, which holds {known}."
        raise KeyError(msg)
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        msg = "`adata.X` is empty; name the matrix to use with `layer=`."
        raise ValueError(msg)
    if sp.issparse(matrix):
        matrix = sp.csc_matrix(matrix) if matrix.format == "csc" else sp.csr_matrix(matrix)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()  # an entry stored in two parts is their sum
        return matrix
    if isinstance(matrix, np.ndarray):
        return np.asarray(matrix)
    if hasattr(matrix, "to_memory"):
        msg = f"The matrix is backed ({type(matrix).__name__}); load it first with "
        msg += "`adata = adata.to_memory()`."
    else:
        msg = f"The matrix is a {type(matrix).__name__}; it must be a NumPy array or a SciPy "
        msg += "sparse matrix."
    raise TypeError(msg)


def set_matrix(adata: AnnData, matrix: sp.spmatrix | NDArray, key: str | None) -> None:
    """Write to `X`, or to a layer if `key` names one."""
    if key is None:
        adata.X = matrix
    else:
        adata.layers[key] = matrix


def values(matrix: sp.spmatrix | NDArray) -> NDArray:
    """Stored values of a sparse matrix, or all of a dense one, as a flat view."""
    return np.asarray(matrix.data) if sp.issparse(matrix) else matrix.reshape(-1)


def check_counts(
    matrix: sp.spmatrix | NDArray, *, what: str = "the matrix", allow_negative: bool = False
) -> None:
    """Refuse non-finite and, unless allowed, negative values, with how many there are."""
    flat = values(matrix)
    bad_sign = not_finite = 0
    floating = np.issubdtype(flat.dtype, np.floating)
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK]
        # NaN is neither below nor above: min and max show it without a temporary.
        low, high = part.min(), part.max()
        if floating and not (np.isfinite(low) and np.isfinite(high)):
            not_finite += int((~np.isfinite(part)).sum())
        if not allow_negative and not low >= 0:
            bad_sign += int((part < 0).sum())
    if not_finite:
        msg = f"{not_finite} values of {what} are NaN or infinite; replace or remove them first."
        raise ValueError(msg)
    if bad_sign:
        msg = f"{bad_sign} values of {what} are negative; counts are needed. Is this a scaled "
        msg += "matrix? Name the counts with `layer=`."
        raise ValueError(msg)


def column_sums(matrix: sp.spmatrix | NDArray) -> NDArray[np.float64]:
    """Sum of each feature over the cells, in double precision."""
    if not sp.issparse(matrix) or matrix.format == "csc":
        return np.asarray(matrix.sum(axis=0, dtype=np.float64)).reshape(-1)
    total = np.zeros(matrix.shape[1])
    for start in range(0, matrix.nnz, BLOCK):
        part = slice(start, start + BLOCK)
        total = total + np.bincount(
            matrix.indices[part], weights=matrix.data[part], minlength=total.size
        )
    return total


def row_sums(matrix: sp.spmatrix | NDArray) -> NDArray[np.float64]:
    """Sum of each cell over the features, in double precision."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).reshape(-1)


def name_some(names: NDArray | list, limit: int = 5) -> str:
    """Write the first names of a list for a message."""
    shown = ", ".join(repr(str(name)) for name in list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def by_row_blocks(
    matrix: sp.csr_matrix, per_row: NDArray, work: Callable[[slice, NDArray], None]
) -> None:
    """Call `work` with slices of the stored values and `per_row` repeated for each value."""
    indptr = matrix.indptr
    first = 0
    while first < matrix.shape[0]:
        # As many whole rows as fit in a block, but at least one.
        last = int(np.searchsorted(indptr, indptr[first] + BLOCK, side="right")) - 1
        last = min(max(last, first + 1), matrix.shape[0])
        repeated = np.repeat(per_row[first:last], np.diff(indptr[first : last + 1]))
        work(slice(int(indptr[first]), int(indptr[last])), repeated)
        first = last
