"""Which cells a comparison compares, and statistics of their counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

# Cells whose counts are held at once
_CELLS_PER_BLOCK = 2048
_NORMALISED_DEPTH = 1e4


class Comparison(NamedTuple):
    """Two groups of cells.

    Parameters
    ----------
    cells
        Sorted positions of the cells of each group.
    names
        Names of the groups, ``None`` where cells were given.
    """

    cells: tuple[np.ndarray, np.ndarray]
    names: tuple[Any, Any] | None


def resolve_groups(
    adata: Any,
    groupby: str | None = None,
    group1: Any = None,
    group2: Any = None,
    idx1: Any = None,
    idx2: Any = None,
) -> list[Comparison]:
    """Return the comparisons that are asked for, as `scvi-tools` reads these arguments.

    Raises
    ------
    IndexError
        If a position lies outside the object.
    KeyError
        If `groupby` is not found.
    ValueError
        If a group is unknown or empty, or neither groups nor cells are given.
    """
    if idx1 is not None:
        first = _positions(adata, idx1, "idx1")
        second = (
            np.setdiff1d(np.arange(adata.n_obs), first)
            if idx2 is None
            else _positions(adata, idx2, "idx2")
        )
        if len(second) == 0:
            msg = "idx1 holds all cells, so that none is left to compare with. Give idx2."
            raise ValueError(msg)
        return [Comparison((first, second), None)]
    if groupby is None:
        msg = "Give `groupby`, a column of obs that holds groups, or the cells as `idx1`."
        raise ValueError(msg)
    column = _find_column(adata, groupby)
    known = list(column.astype("category").cat.categories)
    wanted = known if group1 is None else _as_list(group1)
    if len(known) < 2:
        msg = f"groupby={groupby!r} holds the single group {known}; there is none to compare with."
        raise ValueError(msg)
    values = column.to_numpy()
    others = None if group2 is None else _members(values, group2, known, groupby, "group2")
    comparisons = []
    for name in wanted:
        first = _members(values, name, known, groupby, "group1")
        rest = np.flatnonzero(np.asarray(values != name)) if others is None else others
        if len(rest) == 0:
            msg = f"No cell lies outside group1={name!r}: there is nothing to compare with."
            raise ValueError(msg)
        comparisons.append(Comparison((first, rest), (name, "Rest" if group2 is None else group2)))
    return comparisons


def _as_list(groups: str | Iterable[Any]) -> list[Any]:
    return [groups] if isinstance(groups, str) or not np.iterable(groups) else list(groups)


def _find_column(adata: Any, groupby: str) -> pd.Series:
    modalities = getattr(adata, "mod", {})
    places = {"obs": adata} | {f"[{name!r}].obs": part for name, part in modalities.items()}
    for place in places.values():
        if groupby in place.obs.columns:
            return place.obs[groupby]
    searched = "; ".join(
        f"{name} holds {', '.join(map(repr, place.obs.columns[:10])) or 'no columns'}"
        for name, place in places.items()
    )
    msg = f"groupby={groupby!r} was not found. Searched: {searched}."
    raise KeyError(msg)


def _members(
    values: np.ndarray, name: Any, known: list[Any], groupby: str, argument: str
) -> np.ndarray:
    if name not in known:
        listing = ", ".join(map(repr, known[:30]))
        msg = f"{argument}={name!r} is no group of {groupby!r}; its groups are {listing}."
        raise ValueError(msg)
    cells = np.flatnonzero(np.asarray(values == name))
    if len(cells) == 0:
        msg = f"{argument}={name!r} of {groupby!r} is empty: no cell belongs to this category."
        raise ValueError(msg)
    return cells


def _positions(adata: Any, wanted: Any, argument: str) -> np.ndarray:
    """Return sorted positions from positions, a mask, or a query of ``obs``."""
    n_cells = adata.n_obs
    if isinstance(wanted, str):
        cells = np.flatnonzero(adata.obs_names.isin(adata.obs.query(wanted).index))
    else:
        given = np.asarray(wanted).ravel()
        if given.dtype == bool:
            if len(given) != n_cells:
                msg = f"{argument} is a mask of {len(given)} values for {n_cells} cells."
                raise ValueError(msg)
            given = np.flatnonzero(given)
        cells = np.unique(given.astype(np.int64))
    if len(cells) == 0:
        msg = f"{argument} selects no cell."
        raise ValueError(msg)
    if cells[0] < 0 or cells[-1] >= n_cells:
        msg = f"{argument} reaches from {cells[0]} to {cells[-1]}; there are {n_cells} cells."
        raise IndexError(msg)
    return cells


class _Sums(NamedTuple):
    n_cells: int
    counts: np.ndarray
    n_positive: np.ndarray
    normalised: np.ndarray


def raw_statistics(
    matrix: Any,
    columns: np.ndarray | None,
    groups: tuple[np.ndarray, np.ndarray],
    kind: Literal["rna", "atac"],
) -> dict[str, Any]:
    """Return statistics of the counts of two groups, under the names of scvi-tools.

    Cells without any counts in the modality were not measured there and do not take part. The
    matrix is read in blocks of cells and stays sparse.

    Parameters
    ----------
    matrix
        Counts (cells, features).
    columns
        Columns of the modality; all when ``None``.
    groups
        Positions of the cells of each group.
    kind
        Modality.

    Returns
    -------
    ``raw_mean1`` ... ``raw_normalized_mean2`` of RNA, ``emp_mean1``, ``emp_mean2`` and
    ``emp_effect`` of ATAC, and ``counts_per_cell``, the mean counts of both groups.
    """
    one, two = (_sums(matrix, columns, cells) for cells in groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_cell = [part.counts / part.n_cells for part in (one, two)]
        positive = [part.n_positive / part.n_cells for part in (one, two)]
        normalised = [part.normalised / part.n_cells for part in (one, two)]
    if kind == "atac":
        return {
            "counts_per_cell": per_cell,
            "emp_mean1": positive[0],
            "emp_mean2": positive[1],
            "emp_effect": positive[0] - positive[1],
        }
    return {
        "counts_per_cell": per_cell,
        "raw_mean1": per_cell[0],
        "raw_mean2": per_cell[1],
        "non_zeros_proportion1": positive[0],
        "non_zeros_proportion2": positive[1],
        "raw_normalized_mean1": normalised[0],
        "raw_normalized_mean2": normalised[1],
    }


def _sums(matrix: Any, columns: np.ndarray | None, cells: np.ndarray) -> _Sums:
    n_features = matrix.shape[1] if columns is None else len(columns)
    counts, n_positive, normalised = (np.zeros(n_features) for _ in range(3))
    n_cells = 0
    for start in range(0, len(cells), _CELLS_PER_BLOCK):
        block = sp.csr_matrix(matrix[cells[start : start + _CELLS_PER_BLOCK]])
        if columns is not None:
            block = block[:, columns]
        depth = np.asarray(block.sum(1)).ravel()
        n_cells += int((depth > 0).sum())
        scale = _NORMALISED_DEPTH / np.maximum(depth, 1e-12)
        weights = block.data * np.repeat(scale, np.diff(block.indptr))
        counts += np.bincount(block.indices, block.data, n_features)
        n_positive += np.bincount(block.indices, block.data != 0, n_features)
        normalised += np.bincount(block.indices, weights, n_features)
    return _Sums(n_cells, counts, n_positive, normalised)
