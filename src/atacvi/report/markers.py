"""Features that tell a cluster from the others, and what the model imputes for them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi._constants import ATAC, MODALITIES, OBS_CLUSTERS, RNA, UNS_KEY

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

#: Table of the markers in ``mdata.uns["atacvi"]``
UNS_MARKERS = "markers"
#: Imputed values of the markers in ``obsm`` of each modality, a table (cells, markers)
OBSM_IMPUTED = "imputed_markers"
_COLUMNS = ("modality", "cluster", "rank", "feature", "score", "log2_fold_change", "p_adjusted")
_FEWEST = 3


def find_markers(
    mdata: MuData,
    layers: dict[str, str | None],
    groupby: str = OBS_CLUSTERS,
    n_markers: int = 5,
) -> pd.DataFrame:
    """Find the features of each modality that are highest in each cluster.

    Counts are scaled to the median depth and taken as ``log1p``; :func:`scanpy.tl.rank_genes_groups`
    compares each cluster with the rest by a t-test with overestimated variance. Clusters of fewer
    than 3 cells have no markers.

    Parameters
    ----------
    mdata
        Paired counts.
    layers
        Layer of the counts by modality; ``None`` is ``X``.
    groupby
        Column of ``mdata.obs`` with the clusters.
    n_markers
        Markers of a cluster and modality.

    Returns
    -------
    One row a marker: ``modality``, ``cluster``, ``rank`` (from 1), ``feature``, ``score`` (t),
    ``log2_fold_change`` and ``p_adjusted``.

    Raises
    ------
    KeyError
        If a modality or the column is missing.

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.report import find_markers
    >>> mdata = atacvi.datasets.simulate_multiome(90, 80, 200, 3, random_state=0)
    >>> markers = find_markers(mdata, {}, "cell_type", n_markers=2)
    >>> markers.groupby("modality").size().to_dict()
    {'atac': 6, 'rna': 6}
    """
    clusters = mdata.obs[groupby].astype("category")
    sizes = clusters.value_counts()
    groups = [str(name) for name in clusters.cat.categories if sizes[name] >= _FEWEST]
    tables = [pd.DataFrame(columns=list(_COLUMNS))]
    if len(groups) > 1:
        tables = [
            _rank(mdata[name], layers.get(name), clusters.astype(str), groups, n_markers, name)
            for name in MODALITIES
        ]
    return pd.concat(tables, ignore_index=True)


def impute_markers(model: Any, mdata: MuData, markers: pd.DataFrame) -> None:
    """Write what the model imputes for the markers into the data.

    ``mdata["rna"].obsm["imputed_markers"]`` gets the expression of the marker genes, per 10,000
    counts of a cell; ``mdata["atac"].obsm["imputed_markers"]`` the accessibility of the marker
    peaks, in the units of ``model.get_normalized_accessibility``. Both are tables (cells, markers).
    ``mdata.uns["atacvi"]["markers"]`` gets the table of the markers.

    Parameters
    ----------
    model
        Trained model.
    mdata
        The data it was trained on.
    markers
        Result of :func:`find_markers`.
    """
    names = {
        name: list(dict.fromkeys(markers.loc[markers["modality"] == name, "feature"]))
        for name in MODALITIES
    }
    if names[RNA]:
        values = model.get_normalized_expression(mdata, gene_list=names[RNA], library_size=1e4)
        mdata[RNA].obsm[OBSM_IMPUTED] = _as_table(values, mdata[RNA], names[RNA])
    if names[ATAC]:
        values = model.get_normalized_accessibility(mdata, region_list=names[ATAC])
        mdata[ATAC].obsm[OBSM_IMPUTED] = _as_table(values, mdata[ATAC], names[ATAC])
    mdata.uns.setdefault(UNS_KEY, {})[UNS_MARKERS] = markers


def _as_table(values: pd.DataFrame, adata: AnnData, names: list[str]) -> pd.DataFrame:
    # The order of the getter is that of the data, not that of the list.
    table = values[names].astype(np.float32)
    table.index = adata.obs_names
    return table


def normalized(adata: AnnData, layer: str | None) -> AnnData:
    """Counts of each cell scaled to the median depth, as ``log1p``; sparse, without layers."""
    import anndata
    import scanpy as sc

    counts = adata.X if layer is None else adata.layers[layer]
    cells = anndata.AnnData(
        counts.astype(np.float32), adata.obs[[]].copy(), pd.DataFrame(index=adata.var_names)
    )
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    return cells


def _rank(
    adata: AnnData,
    layer: str | None,
    clusters: pd.Series,
    groups: list[str],
    n_markers: int,
    modality: str,
) -> pd.DataFrame:
    import scanpy as sc

    cells = normalized(adata, layer)
    cells.obs["cluster"] = pd.Categorical(clusters.to_numpy())
    with warnings.catch_warnings():
        # scanpy's own table grows column by column, and its log of zero means warns.
        warnings.simplefilter("ignore")
        sc.tl.rank_genes_groups(
            cells,
            "cluster",
            groups=groups,
            n_genes=min(n_markers, cells.n_vars),
            method="t-test_overestim_var",
        )
        found = sc.get.rank_genes_groups_df(cells, group=groups)
    if "group" not in found:
        found["group"] = groups[0]
    found["rank"] = found.groupby("group", observed=True).cumcount() + 1
    table = found.rename(
        columns={
            "group": "cluster",
            "names": "feature",
            "scores": "score",
            "logfoldchanges": "log2_fold_change",
            "pvals_adj": "p_adjusted",
        }
    )
    table["modality"] = modality
    # Plain strings: a categorical column of one modality does not append to that of the other.
    for column in ("modality", "cluster", "feature"):
        table[column] = table[column].astype(str)
    return table[list(_COLUMNS)]
