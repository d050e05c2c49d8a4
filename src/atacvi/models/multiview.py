"""MultiViewModel: one latent space for paired expression and accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scvi.model.base import BaseModelClass

from atacvi.data import feature_modalities, validate_anndata, validate_multiome
from atacvi.models._differential_expression import DifferentialMixin
from atacvi.models._evaluation import EvaluationMixin
from atacvi.models._imputation import ImputationMixin
from atacvi.models._presets import model_defaults
from atacvi.models._query import QueryMixin
from atacvi.models._representation import RepresentationMixin
from atacvi.models._setup import (
    anndata_fields,
    describe_features,
    mudata_fields,
    peak_blocks,
    read_features,
    register,
)
from atacvi.models._training import MultiViewTrainingMixin
from atacvi.modules import MultiViewModule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

_DEFAULT_MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}


class MultiViewModel(
    RepresentationMixin,
    ImputationMixin,
    DifferentialMixin,
    EvaluationMixin,
    QueryMixin,
    MultiViewTrainingMixin,
    BaseModelClass,
):
    """Joint model of paired RNA and ATAC with a Gaussian-mixture latent, after scMVP.

    Parameters
    ----------
    adata
        MuData set up with `setup_mudata`, or AnnData set up with `setup_anndata`.
    registry
        Registry of a setup, to build a model without data.
    n_clusters
        Number of mixture components. ``None`` takes the number of labels where `labels_key` was
        given at setup, and else the number of Leiden clusters of the latent after the warm-up.
    n_latent
        Latent dimensions.
    n_hidden
        Width of hidden layers.
    n_embed
        Width of a peak's embedding, shared by encoder and decoder.
    n_tokens
        Number of genome blocks over which attention runs.
    preset
        ``"default"``, or ``"paper"`` to follow the publication: attention over hidden features,
        concatenated encoders, no linear decoder part, TF-IDF as accessibility target.
    **module_kwargs
        Further arguments of `atacvi.modules.MultiViewModule`; they go before the preset.

    Raises
    ------
    ValueError
        If an argument is out of range, or neither data nor a registry is given.

    References
    ----------
    Li et al., "A deep generative model for multi-view profiling of single-cell RNA-seq and
    ATAC-seq data", Genome Biology 23:20 (2022).

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(n_cells=200, n_genes=100, n_peaks=400)
    >>> atacvi.MultiViewModel.setup_mudata(mdata)
    >>> model = atacvi.MultiViewModel(mdata, n_clusters=4)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation().shape
    (200, 20)
    """

    _module_cls = MultiViewModule

    def __init__(
        self,
        adata: MuData | AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_clusters: int | None = None,
        n_latent: int = 20,
        n_hidden: int = 128,
        n_embed: int = 64,
        n_tokens: int = 16,
        preset: Literal["default", "paper"] = "default",
        **module_kwargs: Any,
    ) -> None:
        super().__init__(adata, registry)
        _check_sizes(n_clusters, n_latent, n_hidden, n_embed, n_tokens)
        features = read_features(self.registry_ if adata is None else self.adata_manager.registry)
        self.gene_names, self.region_names = features.genes, features.peaks
        block, self.peak_block_table = peak_blocks(features, n_tokens)
        stats = self.summary_stats
        self.module = self._module_cls(
            n_genes=len(features.genes),
            n_peaks=len(features.peaks),
            n_batch=stats.n_batch,
            n_cats_per_cov=self._categories_per_covariate(),
            n_continuous_cov=stats.get("n_extra_continuous_covs", 0),
            n_clusters=n_clusters or max(2, stats.n_labels),
            n_latent=n_latent,
            n_hidden=n_hidden,
            n_embed=n_embed,
            peak_block=torch.as_tensor(block),
            gene_columns=_as_tensor(features.gene_columns),
            peak_columns=_as_tensor(features.peak_columns),
            **{**model_defaults(preset), **module_kwargs},
        )
        self.preset = preset
        self.n_clusters = n_clusters
        self._model_summary_string = (
            f"MultiViewModel: {len(features.genes)} genes, {len(features.peaks)} peaks, "
            f"n_latent: {n_latent}, n_clusters: {n_clusters or 'chosen in training'}, "
            f"preset: {preset}"
        )
        self.init_params_ = self._get_init_params(locals())

    def _categories_per_covariate(self) -> list[int] | None:
        key = "extra_categorical_covs"
        if key not in self.registry_["field_registries"]:
            return None
        state = self.registry_["field_registries"][key]["state_registry"]
        return list(state["n_cats_per_key"]) if "n_cats_per_key" in state else None

    # ---- setup ----------------------------------------------------------------------------

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        modalities: Mapping[str, str] | None = None,
        allow_missing: bool = False,
        **kwargs: Any,
    ) -> None:
        """Check a MuData of RNA and ATAC counts and register it.

        Nothing is registered unless all checks pass.

        Parameters
        ----------
        mdata
            Paired data; both modalities hold the same cells in the same order.
        rna_layer, atac_layer
            Layers that hold the counts; ``None`` takes ``X``.
        batch_key, labels_key, size_factor_key
            Columns of ``obs``. Labels give the mixture its components.
        categorical_covariate_keys, continuous_covariate_keys
            Columns of ``obs``.
        modalities
            Modality of each argument, ``{"rna_layer": "rna", "atac_layer": "atac"}`` by default;
            a key without a modality is taken from ``mdata.obs``.
        allow_missing
            Accept cells without counts in one modality (mosaic data, see
            `atacvi.data.align_obs`).

        Raises
        ------
        KeyError
            If a modality, layer or column does not exist.
        TypeError
            If `mdata` is no MuData or a matrix is of a kind that cannot be read.
        ValueError
            If cells differ in number or order, names are not unique, or counts are negative,
            fractional, not finite or empty.

        Examples
        --------
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)
        >>> atacvi.MultiViewModel.setup_mudata(mdata, batch_key="batch", labels_key="cell_type")
        >>> model = atacvi.MultiViewModel(mdata)
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        mapping = {**_DEFAULT_MODALITIES, **(modalities or {})}
        replayed = "source_registry" in kwargs
        validate_multiome(
            mdata,
            rna_layer=rna_layer,
            atac_layer=atac_layer,
            batch_key=batch_key,
            labels_key=labels_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            modalities=mapping,
            allow_missing=allow_missing,
            allow_empty_features=replayed,
        )
        attributes = cls._create_modalities_attr_dict(mapping, setup_method_args)
        register(
            cls,
            mdata,
            mudata_fields(
                attributes,
                rna_layer=rna_layer,
                atac_layer=atac_layer,
                batch_key=batch_key,
                labels_key=labels_key,
                size_factor_key=size_factor_key,
                categorical_covariate_keys=categorical_covariate_keys,
                continuous_covariate_keys=continuous_covariate_keys,
            ),
            describe_features(mdata[mapping["rna_layer"]], mdata[mapping["atac_layer"]]),
            setup_method_args,
            **kwargs,
        )

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check one AnnData that holds genes and peaks, and register it.

        Parameters
        ----------
        adata
            Counts of both kinds of features, told apart by ``var["feature_types"]`` ("Gene
            Expression" and "Peaks") or ``var["modality"]`` ("rna" and "atac").
        layer
            Layer that holds the counts; ``None`` takes ``X``.
        batch_key, labels_key, size_factor_key
            Columns of ``obs``.
        categorical_covariate_keys, continuous_covariate_keys
            Columns of ``obs``.

        Raises
        ------
        KeyError, TypeError, ValueError
            As in `setup_mudata`; and if the kinds of features are not told.

        Examples
        --------
        >>> from atacvi.data import concat_modalities
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)
        >>> adata = concat_modalities(mdata)  # genes and peaks, told apart by var["modality"]
        >>> atacvi.MultiViewModel.setup_anndata(adata, batch_key="batch")
        >>> model = atacvi.MultiViewModel(adata)
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        validate_anndata(
            adata,
            layer=layer,
            batch_key=batch_key,
            labels_key=labels_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            allow_empty_features="source_registry" in kwargs,
        )
        columns = feature_modalities(adata)
        register(
            cls,
            adata,
            anndata_fields(
                layer=layer,
                batch_key=batch_key,
                labels_key=labels_key,
                size_factor_key=size_factor_key,
                categorical_covariate_keys=categorical_covariate_keys,
                continuous_covariate_keys=continuous_covariate_keys,
            ),
            describe_features(adata[:, columns["rna"]], adata[:, columns["atac"]], columns),
            setup_method_args,
            **kwargs,
        )


def _as_tensor(columns: np.ndarray | None) -> torch.Tensor | None:
    return None if columns is None else torch.as_tensor(np.asarray(columns), dtype=torch.long)


def _check_sizes(n_clusters: int | None, *sizes: int) -> None:
    names = ("n_latent", "n_hidden", "n_embed", "n_tokens")
    for name, size in zip(names, sizes, strict=True):
        if size < 1:
            msg = f"{name}={size}; it must be at least 1."
            raise ValueError(msg)
    if n_clusters is not None and n_clusters < 1:
        msg = f"n_clusters={n_clusters}; give at least 1, or None to have it chosen."
        raise ValueError(msg)
