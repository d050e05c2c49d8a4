"""MultiViewModel: one latent space for paired expression and accessibility."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scvi
import torch
from scvi.dataloaders import DataSplitter
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from atacvi._constants import ATAC_X_KEY, LABELS_KEY, X_KEY
from atacvi.data import feature_modalities, validate_anndata, validate_multiome
from atacvi.models._differential import DifferentialMixin
from atacvi.models._evaluation import EvaluationMixin
from atacvi.models._imputation import ImputationMixin
from atacvi.models._presets import model_defaults, training_defaults
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
from atacvi.modules import MultiViewModule
from atacvi.training import (
    CheckpointEachEpoch,
    LearnNewColumns,
    MultiViewStages,
    MultiViewTrainingPlan,
    StageSchedule,
    StartFromData,
    StopOnNonFinite,
    check_plan_kwargs,
    checkpoint_path,
    read_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

_DEFAULT_MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}


class MultiViewModel(
    RepresentationMixin,
    ImputationMixin,
    DifferentialMixin,
    EvaluationMixin,
    QueryMixin,
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
    _data_splitter_cls = DataSplitter
    _training_plan_cls = MultiViewTrainingPlan
    _train_runner_cls = TrainRunner

    def __init__(
        self,
        adata: MuData | AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_clusters: int | None = None,
        n_latent: int = 20,
        n_hidden: int = 128,
        n_embed: int = 64,
        n_tokens: int = 32,
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

    # ---- training -------------------------------------------------------------------------

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float = 0.9,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int | None = None,
        mixture_start: int | None = None,
        cycle_start: int | None = None,
        cycle_weight: float | None = None,
        n_epochs_kl_warmup: int | None = None,
        checkpoint_dir: str | None = None,
        resume: bool = False,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train in stages: warm-up under N(0, I), then the mixture, with the cycle term.

        Parameters
        ----------
        max_epochs
            Epochs at most; ``None`` chooses by the number of cells.
        accelerator, devices
            Hardware, as in Lightning.
        train_size, validation_size, shuffle_set_split
            Split of the cells.
        batch_size
            Cells per minibatch; ``None`` takes 128, or 256 from 50,000 cells on.
        early_stopping
            End a stage when the held-out ELBO no longer improves, and keep the best weights.
        early_stopping_patience
            Epochs to wait for an improvement.
        mixture_start
            Epoch at which the mixture is fitted to the latent; ``None`` takes 60 % of the run.
        cycle_start
            First epoch of the cycle term; ``None`` takes half of the run, -1 switches it off.
        cycle_weight
            Weight of the cycle term.
        n_epochs_kl_warmup
            Epochs over which the KL weight rises to one; clipped to the warm-up stage.
        checkpoint_dir
            Folder for a checkpoint after each epoch.
        resume
            Go on from the checkpoint in `checkpoint_dir`, where there is one.
        datasplitter_kwargs, plan_kwargs
            Further arguments of the splitter and of the training plan.
        **trainer_kwargs
            Further arguments of the Lightning trainer.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        TypeError
            If `plan_kwargs` holds an unknown argument.
        ValueError
            If arguments contradict each other.
        """
        if resume and checkpoint_dir is None:
            msg = "resume=True needs the `checkpoint_dir` of the run that was stopped."
            raise ValueError(msg)
        plan_kwargs = dict(plan_kwargs or {})
        check_plan_kwargs(self._training_plan_cls, plan_kwargs, self.module.loss)
        n_cells = self.adata.n_obs
        max_epochs = max_epochs or default_max_epochs(n_cells)
        schedule = self._schedule(
            max_epochs, mixture_start, cycle_start, cycle_weight, early_stopping_patience
        )
        has_validation = validation_size != 0 and train_size < 1
        if not (early_stopping and has_validation):
            schedule = replace(schedule, patience=None)
        warmup = n_epochs_kl_warmup or plan_kwargs.pop("n_epochs_kl_warmup", None) or 10
        plan_kwargs["n_epochs_kl_warmup"] = max(1, min(warmup, max_epochs // 2))
        plan_kwargs = {**training_defaults(self.preset), **plan_kwargs}

        noted = read_checkpoint(checkpoint_dir) if resume and checkpoint_dir else None
        datasplitter_kwargs = dict(datasplitter_kwargs or {})
        if noted is not None:
            if noted["n_clusters"] != self.module.n_clusters:
                self.module.resize_mixture(noted["n_clusters"])
            parts = [part.numpy() for part in noted["split"]]
            datasplitter_kwargs["external_indexing"] = [p for p in parts if len(p)]
        splitter = self._data_splitter_cls(
            self.adata_manager,
            train_size=train_size,
            validation_size=validation_size,
            batch_size=batch_size or (128 if n_cells < 50_000 else 256),
            shuffle_set_split=shuffle_set_split,
            load_sparse_tensor=True,
            **datasplitter_kwargs,
        )
        if has_validation and early_stopping:
            trainer_kwargs.setdefault("check_val_every_n_epoch", 1)
        trainer_kwargs.setdefault("gradient_clip_val", 10.0)
        stages = self._stages(schedule, splitter, restore_best=early_stopping and has_validation)
        callbacks = [
            StartFromData(self._counts_of, _seed()),
            stages,
            StopOnNonFinite(),
            *trainer_kwargs.pop("callbacks", []),
        ]
        if self.is_trained or self._is_query:
            callbacks.pop(0)  # what was learnt is the better start
        if self._is_query:
            callbacks.append(LearnNewColumns(self.query_columns_))
        if checkpoint_dir is not None:
            callbacks.append(CheckpointEachEpoch(checkpoint_dir))
        if noted is not None:
            trainer_kwargs["ckpt_path"] = str(checkpoint_path(checkpoint_dir))  # type: ignore[arg-type]
        runner = self._train_runner_cls(
            self,
            training_plan=self._training_plan_cls(self.module, **plan_kwargs),
            data_splitter=splitter,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            early_stopping=False,  # MultiViewStages stops, and knows of the stages
            callbacks=callbacks,
            **trainer_kwargs,
        )
        self.module.train()  # Lightning takes the mode it finds: of a trained model, evaluation
        try:
            runner()
        finally:
            self.training_stages_ = dict(stages.borders)
            self._note_clusters()

    def _schedule(
        self,
        max_epochs: int,
        mixture_start: int | None,
        cycle_start: int | None,
        cycle_weight: float | None,
        patience: int | None,
    ) -> StageSchedule:
        mixture: int | None = max(1, round(0.6 * max_epochs))
        if mixture_start is not None:
            mixture = mixture_start
        cycle: int | None = max_epochs // 2 if cycle_start is None else cycle_start
        if self.is_trained and bool(self.module.mixture_active):
            mixture, cycle = 0, 0 if cycle_start is None else cycle_start
        if self._is_query:  # the prior and the encoders are the reference's
            mixture, cycle = None, None
        if cycle is not None and cycle < 0:
            cycle = None
        return StageSchedule(
            mixture_start=mixture,
            cycle_start=cycle,
            cycle_ramp=max(1, max_epochs // 10),
            cycle_weight=1.0 if cycle_weight is None else cycle_weight,
            patience=patience or max(10, max_epochs // 8),
        )

    @property
    def _is_query(self) -> bool:
        """Whether `load_query_data` built the model: only new covariate columns are learnt."""
        return getattr(self, "query_columns_", None) is not None

    def _stages(
        self, schedule: StageSchedule, splitter: DataSplitter, *, restore_best: bool
    ) -> MultiViewStages:
        def get_latent() -> tuple[np.ndarray, np.ndarray]:
            training = self.module.training
            self.module.eval()
            self.is_trained_, before = True, self.is_trained_
            try:
                return self.get_latent_representation(  # type: ignore[return-value]
                    indices=np.sort(splitter.train_idx), return_dist=True
                )
            finally:
                self.is_trained_ = before
                self.module.train(training)

        labels = None
        if self.n_clusters is None and self.summary_stats.n_labels > 1:

            def labels() -> np.ndarray:
                codes = self.adata_manager.get_from_registry(LABELS_KEY).ravel()
                return np.asarray(codes)[np.sort(splitter.train_idx)]

        return MultiViewStages(
            schedule,
            get_latent,
            labels,
            self.n_clusters,
            restore_best=restore_best,
            random_state=_seed(),
        )

    def _counts_of(self, cells: np.ndarray) -> tuple[Any, Any]:
        import scipy.sparse as sp

        manager = self.adata_manager
        first = sp.csr_matrix(manager.get_from_registry(X_KEY)[cells])
        if ATAC_X_KEY in manager.data_registry:
            return first, sp.csr_matrix(manager.get_from_registry(ATAC_X_KEY)[cells])
        genes, peaks = self.module.gene_columns, self.module.peak_columns
        return first[:, genes.cpu().numpy()], first[:, peaks.cpu().numpy()]

    def _note_clusters(self) -> None:
        """Keep the number of components, so that a saved model is built with it."""
        if self.module.mixture_active:
            self.init_params_["non_kwargs"]["n_clusters"] = self.module.n_clusters


def default_max_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 30 to 200."""
    return int(np.clip(round(60 * 10_000 / max(1, n_cells)), 30, 200))


def _seed() -> int:
    return scvi.settings.seed if scvi.settings.seed is not None else 0


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
