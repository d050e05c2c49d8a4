"""Registration of paired data with scvi-tools, and what a model must know of its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scvi.data import AnnDataManager, fields

from atacvi._constants import (
    ATAC,
    ATAC_X_KEY,
    BATCH_KEY,
    CAT_COVS_KEY,
    CONT_COVS_KEY,
    LABELS_KEY,
    RNA,
    SIZE_FACTOR_KEY,
    X_KEY,
)
from atacvi.regions import genome_blocks, has_regions, parse_regions

if TYPE_CHECKING:
    from anndata import AnnData

# Entry that setup adds to the registry of scvi-tools, so that a model can be built without data
FEATURES_KEY = "atacvi_features"


class Features(NamedTuple):
    """The features of a registered object.

    Parameters
    ----------
    genes, peaks
        Names.
    regions
        Table of the peaks (chrom, start, end), or ``None`` where they have no coordinates.
    gene_columns, peak_columns
        Columns of one joint matrix, or ``None`` for two matrices.
    """

    genes: np.ndarray
    peaks: np.ndarray
    regions: pd.DataFrame | None
    gene_columns: np.ndarray | None
    peak_columns: np.ndarray | None


def describe_features(
    rna: AnnData, atac: AnnData, columns: dict[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Return a plain description of the features, to be kept in the registry."""
    regions = None
    if has_regions(atac.var) or _names_are_regions(atac):
        table = parse_regions(atac.var if has_regions(atac.var) else atac.var_names)
        regions = {
            "chrom": [str(c) for c in table["chrom"]],
            "start": table["start"].to_numpy(),
            "end": table["end"].to_numpy(),
        }
    return {
        "genes": [str(n) for n in rna.var_names],
        "peaks": [str(n) for n in atac.var_names],
        "regions": regions,
        "gene_columns": None if columns is None else np.flatnonzero(columns[RNA]),
        "peak_columns": None if columns is None else np.flatnonzero(columns[ATAC]),
    }


def _names_are_regions(atac: AnnData) -> bool:
    try:
        parse_regions(atac.var_names[:1])
    except ValueError:
        return False
    return True


def read_features(registry: dict[str, Any]) -> Features:
    """Return the features from a registry.

    Raises
    ------
    ValueError
        If the registry was not written by a setup of this package.
    """
    if FEATURES_KEY not in registry:
        msg = (
            "The registry does not describe genes and peaks. Call "
            "`MultiViewModel.setup_mudata(mdata)` or `setup_anndata(adata)` before building a model."
        )
        raise ValueError(msg)
    entry = registry[FEATURES_KEY]
    regions = None if entry["regions"] is None else pd.DataFrame(entry["regions"])
    return Features(
        genes=np.asarray(entry["genes"], dtype=object),
        peaks=np.asarray(entry["peaks"], dtype=object),
        regions=regions,
        gene_columns=entry["gene_columns"],
        peak_columns=entry["peak_columns"],
    )


def peak_blocks(features: Features, n_blocks: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the genome block of each peak and the table of blocks.

    Peaks without coordinates are cut into blocks in the order of the columns.
    """
    if features.regions is not None:
        return genome_blocks(features.regions, n_blocks)
    n_peaks = len(features.peaks)
    n_blocks = min(n_blocks, n_peaks)
    block = np.arange(n_peaks) * n_blocks // n_peaks
    table = pd.DataFrame(
        {"chrom": "", "start": -1, "end": -1, "n_regions": np.bincount(block, minlength=n_blocks)}
    )
    return block, table


def mudata_fields(
    modalities: Any,
    *,
    rna_layer: str | None,
    atac_layer: str | None,
    batch_key: str | None,
    labels_key: str | None,
    size_factor_key: str | None,
    categorical_covariate_keys: list[str] | None,
    continuous_covariate_keys: list[str] | None,
) -> list[Any]:
    """Return the fields of a MuData; `modalities` maps arguments to modalities as attributes."""
    return [
        fields.MuDataLayerField(
            X_KEY, rna_layer, mod_key=modalities.rna_layer, is_count_data=True, mod_required=True
        ),
        fields.MuDataLayerField(
            ATAC_X_KEY,
            atac_layer,
            mod_key=modalities.atac_layer,
            is_count_data=True,
            mod_required=True,
        ),
        fields.MuDataCategoricalObsField(BATCH_KEY, batch_key, mod_key=modalities.batch_key),
        fields.MuDataCategoricalObsField(LABELS_KEY, labels_key, mod_key=modalities.labels_key),
        fields.MuDataNumericalObsField(
            SIZE_FACTOR_KEY, size_factor_key, mod_key=modalities.size_factor_key, required=False
        ),
        fields.MuDataCategoricalJointObsField(
            CAT_COVS_KEY,
            categorical_covariate_keys,
            mod_key=modalities.categorical_covariate_keys,
        ),
        fields.MuDataNumericalJointObsField(
            CONT_COVS_KEY, continuous_covariate_keys, mod_key=modalities.continuous_covariate_keys
        ),
    ]


def anndata_fields(
    *,
    layer: str | None,
    batch_key: str | None,
    labels_key: str | None,
    size_factor_key: str | None,
    categorical_covariate_keys: list[str] | None,
    continuous_covariate_keys: list[str] | None,
) -> list[Any]:
    """Return the fields of one AnnData that holds both kinds of features."""
    return [
        fields.LayerField(X_KEY, layer, is_count_data=True),
        fields.CategoricalObsField(BATCH_KEY, batch_key),
        fields.CategoricalObsField(LABELS_KEY, labels_key),
        fields.NumericalObsField(SIZE_FACTOR_KEY, size_factor_key, required=False),
        fields.CategoricalJointObsField(CAT_COVS_KEY, categorical_covariate_keys),
        fields.NumericalJointObsField(CONT_COVS_KEY, continuous_covariate_keys),
    ]


def register(
    cls: type,
    data: Any,
    data_fields: list[Any],
    features: dict[str, Any],
    setup_method_args: dict[str, Any],
    **kwargs: Any,
) -> None:
    """Register the fields, and describe the features beside them."""
    manager = AnnDataManager(fields=data_fields, setup_method_args=setup_method_args)
    manager.register_fields(data, **kwargs)
    manager.registry[FEATURES_KEY] = features
    cls.register_manager(manager)  # type: ignore[attr-defined]
