"""Setup of AtacformerModel: checks, and registration of tokens with scvi-tools."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scvi.data import AnnDataManager, fields

from atacvi._compat import SETUP_ARGS_KEY
from atacvi._constants import BATCH_KEY, LABELS_KEY, OBSM_TOKENS
from atacvi.data import check_categories, check_key, check_names
from atacvi.data._messages import examples
from atacvi.models._tokens import (
    TOKENS_KEY,
    UNIVERSE_ENTRY,
    TokensField,
    Vocabulary,
    as_universe,
    check_is_anndata,
    choose_vocabulary,
    describe_vocabulary,
    find_tokens,
    read_vocabulary,
    written_tokens,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from atacvi.regions import Universe

logger = logging.getLogger(__name__)


def setup_tokens(
    cls: type,
    adata: AnnData,
    setup_method_args: dict[str, Any],
    *,
    universe: Any,
    tokens_key: str,
    layer: str | None,
    threshold: float,
    batch_key: str | None,
    labels_key: str | None,
    unlabeled_category: str | None,
    **kwargs: Any,
) -> None:
    """Check an object, find its tokens, and register both; nothing is written unless all is well."""
    may_lack = unlabeled_category is not None and kwargs.get("allow_missing_labels", False)
    _check_columns(adata, batch_key, labels_key, unlabeled_category, may_lack_labels=may_lack)
    replayed = kwargs.get("source_registry")
    known = None if replayed is None else read_vocabulary(replayed)
    vocabulary = known
    if known is None:
        tokens, vocabulary = choose_vocabulary(
            adata, as_universe(universe), tokens_key, layer, threshold
        )
        universe = vocabulary.universe
    else:
        tokens, universe = find_tokens(
            adata, known.universe, tokens_key, layer, threshold, own_peaks=known.own_peaks
        )
    assert vocabulary is not None
    lengths = np.diff(tokens.indptr)
    if not lengths.any():
        msg = (
            f"None of the {adata.n_obs} cells has a token in {universe!r}. Are the data of another "
            "genome, or were they filtered?"
        )
        raise ValueError(msg)
    if not lengths.all():
        logger.warning(
            "%d of %d cells hold no token of the universe; they take no part in training.",
            int((lengths == 0).sum()),
            len(lengths),
        )
    # the universe is kept in an entry of its own; what replays the setup finds it there
    setup_method_args[SETUP_ARGS_KEY]["universe"] = None
    labels_field = (
        fields.CategoricalObsField(LABELS_KEY, labels_key)
        if unlabeled_category is None
        else fields.LabelsWithUnlabeledObsField(LABELS_KEY, labels_key, unlabeled_category)
    )
    manager = AnnDataManager(
        fields=[
            TokensField(TOKENS_KEY, tokens_key),
            fields.CategoricalObsField(BATCH_KEY, batch_key),
            labels_field,
        ],
        setup_method_args=setup_method_args,
    )
    with written_tokens(adata, tokens, vocabulary):
        manager.register_fields(adata, **kwargs)
    manager.registry[UNIVERSE_ENTRY] = describe_vocabulary(vocabulary)
    cls.register_manager(manager)  # type: ignore[attr-defined]


def _check_columns(
    adata: AnnData,
    batch_key: str | None,
    labels_key: str | None,
    unlabeled_category: str | None,
    *,
    may_lack_labels: bool = False,
) -> None:
    check_is_anndata(adata)
    if adata.n_obs == 0:
        msg = "adata holds no cells; at least one is needed."
        raise ValueError(msg)
    check_names(adata, "adata")
    for argument, key in (("batch_key", batch_key), ("labels_key", labels_key)):
        missing_is_fine = may_lack_labels and argument == "labels_key" and key not in adata.obs
        if key is not None and not missing_is_fine:
            column = check_key(adata, "obs", key, "adata", argument=argument)
            check_categories(column, f'adata.obs["{key}"]')
    if unlabeled_category is not None and labels_key is None:
        msg = (
            f"unlabeled_category={unlabeled_category!r} needs `labels_key`, the column in which "
            "cells without a label are called so."
        )
        raise ValueError(msg)
    lacking = may_lack_labels and labels_key not in adata.obs
    if unlabeled_category is not None and not lacking:
        found = adata.obs[labels_key].astype(str).unique()
        if unlabeled_category not in found:
            logger.warning(
                "No cell is called unlabeled_category=%r in obs[%r], which holds %s: all cells are "
                "taken to be labelled.",
                unlabeled_category,
                labels_key,
                examples(found),
            )


def registry_without_data(cls: Any, universe: Universe, tokens_key: str = OBSM_TOKENS) -> Any:
    """Return a registry for a model that has seen no data: one batch, one label, all regions."""
    import anndata
    import pandas as pd

    blank = anndata.AnnData(obs=pd.DataFrame(index=["none"]))
    blank.obsm[tokens_key] = sp.csr_matrix(
        (np.ones(1, dtype=bool), ([0], [0])), shape=(1, len(universe))
    )
    cls.setup_anndata(blank, tokens_key=tokens_key, universe=universe)
    manager = cls._get_most_recent_anndata_manager(blank, required=True)
    registry = manager.registry
    everything = Vocabulary(universe, np.arange(len(universe)), tokens_key, None, 0.0)
    registry[UNIVERSE_ENTRY] = describe_vocabulary(everything)
    return registry
