"""ATACDiffModel: latents, generation, denoising and imputation of accessibility by diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scvi.model.base import BaseModelClass

from atacvi._constants import CONDITION_KEY
from atacvi.data import (
    check_categories,
    check_continuous,
    check_key,
    check_modalities,
    validate_anndata,
)
from atacvi.models._atacdiff_getters import ATACDiffGettersMixin
from atacvi.models._atacdiff_presets import atacdiff_defaults
from atacvi.models._atacdiff_setup import are_insertions, check_condition, peak_fields
from atacvi.models._atacdiff_training import ATACDiffTrainingMixin
from atacvi.models._differential import DifferentialAccessibilityMixin
from atacvi.models._evaluation import EvaluationMixin
from atacvi.models._generation import GenerationMixin
from atacvi.models._query import QueryMixin
from atacvi.models._setup import describe_features, read_features, register
from atacvi.modules import ATACDiffModule

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

# Entry of the description of the features that tells what is counted
_INSERTIONS = "insertions"


class ATACDiffModel(
    ATACDiffGettersMixin,
    GenerationMixin,
    DifferentialAccessibilityMixin,
    EvaluationMixin,
    QueryMixin,
    ATACDiffTrainingMixin,
    BaseModelClass,
):
    """Latent diffusion of chromatin accessibility, after ATAC-Diff.

    An autoencoder compresses peaks; an auxiliary encoder gives a semantic latent z with a
    Gaussian-mixture prior; a denoiser learns the autoencoder's latents given z, label, batch and
    depth.

    Parameters
    ----------
    adata
        AnnData set up with `setup_anndata`, or MuData set up with `setup_mudata`.
    registry
        Registry of a setup, to build a model without data.
    n_clusters
        Number of mixture components. ``None`` takes the number of labels where all training cells
        have one, and else the number of Leiden clusters of the starting latent.
    n_latent, n_latent_ae
        Dimensions of z and of the autoencoder's latent.
    likelihood
        ``"bernoulli"`` for open and closed, ``"poisson"`` or ``"zip"`` for counts.
    preset
        ``"default"``, or ``"paper"`` to follow the publication: x0-prediction over 1,000 steps of
        a linear schedule by a transformer, latents on the unit sphere, 30 components, MMD of
        weight 0.1, one joint second stage.
    **module_kwargs
        Further arguments of `atacvi.modules.ATACDiffModule`; they go before the preset.

    Raises
    ------
    ValueError
        If an argument is out of range, or neither data nor a registry is given.

    References
    ----------
    Huang et al., "A versatile informative diffusion model for single-cell ATAC-seq data generation
    and analysis", NeurIPS 2024, arXiv:2408.14801.

    Examples
    --------
    >>> import atacvi
    >>> adata = atacvi.datasets.simulate_multiome(n_cells=120, n_genes=30, n_peaks=200)["atac"]
    >>> adata = adata.copy()
    >>> atacvi.ATACDiffModel.setup_anndata(adata)
    >>> model = atacvi.ATACDiffModel(adata, n_latent=5, n_latent_ae=8)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.get_latent_representation().shape, model.generate(3).shape
    ((120, 5), (3, 200))
    """

    _module_cls = ATACDiffModule

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_clusters: int | None = None,
        n_latent: int | None = None,
        n_latent_ae: int | None = None,
        likelihood: Literal["poisson", "bernoulli", "zip"] = "bernoulli",
        preset: Literal["default", "paper"] = "default",
        **module_kwargs: Any,
    ) -> None:
        super().__init__(adata, registry)
        defaults = atacdiff_defaults(preset)
        sizes = {"n_clusters": n_clusters, "n_latent": n_latent, "n_latent_ae": n_latent_ae}
        given = {name: value for name, value in sizes.items() if value is not None}
        for name, value in given.items():
            if value < 1:
                msg = f"{name}={value}; it must be at least 1."
                raise ValueError(msg)
        registered = self.registry_ if adata is None else self.adata_manager.registry
        self.region_names = read_features(registered).peaks
        stats = self.summary_stats
        arguments = {**defaults, **given, "likelihood": likelihood, **module_kwargs}
        # Of clusters the number is not known before training, unless given.
        self.n_clusters = arguments.pop("n_clusters", None)
        labelled = "unlabeled_category" in self._label_state()
        self.module = self._module_cls(
            n_peaks=len(self.region_names),
            n_batch=stats.n_batch,
            n_cats_per_cov=self._categories_per_covariate(),
            n_continuous_cov=stats.get("n_extra_continuous_covs", 0),
            n_labels=stats.n_labels - 1 if labelled else 0,
            n_condition=stats.get(f"n_{CONDITION_KEY}", 0),
            n_clusters=self.n_clusters or 10,
            insertions=bool(registered["atacvi_features"].get(_INSERTIONS, False)),
            **arguments,
        )
        self.preset = preset
        self.stages_done_: list[str] = []
        self._model_summary_string = (
            f"ATACDiffModel: {len(self.region_names)} peaks, n_latent: {self.module.n_latent}, "
            f"n_latent_ae: {self.module.n_latent_ae}, likelihood: {likelihood}, preset: {preset}, "
            f"n_clusters: {self.n_clusters or 'chosen in training'}"
        )
        self.init_params_ = self._get_init_params(locals())

    def _label_state(self) -> dict[str, Any]:
        return self.registry_["field_registries"]["labels"]["state_registry"]

    def _categories_per_covariate(self) -> list[int] | None:
        state = self.registry_["field_registries"].get("extra_categorical_covs", {})
        return list(state.get("state_registry", {}).get("n_cats_per_key", [])) or None

    def _raw_counts(self, adata: Any, kind: str) -> tuple[Any, np.ndarray | None]:
        """Return the counts of the peaks, which are all there is."""
        return self.get_anndata_manager(adata, required=True).get_from_registry("X"), None

    # ---- setup ------------------------------------------------------------------------------

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        condition_key: str | None = None,
        counts: Literal["auto", "fragments", "insertions"] = "auto",
        **kwargs: Any,
    ) -> None:
        """Check an AnnData of counts in peaks and register it.

        Nothing is registered unless all checks pass.

        Parameters
        ----------
        adata
            Counts in peaks.
        layer
            Layer that holds the counts; ``None`` takes ``X``.
        batch_key, labels_key, size_factor_key
            Columns of ``obs``.
        unlabeled_category
            Value of the labels that stands for no label; ``"unlabeled"`` when ``None``.
        categorical_covariate_keys, continuous_covariate_keys
            Columns of ``obs``.
        condition_key
            Key of ``obsm`` with another view of the cells, such as an embedding of their RNA, that
            the auxiliary encoder sees beside the peaks.
        counts
            Whether fragments or Tn5 insertions were counted; ``"auto"`` takes them for insertions
            where 2 is commoner than 1. Insertions are halved and rounded up.

        Raises
        ------
        KeyError
            If a layer, column or embedding does not exist.
        TypeError
            If `adata` is no AnnData or a matrix is of a kind that cannot be read.
        ValueError
            If names are not unique, or counts are negative, fractional, not finite or empty.

        Examples
        --------
        >>> atacvi.ATACDiffModel.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
        >>> model = atacvi.ATACDiffModel(adata, n_latent=4)
        >>> int(model.summary_stats["n_batch"])
        2
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        validate_anndata(
            adata,
            layer=layer,
            batch_key=batch_key,
            labels_key=None if "source_registry" in kwargs else labels_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            allow_empty_features="source_registry" in kwargs,
        )
        check_condition(adata, condition_key, "adata")
        description = describe_peaks(adata, layer, counts)
        register(
            cls,
            adata,
            peak_fields(
                layer=layer,
                batch_key=batch_key,
                labels_key=labels_key,
                unlabeled_category=unlabeled_category,
                size_factor_key=size_factor_key,
                categorical_covariate_keys=categorical_covariate_keys,
                continuous_covariate_keys=continuous_covariate_keys,
                condition_key=condition_key,
            ),
            description,
            setup_method_args,
            **kwargs,
        )

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        condition_key: str | None = None,
        counts: Literal["auto", "fragments", "insertions"] = "auto",
        modalities: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check one modality of peaks of a MuData and register it.

        Parameters
        ----------
        mdata
            Data with a modality of counts in peaks.
        layer, batch_key, labels_key, unlabeled_category, size_factor_key
            As in `setup_anndata`.
        categorical_covariate_keys, continuous_covariate_keys, condition_key, counts
            As in `setup_anndata`.
        modalities
            Modality of each argument, ``{"layer": "atac"}`` by default; an argument without a
            modality is looked for in ``mdata.obs`` and ``mdata.obsm``.

        Raises
        ------
        KeyError, TypeError, ValueError
            As in `setup_anndata`.

        Examples
        --------
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)
        >>> atacvi.ATACDiffModel.setup_mudata(mdata, batch_key="batch")
        >>> model = atacvi.ATACDiffModel(mdata)
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        places: dict[str, str | None] = {"layer": "atac", **(modalities or {})}
        check_modalities(mdata, {k: v for k, v in places.items() if v is not None})
        peaks = mdata[places["layer"]]
        replayed = "source_registry" in kwargs
        validate_anndata(
            peaks, layer=layer, allow_empty_features=replayed, where=f"mdata[{places['layer']!r}]"
        )
        _check_columns(
            mdata,
            places,
            {
                "batch_key": batch_key,
                "labels_key": None if replayed else labels_key,
                "size_factor_key": size_factor_key,
                "categorical_covariate_keys": categorical_covariate_keys,
                "continuous_covariate_keys": continuous_covariate_keys,
            },
        )
        obj = _place(mdata, places.get("condition_key"))
        check_condition(obj, condition_key, "the object")
        register(
            cls,
            mdata,
            peak_fields(
                layer=layer,
                batch_key=batch_key,
                labels_key=labels_key,
                unlabeled_category=unlabeled_category,
                size_factor_key=size_factor_key,
                categorical_covariate_keys=categorical_covariate_keys,
                continuous_covariate_keys=continuous_covariate_keys,
                condition_key=condition_key,
                modalities=places,
            ),
            describe_peaks(peaks, layer, counts),
            setup_method_args,
            **kwargs,
        )


def describe_peaks(adata: AnnData, layer: str | None, counts: str) -> dict[str, Any]:
    """Return a plain description of peaks, to be kept in the registry."""
    description = describe_features(adata[:, :0], adata)
    return {**description, _INSERTIONS: are_insertions(adata, layer, counts)}


def _place(mdata: MuData, modality: str | None) -> Any:
    return mdata if modality is None else mdata[modality]


def _check_columns(
    mdata: MuData, places: Mapping[str, str | None], keys: Mapping[str, Any]
) -> None:
    """Check that columns exist where they are looked for and hold what they must."""
    for argument, value in keys.items():
        if value is None:
            continue
        where = places.get(argument)
        name = "mdata" if where is None else f"mdata[{where!r}]"
        for key in [value] if isinstance(value, str) else value:
            column = check_key(_place(mdata, where), "obs", key, name, argument=argument)
            label = f'{name}.obs["{key}"]'
            if argument in ("continuous_covariate_keys", "size_factor_key"):
                check_continuous(column, label, positive=argument == "size_factor_key")
            else:
                check_categories(column, label)
