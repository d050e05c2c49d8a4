"""Tokens of cells: registration with scvi-tools, and what a model must know of its universe."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scvi.data import AnnDataManager, fields

from atacvi._compat import SETUP_ARGS_KEY
from atacvi._constants import BATCH_KEY, LABELS_KEY, OBSM_TOKENS, UNS_KEY
from atacvi.data import (
    check_categories,
    check_key,
    check_names,
    get_matrix,
    get_universe,
    tokenize_anndata,
)
from atacvi.regions import Universe

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

# Key of the tokens in the data registry
TOKENS_KEY = "tokens"
# Entry that setup adds to the registry of scvi-tools, so that a model can be built without data
UNIVERSE_ENTRY = "atacvi_universe"


class TokensField(fields.ObsmField):
    """Field of the tokens; its columns are the regions of the universe, kept beside it."""

    def _setup_column_names(self, adata: AnnData) -> np.ndarray:
        """Return the ids of the regions, without telling the user that columns got numbers."""
        return np.arange(self.get_field_data(adata).shape[1])


class Vocabulary(NamedTuple):
    """What a registered object tells of its tokens.

    Parameters
    ----------
    universe
        All regions.
    active_ids
        Regions that occur, int64, rising.
    tokens_key, layer, threshold
        How tokens were found, for further data.
    """

    universe: Universe
    active_ids: np.ndarray
    tokens_key: str
    layer: str | None
    threshold: float


def read_vocabulary(registry: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary from a registry.

    Raises
    ------
    ValueError
        If the registry was not written by a setup of AtacformerModel.
    """
    if UNIVERSE_ENTRY not in registry:
        msg = (
            "The registry does not describe a universe of regions. Call "
            "`AtacformerModel.setup_anndata(adata)` before building a model."
        )
        raise ValueError(msg)
    entry = registry[UNIVERSE_ENTRY]
    return Vocabulary(
        Universe.from_arrays(entry["universe"]),
        np.asarray(entry["active_ids"], dtype=np.int64),
        entry["tokens_key"],
        entry["layer"],
        entry["threshold"],
    )


def describe_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return a plain description of a vocabulary, to be kept in the registry."""
    return {
        "universe": vocabulary.universe.to_arrays(),
        "universe_hash": vocabulary.universe.hash,
        "active_ids": vocabulary.active_ids,
        "tokens_key": vocabulary.tokens_key,
        "layer": vocabulary.layer,
        "threshold": vocabulary.threshold,
    }


def find_tokens(
    adata: AnnData,
    universe: Universe | None,
    tokens_key: str = OBSM_TOKENS,
    layer: str | None = None,
    threshold: float = 0.0,
) -> tuple[sp.csr_matrix, Universe]:
    """Return the tokens of an object: those it holds, or its peaks mapped onto the universe.

    Parameters
    ----------
    adata
        Object; not changed.
    universe
        Vocabulary; ``None`` takes the one stored with the tokens, or the peaks themselves.
    tokens_key
        Slot of ``obsm`` that may hold tokens.
    layer, threshold
        Counts in peaks, and above which of them a peak is open.

    Returns
    -------
    Token sets, CSR of shape (cells, regions) with sorted ids, and their universe.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there are neither tokens nor peaks, or they are of another universe.
    """
    if tokens_key in adata.obsm:
        return _stored_tokens(adata, universe, tokens_key)
    if adata.n_vars == 0:
        msg = (
            f"adata.obsm[{tokens_key!r}] does not exist (obsm holds {list(adata.obsm)}), and there "
            "are no peaks that could be mapped onto a universe. Tokenize the data first: "
            "atacvi.data.tokenize_fragments, tokenize_anndata or tokenize_bed"
        )
        raise KeyError(msg)
    if universe is None:
        own = Universe.from_regions(adata)
        if len(own) == adata.n_vars:
            return _open_peaks(get_matrix(adata, layer, "adata"), threshold), own
        universe = own
    tokenized = tokenize_anndata(adata, universe, layer=layer, threshold=threshold)
    return _as_sets(tokenized.obsm[OBSM_TOKENS], "the tokens"), universe


def _stored_tokens(
    adata: AnnData, universe: Universe | None, tokens_key: str
) -> tuple[sp.csr_matrix, Universe]:
    where = f"adata.obsm[{tokens_key!r}]"
    described = "tokens" in adata.uns.get(UNS_KEY, {})
    if described:
        found = get_universe(adata)
        if universe is not None and found != universe:
            msg = (
                f"{where} holds tokens of another universe ({found!r}) than the model's "
                f"({universe!r}). Tokenize these data with the model's: "
                "atacvi.data.tokenize_fragments(paths, model.universe), or drop the tokens and "
                "give the peaks, which are then mapped"
            )
            raise ValueError(msg)
        universe = found
    if universe is None:
        msg = (
            f"{where} does not tell its universe (uns['{UNS_KEY}']['tokens'] is missing); give "
            "`universe`, or make the tokens with a function of atacvi.data"
        )
        raise ValueError(msg)
    tokens = _as_sets(adata.obsm[tokens_key], where)
    if tokens.shape[1] != len(universe):
        msg = (
            f"{where} has {tokens.shape[1]} columns, the universe {len(universe)} regions; they "
            "must be equal. Tokenize the data with this universe"
        )
        raise ValueError(msg)
    return tokens, universe


def _as_sets(matrix: Any, where: str) -> sp.csr_matrix:
    """Return a boolean CSR matrix with sorted ids and without stored zeros."""
    if not (sp.issparse(matrix) or isinstance(matrix, np.ndarray)):
        msg = f"{where} is {type(matrix).__name__}; tokens are a sparse matrix (cells, regions)."
        raise TypeError(msg)
    tokens = sp.csr_matrix(matrix)
    if tokens.dtype.kind == "f" and not np.isfinite(tokens.data).all():
        msg = f"{where} holds NaN or infinite values; a token is there (1) or not (0)."
        raise ValueError(msg)
    if tokens.nnz and tokens.data.min() < 0:
        msg = f"{where} holds negative values; a token is there (1) or not (0)."
        raise ValueError(msg)
    if tokens.data.dtype != bool or not tokens.data.all() or not tokens.has_sorted_indices:
        tokens = tokens.copy()
        tokens.sum_duplicates()
        tokens.eliminate_zeros()
        tokens = tokens.astype(bool)
    return tokens


def _open_peaks(matrix: Any, threshold: float) -> sp.csr_matrix:
    if threshold < 0:
        msg = f"threshold={threshold} must be at least 0: peaks that are not stored are closed."
        raise ValueError(msg)
    # a matrix in a file is read into memory, sparse as it is
    matrix = matrix if sp.issparse(matrix) or isinstance(matrix, np.ndarray) else matrix[:]
    return _as_sets(sp.csr_matrix(matrix) > threshold, "the open peaks")


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
    _check_columns(adata, batch_key, labels_key, unlabeled_category)
    replayed = kwargs.get("source_registry")
    known = None
    if replayed is not None:
        known = read_vocabulary(replayed)
        universe = known.universe
    universe = _as_universe(universe)
    tokens, universe = find_tokens(adata, universe, tokens_key, layer, threshold)
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
    vocabulary = known
    if vocabulary is None:
        active = np.unique(tokens.indices).astype(np.int64)
        vocabulary = Vocabulary(universe, active, tokens_key, layer, threshold)
    _write_tokens(adata, tokens, universe, tokens_key)
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
    manager.register_fields(adata, **kwargs)
    manager.registry[UNIVERSE_ENTRY] = describe_vocabulary(vocabulary)
    cls.register_manager(manager)  # type: ignore[attr-defined]


def _as_universe(universe: Any) -> Universe | None:
    if universe is None or isinstance(universe, Universe):
        return universe
    if isinstance(universe, str) or hasattr(universe, "__fspath__"):
        return Universe.load(universe)
    return Universe.from_regions(universe)


def _check_columns(
    adata: AnnData, batch_key: str | None, labels_key: str | None, unlabeled_category: str | None
) -> None:
    if not hasattr(adata, "obsm") or hasattr(adata, "mod"):
        msg = f"an AnnData is needed, this is {type(adata).__name__}; give one modality of it."
        raise TypeError(msg)
    check_names(adata, "adata")
    for argument, key in (("batch_key", batch_key), ("labels_key", labels_key)):
        if key is not None:
            column = check_key(adata, "obs", key, "adata", argument=argument)
            check_categories(column, f'adata.obs["{key}"]')
    if unlabeled_category is not None and labels_key is None:
        msg = (
            f"unlabeled_category={unlabeled_category!r} needs `labels_key`, the column in which "
            "cells without a label are called so."
        )
        raise ValueError(msg)


def _write_tokens(
    adata: AnnData, tokens: sp.csr_matrix, universe: Universe, tokens_key: str
) -> None:
    adata.obsm[tokens_key] = tokens
    adata.obs["n_tokens"] = np.diff(tokens.indptr).astype(np.int64)
    adata.obs["is_empty"] = adata.obs["n_tokens"].to_numpy() == 0
    own = adata.uns.setdefault(UNS_KEY, {})
    if "tokens" not in own:
        own["tokens"] = {
            "universe": universe.to_arrays(),
            "universe_hash": universe.hash,
            "mode": "peaks",
        }


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
