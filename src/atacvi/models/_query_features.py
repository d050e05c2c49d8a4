"""Give a query the features of a reference: genes by name, peaks by overlap."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC, RNA
from atacvi.data import concat_modalities, project_regions, split_modalities
from atacvi.data.align import build_mudata
from atacvi.data.checks import get_matrix

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from atacvi.models._setup import Features

logger = logging.getLogger(__name__)


def check_features(query: AnnData | MuData, reference: Any, *, inplace: bool = False) -> None:
    """Raise unless a query holds the features of the reference in their order.

    Parameters
    ----------
    query
        Query data.
    reference
        Names of features; by modality for MuData.
    inplace
        Bring the features of an AnnData into order first.

    Raises
    ------
    TypeError
        If the reference is of the other kind, MuData or AnnData.
    ValueError
        If features differ.
    """
    is_mudata = hasattr(query, "mod")
    if is_mudata != isinstance(reference, dict):
        kinds = ("a MuData", "an AnnData") if is_mudata else ("an AnnData", "a MuData")
        msg = f"The query is {kinds[0]}, but the reference was trained on {kinds[1]}."
        raise TypeError(msg)
    if not is_mudata:
        if inplace and set(reference) <= set(query.var_names):
            query._inplace_subset_var(np.asarray(reference))
        _check_names(query.var_names, reference, "adata", "prepare_query_anndata")
        return
    if inplace:
        msg = (
            "inplace_subset_query_vars=True works for AnnData only. Call "
            "`prepare_query_mudata(mdata, reference_model)` in its place."
        )
        raise ValueError(msg)
    for name, names in reference.items():
        if name not in query.mod:
            msg = (
                f"The query has no modality {name!r}; it holds {', '.join(query.mod)}. "
                "`prepare_query_mudata(mdata, reference_model)` adds it, empty."
            )
            raise ValueError(msg)
        _check_names(query[name].var_names, names, f"mdata[{name!r}]", "prepare_query_mudata")


def _check_names(found: pd.Index, wanted: Any, where: str, how: str) -> None:
    wanted = pd.Index(np.asarray(wanted, dtype=object))
    found = pd.Index(np.asarray(found, dtype=object))
    if found.equals(wanted):
        return
    n_shared = int(wanted.isin(found).sum())
    what = "but in another order, or with others" if n_shared == len(wanted) else "by name"
    msg = (
        f"{where} holds {n_shared} of the reference's {len(wanted)} features {what} (it holds "
        f"{len(found)}; query {found[0]!r}, reference {wanted[0]!r}). "
        f"`{how}(query, reference_model)` brings genes into order and projects "
        "peaks onto those of the reference by their overlap."
    )
    raise ValueError(msg)


def prepare_mudata(
    mdata: MuData,
    setup: dict[str, Any],
    features: Features,
    var_names: Any,
    *,
    names_only: bool = False,
    project_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Return the query with the reference's features; see the model's method.

    Raises
    ------
    TypeError
        If the reference was trained on an AnnData.
    ValueError
        If nothing of the query matches the reference.
    """
    if not isinstance(var_names, dict):
        msg = "The reference was trained on an AnnData: use `prepare_query_anndata`."
        raise TypeError(msg)
    if names_only:
        return {name: pd.Index(names) for name, names in var_names.items()}
    if len(features.genes) == 0:
        return _prepare_peaks_of(mdata, setup, features, project_kwargs or {})
    where = {"rna_layer": RNA, "atac_layer": ATAC, **(setup.get("modalities") or {})}
    rna, atac = where["rna_layer"], where["atac_layer"]
    if rna not in mdata.mod and atac not in mdata.mod:
        msg = f"The query has neither {rna!r} nor {atac!r}; it holds {', '.join(mdata.mod)}."
        raise ValueError(msg)
    parts = {
        rna: _genes(mdata, rna, features.genes, setup.get("rna_layer")),
        atac: _peaks(mdata, atac, features, setup.get("atac_layer"), project_kwargs or {}),
    }
    out = build_mudata(parts)
    for column in mdata.obs.columns:
        out.obs[column] = mdata.obs[column].reindex(out.obs_names)
    return out


def prepare_anndata(
    adata: AnnData,
    setup: dict[str, Any],
    features: Features,
    var_names: Any,
    *,
    names_only: bool = False,
    project_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Return the query with the reference's features; see the model's method.

    Raises
    ------
    TypeError
        If the reference was trained on a MuData.
    ValueError
        If nothing of the query matches the reference.
    """
    if isinstance(var_names, dict):
        msg = "The reference was trained on a MuData: use `prepare_query_mudata`."
        raise TypeError(msg)
    if names_only:
        return pd.Index(var_names)
    layer = setup.get("layer")
    if len(features.genes) == 0:
        return _place_peaks(adata, features, layer, project_kwargs or {})
    layers = {"rna_layer": layer, "atac_layer": layer}
    mdata = prepare_mudata(
        split_modalities(adata), layers, features, {RNA: [], ATAC: []},
        project_kwargs=project_kwargs,
    )  # fmt: skip
    joint = concat_modalities(mdata)
    order = pd.Index(np.asarray(joint.var_names, dtype=object)).get_indexer(var_names)
    if (order < 0).any():
        joint = _pad(joint, np.asarray(var_names, dtype=object), layer)
        joint.var["modality"] = "other"
        joint.var.loc[features.genes, "modality"] = RNA
        joint.var.loc[features.peaks, "modality"] = ATAC
        return joint
    return joint[:, order].copy()


def peak_modality(setup: dict[str, Any]) -> str:
    """Return the modality of the peaks of a model that reads nothing else."""
    return {"layer": ATAC, **(setup.get("modalities") or {})}["layer"]


def _prepare_peaks_of(
    mdata: MuData, setup: dict[str, Any], features: Features, project_kwargs: dict[str, Any]
) -> MuData:
    """Return the query with its peaks projected and everything else as it is."""
    import mudata

    name = peak_modality(setup)
    if name not in mdata.mod:
        msg = f"The query has no modality {name!r}; it holds {', '.join(mdata.mod)}."
        raise ValueError(msg)
    peaks = _place_peaks(mdata[name], features, setup.get("layer"), project_kwargs)
    parts = {key: peaks if key == name else value.copy() for key, value in mdata.mod.items()}
    out = mudata.MuData(parts)
    for column in mdata.obs.columns:
        out.obs[column] = mdata.obs[column].reindex(out.obs_names)
    for key in set(mdata.obsm) - set(mdata.mod):
        out.obsm[key] = mdata[out.obs_names].obsm[key]
    return out


def _peak_table(features: Features) -> pd.DataFrame:
    var = pd.DataFrame(index=pd.Index(features.peaks, dtype=object))
    if features.regions is not None:
        for column in features.regions.columns:
            var[column] = features.regions[column].to_numpy()
    return var


def _genes(mdata: MuData, name: str, genes: np.ndarray, layer: str | None) -> AnnData:
    if name not in mdata.mod:
        return _empty(mdata, pd.DataFrame(index=pd.Index(genes, dtype=object)), layer, name)
    return _pad(mdata[name], genes, layer)


def _peaks(
    mdata: MuData, name: str, features: Features, layer: str | None, project_kwargs: dict[str, Any]
) -> AnnData:
    var = _peak_table(features)
    if name not in mdata.mod:
        return _empty(mdata, var, layer, name)
    return _place_peaks(mdata[name], features, layer, project_kwargs)


def _place_peaks(
    query: AnnData, features: Features, layer: str | None, project_kwargs: dict[str, Any]
) -> AnnData:
    """Return counts in the reference's peaks, by name where all are known, else by overlap."""
    var = _peak_table(features)
    if var.index.isin(query.var_names).all():
        out = _pad(query, features.peaks, layer)
        out.var = var
        return out
    out = project_regions(query, var, layer=layer, **project_kwargs)
    if layer is not None:
        out.layers[layer] = out.X.copy()
    return out


def _empty(mdata: MuData, var: pd.DataFrame, layer: str | None, name: str) -> AnnData:
    import anndata

    logger.warning("The query has no modality %r: it is added without counts.", name)
    counts = sp.csr_matrix((mdata.n_obs, len(var)), dtype=np.float32)
    obs = pd.DataFrame(index=mdata.obs_names.copy())
    layers = {} if layer is None else {layer: counts.copy()}
    return anndata.AnnData(counts, obs=obs, var=var, layers=layers)


def _pad(query: AnnData, names: np.ndarray, layer: str | None) -> AnnData:
    """Return the counts of the named features in this order, without counts where unknown."""
    import anndata

    position = pd.Index(np.asarray(query.var_names, dtype=object)).get_indexer(names)
    known = np.flatnonzero(position >= 0)
    if len(known) == 0:
        msg = (
            f"None of the reference's {len(names)} features is in the query by name (query "
            f"{query.var_names[0]!r}, reference {names[0]!r})."
        )
        raise ValueError(msg)
    if len(known) < len(names):
        logger.warning("The query lacks %d of %d features.", len(names) - len(known), len(names))
    counts = sp.csr_matrix(get_matrix(query, layer, "query"))
    place = sp.csr_matrix(
        (np.ones(len(known), dtype=counts.dtype), (position[known], known)),
        shape=(query.n_vars, len(names)),
    )
    out = sp.csr_matrix(counts @ place)
    out.sort_indices()
    layers = {} if layer is None else {layer: out.copy()}
    var = pd.DataFrame(index=pd.Index(names, dtype=object))
    return anndata.AnnData(out, obs=query.obs.copy(), var=var, layers=layers)
