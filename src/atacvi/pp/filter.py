"""Choose features by the number of cells in which they are seen."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from atacvi._compat import without_pull

from ._matrix import checked_matrix, column_sums, get_modality

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def filter_features(
    data: AnnData | MuData,
    *,
    min_cells: int | None = None,
    max_cells: int | None = None,
    min_fraction: float | None = None,
    max_fraction: float | None = None,
    min_counts: float | None = None,
    layer: str | None = None,
    subset: bool = True,
    modality: str = "atac",
    copy: bool = False,
) -> AnnData | MuData | None:
    """Keep features that are seen in enough, and not in too many, cells.

    All limits are inclusive and a feature must meet all that are given. The rule of scMVP
    (Li et al. 2022) is `min_fraction=1e-3, max_fraction=0.1`; the upper limit removes the peaks
    open in most cells, many of them promoters.

    Parameters
    ----------
    data
        Annotated data, or a MuData of which `modality` is used.
    min_cells, max_cells
        Least and greatest number of cells with a value above 0.
    min_fraction, max_fraction
        The same as a fraction of the cells, in [0, 1].
    min_counts
        Least total count.
    layer
        Layer with the counts; `X` by default.
    subset
        Remove the features; otherwise only mark those kept in `var["selected"]`.
    modality
        Modality of a MuData.
    copy
        Return a changed copy and leave `data` alone.

    Returns
    -------
    `None`, or the changed copy with `copy=True`. `var` gains `n_cells` and `total_counts`.

    Raises
    ------
    KeyError
        If the layer or the modality does not exist.
    ValueError
        If no limit is given, a limit is out of range, limits contradict each other, no feature
        would be left, or a value is negative or not finite.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> atacvi.pp.filter_features(mdata, min_cells=3, max_fraction=0.5)
    >>> int(mdata["atac"].var["n_cells"].max()) <= 30
    True
    """
    limits = {
        "min_cells": min_cells,
        "max_cells": max_cells,
        "min_fraction": min_fraction,
        "max_fraction": max_fraction,
        "min_counts": min_counts,
    }
    _check_limits(limits)
    data = data.copy() if copy else data
    adata = get_modality(data, modality)
    counts = checked_matrix(adata, layer)
    n_cells, total = _cells_per_feature(counts), column_sums(counts)
    keep = _within(n_cells, min_cells, max_cells) & _within(total, min_counts, None)
    keep &= _within(n_cells / max(1, counts.shape[0]), min_fraction, max_fraction)
    if not keep.any():
        given = {name: limit for name, limit in limits.items() if limit is not None}
        msg = f"No feature of {keep.size} meets {given}; they are seen in {n_cells.min()} to "
        msg += f"{n_cells.max()} of {counts.shape[0]} cells: loosen the limits."
        raise ValueError(msg)
    adata.var["n_cells"] = n_cells
    adata.var["total_counts"] = total
    logger.info("%d of %d features kept.", keep.sum(), keep.size)
    if not subset:
        adata.var["selected"] = keep
    elif not keep.all():
        adata._inplace_subset_var(keep)
        if adata is not data:
            with without_pull():
                data.update()
    return data if copy else None


def _check_limits(limits: dict[str, float | None]) -> None:
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        msg = f"No limit is given; name at least one of {list(limits)}."
        raise ValueError(msg)
    for name, limit in given.items():
        top = 1.0 if name.endswith("fraction") else np.inf
        if not 0 <= limit <= top:
            msg = f"`{name}` is {limit}; it must lie in [0, {top:g}]."
            raise ValueError(msg)
    for unit in ("cells", "fraction"):
        low, high = given.get(f"min_{unit}"), given.get(f"max_{unit}")
        if low is not None and high is not None and low > high:
            msg = f"`min_{unit}`={low} is above `max_{unit}`={high}: no feature can meet both."
            raise ValueError(msg)


def _cells_per_feature(counts: sp.spmatrix | NDArray) -> NDArray[np.int64]:
    """Number of cells with a value above zero; stored zeros do not count."""
    if not sp.issparse(counts):
        return np.asarray((counts > 0).sum(axis=0)).reshape(-1)
    if not counts.data.all():
        counts = counts > 0
    return np.asarray(counts.getnnz(axis=0), dtype=np.int64)


def _within(value: NDArray, low: float | None, high: float | None) -> NDArray[np.bool_]:
    keep = np.ones(value.shape, dtype=bool)
    if low is not None:
        keep &= value >= low
    if high is not None:
        keep &= value <= high
    return keep
