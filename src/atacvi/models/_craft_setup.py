"""Pairs of RNA and accessibility: checks, registration, and what a query must be brought to."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scvi.data import AnnDataManager, fields

from atacvi._compat import SETUP_ARGS_KEY
from atacvi._constants import ATAC, BATCH_KEY, LABELS_KEY, RNA, X_KEY
from atacvi.data import (
    check_categories,
    check_counts,
    check_key,
    check_modalities,
    check_names,
    check_paired,
    get_matrix,
)
from atacvi.data._messages import examples
from atacvi.models._tokens import (
    TOKENS_KEY,
    UNIVERSE_ENTRY,
    as_universe,
    choose_vocabulary,
    describe_vocabulary,
    find_tokens,
    read_vocabulary,
    write_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

#: Key of a given RNA embedding in the data registry
RNA_EMBEDDING_KEY = "rna_embedding"
# Entry that setup adds to the registry of scvi-tools
PAIRS_ENTRY = "atacvi_pairs"
DEFAULT_MODALITIES = {"rna_layer": RNA, "atac_layer": ATAC}
# A query that knows fewer of the genes is taken to be of another annotation
_MIN_GENE_SHARE = 0.05


class Pairs(NamedTuple):
    """What a registered object tells of its RNA.

    Parameters
    ----------
    genes
        Names.
    rna, atac
        Names of the modalities.
    rna_layer, rna_obsm
        Where counts, and a given embedding, are found.
    n_rna_embed
        Width of the given embedding, 0 for none.
    """

    genes: np.ndarray
    rna: str
    atac: str
    rna_layer: str | None
    rna_obsm: str | None
    n_rna_embed: int


def read_pairs(registry: dict[str, Any]) -> Pairs:
    """Return the description of the pairs from a registry.

    Raises
    ------
    ValueError
        If the registry was not written by the setup of CRAFTModel.
    """
    if PAIRS_ENTRY not in registry:
        msg = (
            "The registry does not describe pairs of RNA and accessibility. Call "
            "`CRAFTModel.setup_mudata(mdata)` before building a model."
        )
        raise ValueError(msg)
    entry = registry[PAIRS_ENTRY]
    return Pairs(**{**entry, "genes": np.asarray(entry["genes"], dtype=object)})


def setup_pairs(
    cls: Any,
    mdata: MuData,
    setup_method_args: dict[str, Any],
    *,
    rna_layer: str | None,
    rna_obsm: str | None,
    tokens_key: str,
    atac_layer: str | None,
    threshold: float,
    universe: Any,
    batch_key: str | None,
    labels_key: str | None,
    modalities: dict[str, str],
    allow_missing: bool,
    **kwargs: Any,
) -> None:
    """Check a MuData, find the tokens, and register both; nothing is written unless all is well."""
    check_modalities(mdata, modalities)
    if mdata.is_view:
        msg = "mdata is a view of another object; set up a copy: mdata = mdata.copy()"
        raise ValueError(msg)
    names = [modalities["rna_layer"], modalities["atac_layer"]]
    rna, atac = (mdata.mod[name] for name in names)
    for name, part in zip(names, (rna, atac), strict=True):
        check_names(part, f'mdata["{name}"]')
    check_paired(mdata, names)
    _check_columns(mdata, modalities, batch_key=batch_key, labels_key=labels_key)
    counts = _checked_counts(rna, rna_layer, f'mdata["{names[0]}"]')
    embedding = None if rna_obsm is None else rna_embedding(rna, rna_obsm, names[0])
    replayed = kwargs.get("source_registry")
    known = None if replayed is None else read_vocabulary(replayed)
    if known is None:
        tokens, vocabulary = choose_vocabulary(
            atac, as_universe(universe), tokens_key, atac_layer, threshold
        )
    else:
        tokens, _ = find_tokens(
            atac, known.universe, tokens_key, atac_layer, threshold, own_peaks=known.own_peaks
        )
        vocabulary = known
    has_rna = np.asarray(counts.sum(axis=1)).ravel() > 0
    has_atac = np.diff(tokens.indptr) > 0
    _check_pairing(mdata, has_rna, has_atac, allow_missing=allow_missing)
    write_tokens(atac, tokens, vocabulary)
    # the universe is kept in an entry of its own; what replays the setup finds it there
    setup_method_args[SETUP_ARGS_KEY]["universe"] = None
    attributes = cls._create_modalities_attr_dict(modalities, setup_method_args)
    of_rna: dict[str, Any] = {"mod_key": attributes.rna_layer, "mod_required": True}
    of_atac: dict[str, Any] = {"mod_key": attributes.atac_layer, "mod_required": True}
    given = (
        [] if rna_obsm is None else [fields.MuDataObsmField(RNA_EMBEDDING_KEY, rna_obsm, **of_rna)]
    )
    manager = AnnDataManager(
        fields=[
            fields.MuDataLayerField(X_KEY, rna_layer, is_count_data=True, **of_rna),
            fields.MuDataObsmField(TOKENS_KEY, tokens_key, **of_atac),
            *given,
            fields.MuDataCategoricalObsField(BATCH_KEY, batch_key, mod_key=attributes.batch_key),
            fields.MuDataCategoricalObsField(LABELS_KEY, labels_key, mod_key=attributes.labels_key),
        ],
        setup_method_args=setup_method_args,
    )
    with _without_notes():
        manager.register_fields(mdata, **kwargs)
    manager.registry[UNIVERSE_ENTRY] = describe_vocabulary(vocabulary)
    manager.registry[PAIRS_ENTRY] = {
        "genes": [str(name) for name in rna.var_names],
        "rna": names[0],
        "atac": names[1],
        "rna_layer": rna_layer,
        "rna_obsm": rna_obsm,
        "n_rna_embed": 0 if embedding is None else embedding.shape[1],
    }
    cls.register_manager(manager)


@contextmanager
def _without_notes() -> Iterator[None]:
    """Leave out scvi-tools' note that it numbers the columns of the tokens, which says nothing."""
    noisy = logging.getLogger("scvi")
    before = noisy.level
    noisy.setLevel(logging.WARNING)
    try:
        yield
    finally:
        noisy.setLevel(before)


def _check_columns(mdata: MuData, modalities: dict[str, str], **keys: str | None) -> None:
    for argument, key in keys.items():
        if key is None:
            continue
        name = modalities.get(argument)
        where = "mdata" if name is None else f'mdata["{name}"]'
        obj = mdata if name is None else mdata.mod[name]
        others = {"mdata": mdata, **{f'mdata["{n}"]': a for n, a in mdata.mod.items()}}
        elsewhere = {label: other for label, other in others.items() if label != where}
        column = check_key(obj, "obs", key, where, argument=argument, elsewhere=elsewhere)
        check_categories(column, f'{where}.obs["{key}"]')


def _checked_counts(rna: AnnData, layer: str | None, where: str) -> sp.csr_matrix:
    matrix = get_matrix(rna, layer, where, "rna_layer")
    if 0 in rna.shape:
        msg = f"{where} has {rna.n_obs} cells and {rna.n_vars} genes; both must be at least 1."
        raise ValueError(msg)
    name = f"{where}.X" if layer is None else f'{where}.layers["{layer}"]'
    check_counts(matrix, name, obs_names=rna.obs_names, var_names=rna.var_names)
    return _as_csr(matrix)


def _as_csr(matrix: Any) -> sp.csr_matrix:
    matrix = matrix if sp.issparse(matrix) or isinstance(matrix, np.ndarray) else matrix[:]
    return sp.csr_matrix(matrix)


def rna_embedding(rna: AnnData, key: str, where: str) -> np.ndarray:
    """Return a given embedding of the RNA, float32 of shape (cells, width).

    Raises
    ------
    KeyError
        If there is no such slot.
    ValueError
        If it is no matrix of finite numbers.
    """
    if key not in rna.obsm:
        msg = f"The {where} data have no obsm[{key!r}]; obsm holds {list(rna.obsm) or 'nothing'}."
        raise KeyError(msg)
    found = np.asarray(rna.obsm[key], dtype=np.float32)
    if found.ndim != 2 or not np.isfinite(found).all():
        msg = f"obsm[{key!r}] of the {where} data, of shape {found.shape}, must be a matrix of finite numbers."
        raise ValueError(msg)
    return found


def _check_pairing(
    mdata: MuData, has_rna: np.ndarray, has_atac: np.ndarray, *, allow_missing: bool
) -> None:
    """Refuse cells that lack a modality, or say how many there are."""
    unpaired = np.flatnonzero(~(has_rna & has_atac))
    n_pairs = len(has_rna) - len(unpaired)
    if n_pairs < 2:
        msg = (
            f"{n_pairs} of {len(has_rna)} cells have both counts of genes and open regions of the "
            "universe; at least 2 pairs are needed. Are the modalities of the same cells, and the "
            "universe of the same genome?"
        )
        raise ValueError(msg)
    if len(unpaired) and not allow_missing:
        msg = (
            f"{len(unpaired)} of {len(has_rna)} cells ({examples(mdata.obs_names[unpaired])}) are "
            f"not paired: {int((~has_rna).sum())} have no counts of genes, "
            f"{int((~has_atac).sum())} no open region of the universe. Drop them, or pass "
            "allow_missing=True to leave them out of the training"
        )
        raise ValueError(msg)
    if len(unpaired):
        logger.info("%d cells lack a modality and take no part in training.", len(unpaired))


def counts_of_query(
    rna: AnnData, genes: np.ndarray, layer: str | None
) -> tuple[sp.csr_matrix, np.ndarray | None]:
    """Return the counts of an object in the order of the model's genes, and which it has.

    Genes that the object lacks are empty columns; the encoder takes them to be at their mean.

    Raises
    ------
    ValueError
        If it has hardly any of the genes, or counts are no counts.
    """
    check_names(rna, "the RNA data")
    counts = _checked_counts(rna, layer, "the RNA data")
    if np.array_equal(rna.var_names.to_numpy(dtype=object), genes):
        return counts, None
    place = rna.var_names.get_indexer(genes)
    known = place >= 0
    if known.mean() < _MIN_GENE_SHARE or not known.any():
        msg = (
            f"The RNA data have {int(known.sum())} of the model's {len(genes)} genes, such as "
            f"{genes[0]!r}; their own look like {str(rna.var_names[0])!r}. Use the same kind of "
            "names (symbols or Ensembl ids)."
        )
        raise ValueError(msg)
    if not known.all():
        logger.warning(
            "The RNA data lack %d of the model's %d genes; they are taken to be at their mean.",
            int((~known).sum()),
            len(genes),
        )
    picked = sp.csc_matrix(counts)[:, place[known]]
    spread = sp.csr_matrix(
        (np.ones(int(known.sum())), (np.arange(int(known.sum())), np.flatnonzero(known))),
        shape=(int(known.sum()), len(genes)),
    )
    return sp.csr_matrix(picked @ spread), known
