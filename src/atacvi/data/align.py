"""Bring the modalities of a MuData to the same cells in the same order."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._compat import layer_names, without_pull
from atacvi.data.checks import check_modalities, check_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

__all__ = ["align_obs", "build_mudata"]


def align_obs(
    mdata: MuData,
    modalities: Sequence[str] | None = None,
    join: Literal["inner", "outer"] = "inner",
) -> MuData:
    """Return a MuData whose modalities hold the same cells in the same order.

    The order is that of the first modality; with ``join="outer"`` the cells that it lacks follow in
    the order of the others. An added cell is a row of zeros in the modality that lacks it, with
    missing values in ``obs`` and NaN in ``obsm``; such mosaic data are set up with
    ``allow_missing=True``.

    Parameters
    ----------
    mdata
        Multimodal data in memory; not changed.
    modalities
        Modalities to align, and to keep; ``None`` takes all.
    join
        ``"inner"`` keeps the cells that all modalities hold, ``"outer"`` all cells.

    Returns
    -------
    New MuData. Its bool columns ``obs["has_<modality>"]`` tell which cells the modality held.
    Columns of ``mdata.obs``, ``obsm`` and ``uns`` are kept; ``obsp`` is kept where no cell was
    added.

    Raises
    ------
    KeyError
        If a modality is missing.
    ValueError
        If cell names are duplicated, no cell is shared, or `join` is unknown.

    Examples
    --------
    >>> import anndata, mudata, numpy as np, pandas as pd
    >>> from atacvi.data import align_obs
    >>> rna = anndata.AnnData(np.ones((2, 1)), obs=pd.DataFrame(index=["a", "b"]))
    >>> atac = anndata.AnnData(np.ones((2, 1)), obs=pd.DataFrame(index=["c", "b"]))
    >>> atac.var_names = ["chr1:1-5"]
    >>> mdata = mudata.MuData({"rna": rna, "atac": atac})
    >>> align_obs(mdata).obs_names.tolist()
    ['b']
    >>> align_obs(mdata, join="outer").obs["has_atac"].tolist()
    [False, True, True]
    """
    if join not in ("inner", "outer"):
        msg = f"join={join!r}; use 'inner' (shared cells) or 'outer' (all cells)"
        raise ValueError(msg)
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_modalities(mdata, dict(zip(names, names, strict=True)))
    for name in names:
        check_names(mdata.mod[name], f'mdata["{name}"]')
    cells = _joined_names([mdata.mod[name].obs_names for name in names], join)
    if len(cells) == 0:
        found = {name: mdata.mod[name].obs_names[:2].tolist() for name in names}
        msg = (
            f"the modalities share no cell; their first names are {found}. Rename the cells so "
            "that "
            "the same cell has the same name, or join='outer' for unpaired data"
        )
        raise ValueError(msg)
    aligned = {name: _take_cells(mdata.mod[name], cells) for name in names}
    out = build_mudata(aligned)
    for name in names:
        out.obs[f"has_{name}"] = _was_measured(mdata, name, cells)
    _copy_shared_slots(mdata, out, cells)
    return out


def build_mudata(modalities: dict[str, AnnData]) -> MuData:
    """Make a MuData without copying columns of the modalities into its own ``obs`` and ``var``.

    Parameters
    ----------
    modalities
        Annotated matrices by name, with the same cells.

    Returns
    -------
    MuData of these very objects.
    """
    import mudata

    with without_pull():
        return mudata.MuData(modalities)


def _joined_names(names: Sequence[pd.Index], join: str) -> pd.Index:
    joined = names[0]
    for other in names[1:]:
        shared = joined.isin(other)
        joined = joined[shared] if join == "inner" else joined.append(other[~other.isin(joined)])
    return joined


def _was_measured(mdata: MuData, name: str, cells: pd.Index) -> np.ndarray:
    """Whether a modality held the cells, not counting rows that an earlier alignment added."""
    held = cells.isin(mdata.mod[name].obs_names)
    column = f"has_{name}"
    if column in mdata.obs and mdata.obs[column].dtype == bool:
        held &= mdata.obs[column].reindex(cells, fill_value=True).to_numpy()
    return held


def _reindex_obs(obs: pd.DataFrame, cells: pd.Index) -> pd.DataFrame:
    """Rows of cells, missing values for those that are not there."""
    if cells.isin(obs.index).all():
        return obs.reindex(cells)
    # a bool column with NaN would become one of objects, which no file format takes
    flags = obs.select_dtypes("bool").columns
    return obs.astype(dict.fromkeys(flags, "boolean")).reindex(cells)


def _take_cells(adata: AnnData, cells: pd.Index) -> AnnData:
    import anndata

    position = adata.obs_names.get_indexer(cells)
    present = position >= 0
    if present.all():
        return adata[position].copy()
    obsm = {key: _take_rows_nan(adata.obsm[key], cells, position) for key in adata.obsm}
    return anndata.AnnData(
        None if adata.X is None else _take_rows(adata.X, position),
        obs=_reindex_obs(adata.obs, cells),
        var=adata.var.copy(),
        layers={key: _take_rows(adata.layers[key], position) for key in layer_names(adata)},
        obsm={key: value for key, value in obsm.items() if value is not None},
        varm=deepcopy(dict(adata.varm)),
        varp=deepcopy(dict(adata.varp)),
        uns=deepcopy(dict(adata.uns)),
    )


def _take_rows(matrix: Any, position: np.ndarray) -> Any:
    """Rows by position, zeros where it is -1."""
    present = position >= 0
    if not sp.issparse(matrix):
        out = np.zeros((len(position), matrix.shape[1]), dtype=matrix.dtype)
        out[present] = np.asarray(matrix)[position[present]]
        return out
    taken = matrix.tocsr()[position[present]]
    n_stored = np.zeros(len(position), dtype=taken.indptr.dtype)
    n_stored[present] = np.diff(taken.indptr)
    indptr = np.concatenate([[0], np.cumsum(n_stored)])
    shape = (len(position), matrix.shape[1])
    return type(taken)((taken.data, taken.indices, indptr), shape=shape)


def _take_rows_nan(value: Any, cells: pd.Index, position: np.ndarray) -> Any:
    """Rows of cells, NaN where the position is -1; ``None`` for what cannot hold NaN (sparse)."""
    if isinstance(value, pd.DataFrame):
        return value.reindex(cells)
    if sp.issparse(value):
        return None
    array = np.asarray(value)
    dtype = array.dtype if array.dtype.kind == "f" else np.float64
    out = np.full((len(position), *array.shape[1:]), np.nan, dtype=dtype)
    out[position >= 0] = array[position[position >= 0]]
    return out


def _copy_shared_slots(mdata: MuData, out: MuData, cells: pd.Index) -> None:
    """Copy what belongs to the MuData itself, not to a modality."""
    shared = _reindex_obs(mdata.obs, cells)
    for column in shared.columns:
        if column not in out.obs.columns:
            out.obs[column] = shared[column]
    position = mdata.obs_names.get_indexer(cells)
    for key in mdata.obsm:
        # a MuData keeps a bool mask of the cells of each modality under its name
        if key not in mdata.mod:
            out.obsm[key] = mdata.obsm[key][position]
    for key, value in mdata.uns.items():
        out.uns[key] = deepcopy(value)
