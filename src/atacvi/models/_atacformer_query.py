"""Reference mapping with the calls of scvi-tools: query data under the weights of a reference."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from atacvi._compat import (
    SETUP_ARGS_KEY,
    get_loaded_data,
    initialize_model,
    parse_device_args,
)
from atacvi.models._tokens import Vocabulary, find_tokens, read_vocabulary, write_tokens

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import pandas as pd
    import torch
    from anndata import AnnData
    from scvi.model.base import BaseModelClass

logger = logging.getLogger(__name__)

# What a reference knows of its own training
_OF_TRAINING = ("train_indices_", "validation_indices_", "test_indices_", "history_")


class AtacformerQueryMixin:
    """`load_query_data` and `prepare_query_anndata`."""

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData,
        reference_model: str | Path | BaseModelClass,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """Build a model of query data that holds the weights of a trained reference.

        Peaks are mapped onto the universe of the reference, or tokens of it are taken. The encoder
        knows neither batches nor labels, so that nothing is to be learnt: the model is trained, and
        its latent is that of the reference. Its labelled cells are those of the query; to have the
        reference vote, call `annotate` or `map_query` of the reference instead. Further training
        moves all weights.

        Parameters
        ----------
        adata
            Query with the columns of ``obs`` that the reference was set up with. Tokens are written
            to it, as by `setup_anndata`. Where cells may be unlabelled, the column of the labels may
            be missing.
        reference_model
            Trained model, or the folder of a saved one.
        accelerator, device
            Hardware, as in Lightning.

        Returns
        -------
        Model of the query. Heads for batches or labels that the reference does not know start anew.

        Raises
        ------
        KeyError
            If a column is missing, or there are neither tokens nor peaks.
        ValueError
            If the reference is not trained, or the query is of another universe or genome.

        Examples
        --------
        >>> query = adata[:10].copy()
        >>> query.obs["batch"] = "new"
        >>> mapped = atacvi.AtacformerModel.load_query_data(query, model)
        >>> mapped.is_trained, mapped.get_latent_representation().shape
        (True, (10, 8))
        """
        _, _, torch_device = parse_device_args(
            accelerator=accelerator,
            devices=device,
            return_device="torch",
            validate_single_device=True,
        )
        attributes, state = _read_reference(reference_model, torch_device)
        registry = attributes.pop("registry_")
        cls.setup_anndata(  # type: ignore[attr-defined]
            adata,
            source_registry=registry,
            extend_categories=True,
            allow_missing_labels=True,
            **registry[SETUP_ARGS_KEY],
        )
        for name in _OF_TRAINING:
            attributes.pop(name, None)
        model = initialize_model(cls, adata, registry, attributes, None)
        model.to_device(torch_device)
        own = model.module.state_dict()
        fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        model.module.load_state_dict(fitting, strict=False)
        anew = sorted({name.partition(".")[0] for name in own if name not in fitting})
        if anew:
            logger.info("The query has batches or labels of its own: %s start anew.", anew)
        if "classification_head" in anew:
            model.task_ = None
        model.module.eval()
        return model

    @staticmethod
    def prepare_query_anndata(
        adata: AnnData,
        reference_model: str | Path | BaseModelClass,
        return_reference_var_names: bool = False,
    ) -> AnnData | pd.Index:
        """Give a query the tokens of a reference's universe.

        Parameters
        ----------
        adata
            Query with peaks, or with tokens of that universe; not changed.
        reference_model
            Trained model, or the folder of a saved one.
        return_reference_var_names
            Only return the names of the universe's regions.

        Returns
        -------
        AnnData without features, its tokens in ``obsm``, for `load_query_data` and all methods that
        take a query; or the names.

        Raises
        ------
        KeyError
            If there are neither tokens nor peaks.
        ValueError
            If the reference is not trained, or the query is of another universe or genome.

        Examples
        --------
        >>> prepared = atacvi.AtacformerModel.prepare_query_anndata(adata[:10], model)
        >>> prepared.obsm["X_tokens"].shape
        (10, 100)
        """
        import anndata

        known = read_vocabulary(_read_reference(reference_model, "cpu")[0]["registry_"])
        if return_reference_var_names:
            return known.universe.names
        tokens, _ = find_tokens(
            adata,
            known.universe,
            known.tokens_key,
            known.layer,
            known.threshold,
            own_peaks=known.own_peaks,
        )
        prepared = anndata.AnnData(obs=adata.obs.copy())
        write_tokens(
            prepared, tokens, Vocabulary(known.universe, known.active_ids, known.tokens_key)
        )
        return prepared


def _read_reference(
    reference: str | Path | BaseModelClass, device: Any
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return attributes and weights of a trained reference; none is shared with it.

    Raises
    ------
    ValueError
        If it is not trained.
    """
    if hasattr(reference, "module"):
        attributes = {k: v for k, v in vars(reference).items() if k.endswith("_")}
        state = {k: v.clone() for k, v in reference.module.state_dict().items()}
    else:
        attributes, _, state, _ = get_loaded_data(str(reference), device=device)
    if not attributes.get("is_trained_", False):
        msg = "The reference model is not trained. Call its `train()` first."
        raise ValueError(msg)
    return deepcopy(attributes), state
