"""Tokens of cells and the universe they belong to: found, described in a registry, written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi.data import fields

from atacvi._constants import OBSM_TOKENS, UNS_KEY
from atacvi.data import check_counts, get_matrix, tokenize_anndata
from atacvi.data.tokens import read_universe
from atacvi.regions import Universe, format_regions, parse_regions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

# Key of the tokens in the data registry
TOKENS_KEY = "tokens"
# Entry that setup adds to the registry of scvi-tools, so that a model can be built without data
UNIVERSE_ENTRY = "atacvi_universe"
# Mark beside tokens that a setup made, which are made again when their peaks are there
_MADE = "made_by_setup"
# Columns of obs that are written beside tokens
_COLUMNS = ("n_tokens", "is_empty")


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
    own_peaks
        Whether the regions are the peaks of the data themselves: the same peaks of further data
        are then the same regions, also where peaks overlap each other.
    """

    universe: Universe
    active_ids: np.ndarray
    tokens_key: str
    layer: str | None = None
    threshold: float = 0.0
    own_peaks: bool = False


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
            "`AtacformerModel.setup_anndata(adata)`, or `CRAFTModel.setup_mudata(mdata)`, before "
            "building a model."
        )
        raise ValueError(msg)
    entry = registry[UNIVERSE_ENTRY]
    return Vocabulary(
        Universe.from_arrays(entry["universe"]),
        np.asarray(entry["active_ids"], dtype=np.int64),
        entry["tokens_key"],
        entry["layer"],
        entry["threshold"],
        bool(entry.get("own_peaks", False)),
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
        "own_peaks": vocabulary.own_peaks,
    }


def check_is_anndata(adata: Any) -> None:
    """Refuse what is no AnnData.

    Raises
    ------
    TypeError
        In that case.
    """
    if not hasattr(adata, "obsm") or hasattr(adata, "mod"):
        which = "; give one modality of it, such as mdata['atac']" if hasattr(adata, "mod") else ""
        msg = f"an AnnData is needed, this is {type(adata).__name__}{which}."
        raise TypeError(msg)


def choose_vocabulary(
    adata: AnnData,
    universe: Universe | None,
    tokens_key: str,
    layer: str | None,
    threshold: float,
) -> tuple[sp.csr_matrix, Vocabulary]:
    """Return the tokens of an object that is set up anew, and the vocabulary they are of.

    Tokens that an earlier setup made of the peaks are made again: peaks, or arguments, may be
    others by now. Tokens that came with the data are taken as they are.

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

    Raises
    ------
    KeyError, TypeError, ValueError
        As `find_tokens`; and if a layer or threshold is given, but tokens came with the data.
    """
    _check_threshold(threshold)
    made_before = _made_by_setup(adata, tokens_key)
    given = tokens_key in adata.obsm and not made_before
    if given and (layer is not None or threshold != 0):
        msg = (
            f"layer={layer!r} and threshold={threshold} choose open peaks, but "
            f"adata.obsm[{tokens_key!r}] holds tokens already, which are taken as they are. Leave "
            f"the two arguments out, or drop the tokens: del adata.obsm[{tokens_key!r}]"
        )
        raise ValueError(msg)
    if universe is None and made_before and not _entry(adata, tokens_key)["own_peaks"]:
        universe = _stored_universe(adata, tokens_key)
    own_peaks = False
    if universe is None and not given and adata.n_vars > 0:
        universe = Universe.from_regions(adata)
        own_peaks = True
    tokens, universe = find_tokens(
        adata, universe, tokens_key, layer, threshold, own_peaks=own_peaks
    )
    active = np.unique(tokens.indices).astype(np.int64)
    return tokens, Vocabulary(universe, active, tokens_key, layer, threshold, own_peaks)


def find_tokens(
    adata: AnnData,
    universe: Universe | None,
    tokens_key: str = OBSM_TOKENS,
    layer: str | None = None,
    threshold: float = 0.0,
    *,
    own_peaks: bool = False,
) -> tuple[sp.csr_matrix, Universe]:
    """Return the tokens of an object: those it came with, or its peaks mapped onto the universe.

    Parameters
    ----------
    adata
        Object; not changed.
    universe
        Vocabulary; ``None`` takes the one stored with the tokens.
    tokens_key
        Slot of ``obsm`` that may hold tokens. Those that a setup made of peaks are made again
        where the peaks are there.
    layer, threshold
        Counts in peaks, and above which of them a peak is open.
    own_peaks
        Peaks that are regions of the universe stand for these alone, not for all they overlap.

    Returns
    -------
    Token sets, CSR of shape (cells, regions) with sorted ids, and their universe.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there are neither tokens nor peaks, or they are of another universe.
    """
    check_is_anndata(adata)
    stored = tokens_key in adata.obsm
    made = _made_by_setup(adata, tokens_key)
    has_peaks = adata.n_vars > 0 and (layer is None or layer in adata.layers)
    if stored and not (made and has_peaks):
        return _stored_tokens(adata, universe, tokens_key)
    if adata.n_vars == 0:
        msg = (
            f"adata.obsm[{tokens_key!r}] does not exist (obsm holds {list(adata.obsm)}), and there "
            "are no peaks that could be mapped onto a universe. Tokenize the data first: "
            "atacvi.data.tokenize_fragments, tokenize_anndata or tokenize_bed"
        )
        raise KeyError(msg)
    assert universe is not None
    ids = _ids_of_peaks(adata, universe) if own_peaks else None
    if ids is not None:
        return _open_peaks(adata, layer, threshold, ids, len(universe)), universe
    tokenized = tokenize_anndata(adata, universe, layer=layer, threshold=threshold)
    return _as_sets(tokenized.obsm[OBSM_TOKENS], "the tokens"), universe


def _ids_of_peaks(adata: AnnData, universe: Universe) -> np.ndarray | None:
    """Return the region that each peak is, ``None`` unless every peak is one and no two the same."""
    names = pd.Index(format_regions(parse_regions(adata.var)))
    ids = universe.names.get_indexer(names)
    return ids if (ids >= 0).all() and names.is_unique else None


def _stored_tokens(
    adata: AnnData, universe: Universe | None, tokens_key: str
) -> tuple[sp.csr_matrix, Universe]:
    where = f"adata.obsm[{tokens_key!r}]"
    if _entry(adata, tokens_key):
        found = _stored_universe(adata, tokens_key)
        if universe is not None and found != universe:
            msg = (
                f"{where} holds tokens of another universe ({found!r}) than the one asked "
                f"for ({universe!r}). Tokenize these data with that: "
                "atacvi.data.tokenize_fragments(paths, universe), or drop the tokens "
                f"(del {where}) and give the peaks, which are then mapped"
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


def _open_peaks(
    adata: AnnData, layer: str | None, threshold: float, ids: np.ndarray, n_regions: int
) -> sp.csr_matrix:
    """Return the sets of open peaks, each under the id of its region."""
    _check_threshold(threshold)
    matrix = get_matrix(adata, layer, "adata")
    name = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    check_counts(matrix, name, obs_names=adata.obs_names, var_names=adata.var_names, integer=False)
    # a matrix in a file is read into memory, sparse as it is
    matrix = matrix if sp.issparse(matrix) or isinstance(matrix, np.ndarray) else matrix[:]
    tokens = sp.csr_matrix(sp.csr_matrix(matrix) > threshold)
    moved = (tokens.data, ids[tokens.indices], tokens.indptr)
    return _as_sets(sp.csr_matrix(moved, shape=(adata.n_obs, n_regions)), "the open peaks")


def _check_threshold(threshold: float) -> None:
    if isinstance(threshold, str) or not threshold >= 0:
        msg = f"threshold={threshold!r} must be a number of at least 0: peaks that are not stored are closed."
        raise ValueError(msg)


def as_universe(universe: Any) -> Universe | None:
    """Return a universe from what stands for one: regions, or the path of a file or folder."""
    if universe is None or isinstance(universe, Universe):
        return universe
    if isinstance(universe, str) or hasattr(universe, "__fspath__"):
        return Universe.load(universe)
    return Universe.from_regions(universe)


@contextmanager
def written_tokens(adata: AnnData, tokens: sp.csr_matrix, vocabulary: Vocabulary) -> Iterator[None]:
    """Write tokens as `write_tokens` does, and take them back if what follows fails."""
    key, entries = vocabulary.tokens_key, dict(adata.uns.get(UNS_KEY, {}))
    had_entries = UNS_KEY in adata.uns
    before = adata.obsm.get(key)
    columns = {name: adata.obs.get(name) for name in _COLUMNS}
    write_tokens(adata, tokens, vocabulary)
    try:
        yield
    except BaseException:
        if before is None:
            del adata.obsm[key]
        else:
            adata.obsm[key] = before
        for name, column in columns.items():
            if column is None:
                del adata.obs[name]
            else:
                adata.obs[name] = column
        if had_entries:
            adata.uns[UNS_KEY] = entries
        else:
            adata.uns.pop(UNS_KEY, None)
        raise


def write_tokens(adata: AnnData, tokens: sp.csr_matrix, vocabulary: Vocabulary) -> None:
    """Write tokens, how many a cell has, and what universe they are of."""
    key, universe = vocabulary.tokens_key, vocabulary.universe
    came_with_data = key in adata.obsm and not _made_by_setup(adata, key)
    adata.obsm[key] = tokens
    adata.obs["n_tokens"] = np.diff(tokens.indptr).astype(np.int64)
    adata.obs["is_empty"] = adata.obs["n_tokens"].to_numpy() == 0
    if came_with_data and _entry(adata, key):
        return
    adata.uns.setdefault(UNS_KEY, {})[_entry_name(key)] = {
        "universe": universe.to_arrays(),
        "universe_hash": universe.hash,
        "mode": "tokens" if came_with_data else "peaks",
        _MADE: not came_with_data,
        "own_peaks": vocabulary.own_peaks,
    }


# ---- what is stored beside tokens ----------------------------------------------------------


def _entry_name(tokens_key: str) -> str:
    return "tokens" if tokens_key == OBSM_TOKENS else f"tokens of {tokens_key}"


def _entry(adata: AnnData, tokens_key: str) -> dict[str, Any]:
    """Return what is stored beside tokens; of another slot without an own entry, the usual one."""
    found = adata.uns.get(UNS_KEY, {})
    return found.get(_entry_name(tokens_key)) or found.get("tokens") or {}


def _stored_universe(adata: AnnData, tokens_key: str) -> Universe:
    return read_universe(_entry(adata, tokens_key))


def _made_by_setup(adata: AnnData, tokens_key: str) -> bool:
    """Whether an earlier setup made the tokens of the peaks."""
    own = adata.uns.get(UNS_KEY, {}).get(_entry_name(tokens_key), {})
    return tokens_key in adata.obsm and bool(own.get(_MADE, False))
