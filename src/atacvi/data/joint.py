"""One AnnData with genes and peaks, to and from a MuData."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from atacvi._compat import layer_names
from atacvi._constants import (
    ATAC,
    ATAC_FEATURE_TYPES,
    FEATURE_TYPE_COLUMNS,
    RNA,
    RNA_FEATURE_TYPES,
)
from atacvi.data._messages import examples
from atacvi.data.align import build_mudata
from atacvi.data.checks import check_key, check_modalities, check_names, check_paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

__all__ = ["concat_modalities", "feature_modalities", "split_modalities"]


def feature_modalities(adata: AnnData, by: str | None = None) -> dict[str, np.ndarray]:
    """Find the genes and the peaks of one AnnData.

    Parameters
    ----------
    adata
        Annotated matrix of genes and peaks.
    by
        Column of ``var`` that tells them apart, such as ``feature_types`` of 10x (``Gene
        Expression``, ``Peaks``) or ``modality`` (``rna``, ``atac``); ``None`` takes the first of
        these two there is.

    Returns
    -------
    Masks of shape (features,) for ``"rna"`` and ``"atac"``. Features of other types are in neither.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there are no genes or no peaks.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.data import feature_modalities
    >>> var = pd.DataFrame({"modality": ["rna", "atac"]}, index=["g", "chr1:1-5"])
    >>> feature_modalities(anndata.AnnData(np.ones((1, 2)), var=var))["atac"].tolist()
    [False, True]
    """
    if by is None:
        by = next((c for c in FEATURE_TYPE_COLUMNS if c in adata.var), FEATURE_TYPE_COLUMNS[0])
    types = check_key(adata, "var", by, "adata", argument="by").astype(str)
    masks = {
        RNA: types.isin(RNA_FEATURE_TYPES).to_numpy(),
        ATAC: types.isin(ATAC_FEATURE_TYPES).to_numpy(),
    }
    allowed = {RNA: RNA_FEATURE_TYPES, ATAC: ATAC_FEATURE_TYPES}
    for name, mask in masks.items():
        if not mask.any():
            msg = (
                f"adata.var[{by!r}] names no {name} feature: it holds {examples(types.unique())}; "
                f"{name} features are those with one of {sorted(allowed[name])}"
            )
            raise ValueError(msg)
    return masks


def split_modalities(adata: AnnData, by: str | None = None) -> MuData:
    """Split one AnnData of genes and peaks into a MuData.

    Parameters
    ----------
    adata
        Annotated matrix of genes and peaks; not changed.
    by
        Column of ``var`` that tells them apart, see :func:`feature_modalities`.

    Returns
    -------
    MuData with ``"rna"`` and ``"atac"``; the columns of ``obs`` stand in ``mdata.obs``, ``obsm``
    and ``uns`` in the MuData as well. Features of other types are left out.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there are no genes or no peaks, or names are duplicated.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.data import split_modalities
    >>> var = pd.DataFrame({"modality": ["rna", "atac"]}, index=["g", "chr1:1-5"])
    >>> split_modalities(anndata.AnnData(np.ones((1, 2)), var=var))["atac"].shape
    (1, 1)
    """
    check_names(adata, "adata")
    parts = {}
    for name, mask in feature_modalities(adata, by).items():
        part = adata[:, mask].copy()
        part.obs = part.obs.iloc[:, :0]
        part.uns = {}
        for key in list(part.obsm):
            del part.obsm[key]
        for key in list(part.obsp):
            del part.obsp[key]
        parts[name] = part
    mdata = build_mudata(parts)
    for column in adata.obs.columns:
        mdata.obs[column] = adata.obs[column]
    for key in adata.obsm:
        mdata.obsm[key] = adata.obsm[key].copy()
    for key in adata.obsp:
        mdata.obsp[key] = adata.obsp[key].copy()
    mdata.uns.update(deepcopy(dict(adata.uns)))
    return mdata


def concat_modalities(mdata: MuData, modalities: Sequence[str] = (RNA, ATAC)) -> AnnData:
    """Join the modalities of a MuData side by side into one AnnData.

    Parameters
    ----------
    mdata
        Multimodal data with the same cells in the same order; not changed.
    modalities
        Modalities to join, in this order.

    Returns
    -------
    AnnData (cells, features of all modalities) whose ``var["modality"]`` tells them apart. Layers
    that all modalities have are joined as well; ``obs``, ``obsm`` and ``uns`` are those of `mdata`,
    with the columns of the modalities that ``mdata.obs`` does not have.

    Raises
    ------
    KeyError
        If a modality is missing.
    ValueError
        If cells differ, or feature names occur in several modalities.

    Examples
    --------
    >>> import anndata, mudata, numpy as np
    >>> from atacvi.data import concat_modalities
    >>> rna, atac = anndata.AnnData(np.ones((2, 1))), anndata.AnnData(np.ones((2, 3)))
    >>> rna.var_names, atac.var_names = ["g"], ["chr1:1-5", "chr1:7-9", "chr2:1-5"]
    >>> concat_modalities(mudata.MuData({"rna": rna, "atac": atac})).var["modality"].tolist()
    ['rna', 'atac', 'atac', 'atac']
    """
    import anndata
    import pandas as pd

    names = list(modalities)
    check_modalities(mdata, dict(zip(names, names, strict=True)))
    check_paired(mdata, names)
    parts = [mdata.mod[name] for name in names]
    var = _writable(
        pd.concat([part.var.assign(modality=name) for name, part in zip(names, parts, strict=True)])
    )
    shared_layers = [
        key for key in layer_names(parts[0]) if all(key in layer_names(p) for p in parts)
    ]
    joint = anndata.AnnData(
        _hstack([part.X for part in parts]),
        obs=mdata.obs.copy(),
        var=var,
        layers={key: _hstack([part.layers[key] for part in parts]) for key in shared_layers},
        obsm={key: mdata.obsm[key].copy() for key in mdata.obsm if key not in mdata.mod},
        uns=deepcopy(dict(mdata.uns)),
    )
    for part in parts:
        for column in part.obs.columns.difference(joint.obs.columns, sort=False):
            joint.obs[column] = part.obs[column]
    check_names(joint, "concat_modalities(mdata)")
    return joint


def _writable(var: pd.DataFrame) -> pd.DataFrame:
    """Give bool columns that only one modality has a type that HDF5 can store."""
    for column in var.columns:
        values = var[column]
        known = values.dropna()
        if values.dtype == object and len(known) and all(isinstance(v, bool) for v in known):
            var[column] = values.astype("boolean")
    return var


def _hstack(matrices: list) -> object:
    import scipy.sparse as sp

    if any(sp.issparse(matrix) for matrix in matrices):
        return sp.csr_matrix(sp.hstack(matrices, format="csr"))
    return np.hstack(matrices)
