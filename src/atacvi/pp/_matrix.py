"""Entry to the preprocessing functions: which object, which matrix, and is it sound."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from atacvi.data import check_counts, get_matrix

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


def checked_matrix(
    adata: AnnData, layer: str | None, *, allow_negative: bool = False
) -> sp.spmatrix | NDArray:
    """Give `X` or a layer as a CSR/CSC matrix or a dense array, without copying sound ones.

    Sparse arrays become sparse matrices, which the readers and models of this package take.
    Values that are not finite are refused and, unless allowed, negative ones; fractions pass.
    """
    name = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    matrix = get_matrix(adata, layer, "adata")
    if sp.issparse(matrix):
        matrix = sp.csc_matrix(matrix) if matrix.format == "csc" else sp.csr_matrix(matrix)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()  # an entry stored in two parts is their sum
    elif isinstance(matrix, np.ndarray):
        matrix = np.asarray(matrix)
    else:
        msg = f"{name} is of type {type(matrix).__name__}; a NumPy array or a SciPy sparse matrix "
        msg += "is needed. If the file is backed, load it with `adata = adata.to_memory()`; if "
        msg += "there is no `X`, name the matrix to use with `layer=`."
        raise TypeError(msg)
    names = {"obs_names": adata.obs_names, "var_names": adata.var_names}
    check_counts(matrix, name, integer=False, allow_negative=allow_negative, **names)
    return matrix


def set_matrix(adata: AnnData, matrix: sp.spmatrix | NDArray, key: str | None) -> None:
    """Write to `X`, or to a layer if `key` names one."""
    if key is None:
        adata.X = matrix
    else:
        adata.layers[key] = matrix


def values(matrix: sp.spmatrix | NDArray) -> NDArray:
    """Stored values of a sparse matrix, or all of a dense one, as a flat view."""
    return np.asarray(matrix.data) if sp.issparse(matrix) else matrix.reshape(-1)


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
