"""Checks of count matrices, streamed over blocks of rows so that nothing is densified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from atacvi.data._messages import N_EXAMPLES, examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Presence", "check_counts", "check_empty", "count_presence", "to_csr_matrix"]

_BLOCK_VALUES = 2**20
_COUNTS_HINT = "use raw counts, e.g. layer='counts'"


@dataclass(frozen=True)
class Presence:
    """Which cells and which features have at least one count.

    Parameters
    ----------
    cells
        bool of shape (cells,).
    features
        bool of shape (features,).

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from atacvi.data import count_presence
    >>> count_presence(csr_matrix(np.array([[1, 0], [2, 0]]))).features
    array([ True, False])
    """

    cells: np.ndarray
    features: np.ndarray


def check_counts(
    matrix: Any,
    name: str,
    *,
    obs_names: Sequence[str],
    var_names: Sequence[str],
    integer: bool = True,
    allow_negative: bool = False,
) -> None:
    """Refuse a matrix that does not hold counts.

    All values are looked at, in blocks of rows; backed matrices are read block by block. Counts
    stored as floats (``3.0``) are fine as they are: models work in float32, which holds whole
    numbers exactly (up to 2**24).

    Parameters
    ----------
    matrix
        Matrix (cells x features): ``csr_matrix``, ``csc_matrix``, dense, or backed.
    name
        What the matrix is called in messages, such as ``mdata["rna"].X``.
    obs_names, var_names
        Names of cells and features, for messages.
    integer
        Whether fractional values are refused.
    allow_negative
        Let negative values pass: a transformed matrix need only be finite.

    Raises
    ------
    TypeError
        If the matrix is a ``csr_array`` (scvi-tools cannot load it), lazy, or not numeric.
    ValueError
        If values are NaN, infinite, negative, fractional, or stored twice for one cell and feature.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.data import check_counts
    >>> try:
    ...     check_counts(np.array([[1.0, -2.0]]), "X", obs_names=["c"], var_names=["g", "h"])
    ... except ValueError as error:
    ...     print(str(error).split(";")[0])
    X holds 1 negative value: -2.0 (cell 'c', feature 'h')
    """
    check_matrix_type(matrix, name)
    if matrix.shape != (len(obs_names), len(var_names)):
        msg = f"{name} has shape {matrix.shape}, not ({len(obs_names)}, {len(var_names)})"
        raise ValueError(msg)
    found: dict[str, list[tuple[float, int, int]]] = {}
    counts: dict[str, int] = {}
    for offset, block, transposed in iter_blocks(matrix):
        values = block.data if sp.issparse(block) else block
        for kind, bad in _bad_values(values, integer=integer, allow_negative=allow_negative):
            counts[kind] = counts.get(kind, 0) + int(bad.sum())
            if len(found.setdefault(kind, [])) < N_EXAMPLES:
                found[kind] += _locate(block, bad, offset, transposed=transposed)
    for kind, hint in _HINTS.items():
        if kind in counts:
            places = ", ".join(
                f"{value} (cell {str(obs_names[i])!r}, feature {str(var_names[j])!r})"
                for value, i, j in found[kind][:N_EXAMPLES]
            )
            plural, dots = ("s", ", ...") if counts[kind] > 1 else ("", "")
            dots = dots if counts[kind] > N_EXAMPLES else ""
            msg = f"{name} holds {counts[kind]} {kind} value{plural}: {places}{dots}; {hint}"
            raise ValueError(msg)
    _check_duplicates(matrix, name)


_HINTS = {
    "NaN or infinite": (
        "counts must be finite: replace these values or drop their cells or features"
    ),
    "negative": (
        f"counts must be 0 or more, so the matrix looks scaled or corrected: {_COUNTS_HINT}"
    ),
    "fractional": f"counts must be whole, so the matrix looks normalised: {_COUNTS_HINT}",
}


def count_presence(matrix: Any) -> Presence:
    """Find the cells and the features that have counts.

    Parameters
    ----------
    matrix
        Matrix (cells x features) of counts: sparse, dense, or backed.

    Returns
    -------
    Masks of the cells and of the features with a value other than 0.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.data import count_presence
    >>> count_presence(np.array([[0, 1], [0, 0]])).cells.tolist()
    [True, False]
    """
    cells, features = (np.zeros(n, dtype=bool) for n in matrix.shape)
    for offset, block, transposed in iter_blocks(matrix):
        major, minor = (features, cells) if transposed else (cells, features)
        rows = slice(offset, offset + block.shape[0])
        if not sp.issparse(block):
            major[rows] = (block != 0).any(axis=1)
            minor |= (block != 0).any(axis=0)
            continue
        stored = block.data != 0
        filled = np.concatenate([[0], np.cumsum(stored, dtype=np.int64)])
        major[rows] = filled[block.indptr[1:]] > filled[block.indptr[:-1]]
        minor[block.indices[stored]] = True
    return Presence(cells, features)


def check_empty(
    matrix: Any,
    name: str,
    *,
    obs_names: Sequence[str],
    var_names: Sequence[str],
    allow_empty_cells: bool = False,
    allow_empty_features: bool = False,
) -> Presence:
    """Refuse cells and features without any count, by name.

    Parameters
    ----------
    matrix
        Matrix (cells x features) of counts.
    name
        What the matrix is called in messages.
    obs_names, var_names
        Names of cells and features.
    allow_empty_cells
        Let empty cells pass: in mosaic data they lack the modality.
    allow_empty_features
        Let empty features pass: a query must keep all features of its reference.

    Returns
    -------
    Masks of the cells and of the features with counts.

    Raises
    ------
    ValueError
        If cells or features are empty and not allowed to be.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.data import check_empty
    >>> check_empty(np.eye(2), "X", obs_names=["a", "b"], var_names=["g", "h"]).cells.all()
    np.True_
    """
    presence = count_presence(matrix)
    if not allow_empty_cells and not presence.cells.all():
        msg = (
            f"{_listing(presence.cells, obs_names, 'cells')} in {name} have no counts; drop them, "
            "e.g. "
            "sc.pp.filter_cells(adata, min_counts=1) (for a MuData per modality, then "
            "mdata = atacvi.data.align_obs(mdata)). If these cells were not measured in this "
            "modality "
            "(mosaic data), allow it with allow_missing=True"
        )
        raise ValueError(msg)
    if not allow_empty_features and not presence.features.all():
        msg = (
            f"{_listing(presence.features, var_names, 'features')} in {name} have no counts; a "
            "model cannot learn them: drop them with atacvi.pp.filter_features(adata, "
            "min_cells=1), for a MuData "
            "atacvi.pp.filter_features(mdata, min_cells=1, modality=...)"
        )
        raise ValueError(msg)
    return presence


def to_csr_matrix(matrix: Any) -> sp.csr_matrix:
    """Turn any matrix into a canonical ``csr_matrix``, the one sparse type scvi-tools loads fast.

    Parameters
    ----------
    matrix
        ``csr_array``, ``csc_array``, any other scipy matrix, a dense array, or a backed matrix.

    Returns
    -------
    Matrix of the same shape and dtype; indices sorted, duplicates summed. The input is not changed;
    a canonical ``csr_matrix`` is returned as it is, and a ``csr_array`` shares its memory.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from atacvi.data import to_csr_matrix
    >>> type(to_csr_matrix(sp.csr_array(np.eye(2)))).__name__
    'csr_matrix'
    """
    if not sp.issparse(matrix) and not isinstance(matrix, np.ndarray):
        matrix = _in_memory(matrix)
    csr = sp.csr_matrix(matrix)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _in_memory(matrix: Any) -> Any:
    for method in ("to_memory", "compute"):
        if hasattr(matrix, method):
            return getattr(matrix, method)()
    return np.asarray(matrix[...] if hasattr(matrix, "shape") else matrix)


def check_matrix_type(matrix: Any, name: str) -> None:
    kind = type(matrix).__name__
    if isinstance(matrix, sp.sparray):
        msg = (
            f"{name} is a scipy {kind}, which scvi-tools cannot load; convert it without copying: "
            f"{name} = atacvi.data.to_csr_matrix({name})"
        )
        raise TypeError(msg)
    if sp.issparse(matrix) and matrix.format not in ("csr", "csc"):
        msg = (
            f"{name} is a scipy {kind}, whose rows cannot be read; convert it: "
            f"{name} = atacvi.data.to_csr_matrix({name})"
        )
        raise TypeError(msg)
    if matrix is None or type(matrix).__module__.split(".")[0] == "dask":
        found = "empty (None)" if matrix is None else "a lazy dask array"
        msg = f"{name} is {found}; give counts in memory or backed by a file (to_memory())"
        raise TypeError(msg)
    if not hasattr(matrix, "shape") or not hasattr(matrix, "dtype"):
        msg = f"{name} is a {kind}; use a scipy csr_matrix, a numpy array, or a backed matrix"
        raise TypeError(msg)
    if np.dtype(matrix.dtype).kind not in "buif":
        msg = f"{name} has dtype {matrix.dtype}; counts must be integers or floats"
        raise TypeError(msg)


def _check_duplicates(matrix: Any, name: str) -> None:
    """Refuse entries stored twice, which a dense view sums but sparse arithmetic does not."""
    if not sp.issparse(matrix) or matrix.has_canonical_format:
        return
    merged = matrix.copy()
    merged.sum_duplicates()
    if merged.nnz != matrix.nnz:
        msg = (
            f"{name} stores {matrix.nnz - merged.nnz} entries twice for one cell and feature; add "
            "them "
            f"up: {name} = atacvi.data.to_csr_matrix({name})"
        )
        raise ValueError(msg)


def iter_blocks(matrix: Any) -> Iterator[tuple[int, Any, bool]]:
    """Yield (first row, block, transposed): csr or dense blocks of rows, of columns for csc."""
    n_rows, n_columns = matrix.shape
    if isinstance(matrix, (sp.csr_matrix, sp.csc_matrix)):
        csr = matrix.T if matrix.format == "csc" else matrix
        for low, high in _row_ranges(csr.indptr):
            inside = slice(csr.indptr[low], csr.indptr[high])
            indptr = csr.indptr[low : high + 1] - csr.indptr[low]
            parts = (csr.data[inside], csr.indices[inside], indptr)
            block = sp.csr_matrix(parts, shape=(high - low, csr.shape[1]), copy=False)
            yield low, block, matrix.format == "csc"
        return
    step = max(1, _BLOCK_VALUES // max(1, n_columns))
    if getattr(matrix, "format", None) in ("csr", "csc") and not sp.issparse(matrix):
        # backed sparse: rows are cheap, and a few more at a time save reads
        step = max(step, 4096)
    for low in range(0, n_rows, step):
        block = matrix[low : min(low + step, n_rows)]
        yield low, sp.csr_matrix(block) if sp.issparse(block) else np.asarray(block), False


def _row_ranges(indptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut rows so that a block holds about `_BLOCK_VALUES` stored values, and at least one row."""
    low, n_rows = 0, len(indptr) - 1
    while low < n_rows:
        target = int(indptr[low]) + _BLOCK_VALUES
        high = int(np.searchsorted(indptr, target, side="right")) - 1
        high = min(max(high, low + 1), n_rows)
        yield low, high
        low = high


def _bad_values(
    values: np.ndarray, *, integer: bool, allow_negative: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each kind of bad value with its mask; cheap reductions decide the usual, clean case."""
    if values.size == 0 or values.dtype.kind in "bu":
        return
    low = values.min()
    if values.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(values.max())):
            finite = np.isfinite(values)
            yield "NaN or infinite", ~finite
            values = np.where(finite, values, 0)
            low = values.min()
        if integer:
            fractional = values != np.rint(values)
            if fractional.any():
                yield "fractional", fractional & (values >= 0)
    if low < 0 and not allow_negative:
        yield "negative", values < 0


def _locate(
    block: Any, bad: np.ndarray, offset: int, *, transposed: bool
) -> list[tuple[float, int, int]]:
    """Find value, cell and feature of the first bad values of a block."""
    if sp.issparse(block):
        positions = np.flatnonzero(bad)[:N_EXAMPLES]
        rows = np.searchsorted(block.indptr, positions, side="right") - 1
        columns, values = block.indices[positions], block.data[positions]
    else:
        rows, columns = (axis[:N_EXAMPLES] for axis in np.nonzero(bad))
        values = block[rows, columns]
    places = zip(values.tolist(), (rows + offset).tolist(), columns.tolist(), strict=True)
    return [(v, c, r) if transposed else (v, r, c) for v, r, c in places]


def _listing(present: np.ndarray, names: Sequence[str], what: str) -> str:
    missing = np.flatnonzero(~present)
    listed = examples((names[i] for i in missing[:N_EXAMPLES]), len(missing))
    return f"{len(missing)} of {len(present)} {what} ({listed})"
