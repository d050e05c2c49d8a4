"""Map query data onto a trained reference: new batches, other peaks, missing modalities."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from atacvi._compat import (
    SETUP_ARGS_KEY,
    get_loaded_data,
    initialize_model,
    parse_device_args,
)
from atacvi._constants import BATCH_KEY, CAT_COVS_KEY
from atacvi.models._query_features import (
    check_features,
    peak_modality,
    prepare_anndata,
    prepare_mudata,
)
from atacvi.models._setup import read_features
from atacvi.training import (
    BATCH_COEFFICIENTS,
    BATCH_EMBEDDING,
    BATCH_SHARES,
    COVARIATE_MEAN,
    COVARIATE_WEIGHT,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from scvi.model.base import BaseModelClass

logger = logging.getLogger(__name__)


class QueryMixin:
    """Reference mapping: only the columns of new batches are learnt, all else stays as it is."""

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData | MuData,
        reference_model: str | Path | BaseModelClass,
        inplace_subset_query_vars: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
        allow_missing: bool | None = None,
    ) -> Self:
        """Build a model for query data from a trained reference (scArches).

        Weights of the reference are taken over and frozen. Batches and categories that the
        reference has not seen get covariate columns of their own, which start at the mean of the
        known ones and are learnt by `train`. Without new ones the model is ready for use.

        Parameters
        ----------
        adata
            Query data with the features of the reference in the same order, see
            `prepare_query_mudata` and `prepare_query_anndata`.
        reference_model
            Trained model, or the folder of a saved one.
        inplace_subset_query_vars
            Bring the features of `adata` into the order of the reference in place; features that
            the reference does not know are dropped. For AnnData only.
        accelerator, device
            Hardware, as in Lightning.
        allow_missing
            Accept cells without counts in one modality; ``None`` does as at the reference's setup.
            For MuData only.

        Returns
        -------
        Model of the query. ``is_trained`` is false while new columns are to be learnt.

        Raises
        ------
        ValueError
            If the reference is not trained, features differ, or the query has new batches while the
            reference was trained without batches.

        References
        ----------
        Lotfollahi et al., "Mapping single-cell data to reference atlases by transfer learning",
        Nature Biotechnology 40:121 (2022).

        Examples
        --------
        >>> import atacvi
        >>> make = atacvi.datasets.simulate_multiome
        >>> mdata = make(n_cells=200, n_genes=50, n_peaks=200, n_batches=2)
        >>> atacvi.MultiViewModel.setup_mudata(mdata, batch_key="batch")
        >>> model = atacvi.MultiViewModel(mdata, n_clusters=3)
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> query = make(n_cells=100, n_genes=50, n_peaks=200)
        >>> query.obs["batch"] = "new"
        >>> mapped = atacvi.MultiViewModel.load_query_data(query, model)
        >>> mapped.train(max_epochs=2, enable_progress_bar=False)
        >>> mapped.get_latent_representation().shape
        (100, 20)
        """
        _, _, torch_device = parse_device_args(
            accelerator=accelerator,
            devices=device,
            return_device="torch",
            validate_single_device=True,
        )
        attributes, var_names, state = _read_reference(reference_model, torch_device)
        if not attributes.get("is_trained_", False):
            msg = "The reference model is not trained. Call its `train()` first."
            raise ValueError(msg)
        registry = attributes.pop("registry_")
        arguments = dict(registry[SETUP_ARGS_KEY])
        if isinstance(var_names, dict) and "rna_layer" not in arguments:  # peaks are all it reads
            peaks = peak_modality(arguments)
            var_names = {peaks: var_names[peaks]}
        check_features(adata, var_names, inplace=inplace_subset_query_vars)
        if allow_missing is not None and "allow_missing" in arguments:
            arguments["allow_missing"] = allow_missing
        getattr(cls, registry.get("setup_method_name", "setup_anndata"))(
            adata,
            source_registry=registry,
            extend_categories=True,
            allow_missing_labels=True,
            **arguments,
        )
        old = _one_hot_widths(registry)
        for name in (
            "train_indices_",
            "validation_indices_",
            "test_indices_",
            "history_",
            "training_stages_",
        ):
            attributes.pop(name, None)
        model = initialize_model(cls, adata, registry, attributes, None)
        _check_batches(old[0], model.module.n_batch)
        model.to_device(torch_device)
        added = _take_over(model.module, state, old)
        model.module.eval()
        model.query_columns_ = added
        if added and hasattr(model, "stages_done_"):  # what is to be learnt is not done
            model.stages_done_ = []
        model.is_trained_ = not added
        if added:
            logger.info("%d new covariate column(s) are to be learnt: call train().", len(added))
        else:
            logger.info("No new batches: the query is encoded as it is, without training.")
        return model

    @staticmethod
    def prepare_query_mudata(
        mdata: MuData,
        reference_model: str | Path | BaseModelClass,
        return_reference_var_names: bool = False,
        **project_kwargs: Any,
    ) -> MuData | dict[str, pd.Index]:
        """Give a query the features of a reference.

        Peaks are projected onto the reference's by their overlap, unless all have the same names;
        genes are brought into order. Features that the query lacks get no counts, and so does a
        modality that it lacks.

        Parameters
        ----------
        mdata
            Query; not changed.
        reference_model
            Trained model, or the folder of a saved one.
        return_reference_var_names
            Only return the names of the reference's features.
        **project_kwargs
            Further arguments of `atacvi.data.project_regions`.

        Returns
        -------
        MuData for `load_query_data`, or the names by modality.

        Raises
        ------
        ValueError
            If nothing of the query matches the reference.

        Examples
        --------
        >>> query = mdata[:20].copy()
        >>> prepared = atacvi.MultiViewModel.prepare_query_mudata(query, model)
        >>> prepared["rna"].shape, prepared["atac"].shape
        ((20, 20), (20, 100))
        """
        attributes, var_names, _ = _read_reference(reference_model, "cpu")
        registry = attributes["registry_"]
        return prepare_mudata(
            mdata,
            registry[SETUP_ARGS_KEY],
            read_features(registry),
            var_names,
            names_only=return_reference_var_names,
            project_kwargs=project_kwargs,
        )

    @staticmethod
    def prepare_query_anndata(
        adata: AnnData,
        reference_model: str | Path | BaseModelClass,
        return_reference_var_names: bool = False,
        **project_kwargs: Any,
    ) -> AnnData | pd.Index:
        """Give a query of genes and peaks in one AnnData the features of a reference.

        Parameters
        ----------
        adata
            Query; not changed.
        reference_model, return_reference_var_names, **project_kwargs
            As in `prepare_query_mudata`.

        Returns
        -------
        AnnData for `load_query_data`, or the names of the reference's features.

        Raises
        ------
        ValueError
            If nothing of the query matches the reference.

        Examples
        --------
        >>> from atacvi.data import concat_modalities
        >>> joined = concat_modalities(mdata)
        >>> joined.var = joined.var[["modality", "chrom", "start", "end"]]
        >>> atacvi.MultiViewModel.setup_anndata(joined)
        >>> reference = atacvi.MultiViewModel(
        ...     joined, n_clusters=3, n_latent=4, n_hidden=8, n_embed=8
        ... )
        >>> query = joined[:20, 10:].copy()  # cells that lack ten genes
        >>> atacvi.MultiViewModel.prepare_query_anndata(query, reference).shape
        (20, 120)
        """
        attributes, var_names, _ = _read_reference(reference_model, "cpu")
        registry = attributes["registry_"]
        return prepare_anndata(
            adata,
            registry[SETUP_ARGS_KEY],
            read_features(registry),
            var_names,
            names_only=return_reference_var_names,
            project_kwargs=project_kwargs,
        )


def _read_reference(
    reference: str | Path | BaseModelClass, device: Any
) -> tuple[dict[str, Any], Any, dict[str, torch.Tensor]]:
    """Return attributes, names of features and weights of a reference; none is shared with it."""
    is_model = hasattr(reference, "module")
    source = reference if is_model else str(reference)
    attributes, var_names, state, _ = get_loaded_data(source, device=device)
    return deepcopy(attributes), var_names, state


def _one_hot_widths(registry: dict[str, Any]) -> list[int]:
    """Return the number of batches and of categories of each covariate."""
    fields = registry["field_registries"]
    n_batch = len(fields[BATCH_KEY]["state_registry"]["categorical_mapping"])
    categories = fields.get(CAT_COVS_KEY, {}).get("state_registry", {}).get("n_cats_per_key", [])
    return [n_batch, *map(int, categories)]


def _check_batches(n_reference: int, n_query: int) -> None:
    if n_reference == 1 and n_query > 1:
        msg = (
            "The query has new batches, but the reference was trained on a single batch and has no "
            "weights for batches. Train the reference with two batches or more, or give all query "
            "cells the reference's batch to have them encoded as they are."
        )
        raise ValueError(msg)


def _take_over(module: Any, state: dict[str, torch.Tensor], old: list[int]) -> list[int]:
    """Load the reference's weights; return the covariate columns that it does not have.

    New columns start at the mean of the reference's columns of the same covariate.
    """
    new = [module.n_batch, *module.n_cats_per_cov]
    sources: list[list[int]] = []
    added: list[int] = []
    start, old_batches = 0, old[0]
    if module.n_batch == 1:
        old, new = old[1:], new[1:]  # a single batch takes no column
    for n_old, n_new in zip(old, new, strict=True):
        known = range(start, start + n_old)
        added += range(len(sources) + n_old, len(sources) + n_new)
        sources += [[column] for column in known]
        sources += [list(known)] * (n_new - n_old)
        start += n_old
    sources += [[start + k] for k in range(module.n_continuous_cov)]
    for name, value in state.items():
        if name == BATCH_SHARES:
            state[name] = torch.nn.functional.pad(value, (0, module.n_batch - value.shape[1]))
        if name == COVARIATE_MEAN:
            state[name] = value[[known[0] for known in sources]]
            state[name][added] = 0.0  # no cell of the reference is of a new category
        if name.endswith(COVARIATE_WEIGHT):
            columns = [
                value[:, known[0]] if len(known) == 1 else value[:, known].mean(1)
                for known in sources
            ]
            state[name] = torch.stack(columns, dim=1)
    _extend_batch_rows(state, old_batches, module.n_batch)
    module.load_state_dict(state)
    return added


def _extend_batch_rows(state: dict[str, torch.Tensor], n_old: int, n_new: int) -> None:
    """Give tables with a row for each batch rows for new ones, at the mean of the known."""
    for name, value in state.items():
        if name.endswith((BATCH_EMBEDDING, BATCH_COEFFICIENTS)) and n_new > n_old:
            rows = value.mean(0, keepdim=True).expand(n_new - n_old, *value.shape[1:])
            state[name] = torch.cat([value, rows])
