"""Weights of an encoder of tokens: from a folder or the hub, and carried over to other regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from atacvi.modules import AtacformerModule
from atacvi.modules._atacformer_checkpoint import AtacformerCheckpoint, read_checkpoint
from atacvi.regions import Universe, overlap

#: Share of the regions that must overlap those of a checkpoint
MIN_SHARE = 0.05


def embedded_universe(module: AtacformerModule, universe: Universe) -> Universe:
    """Return the regions that have an embedding, in the order of its rows."""
    if module.has_full_vocabulary:
        return universe
    return Universe(universe.regions.iloc[module.active_ids.cpu().numpy()])


@torch.no_grad()
def take_over_weights(
    target: AtacformerModule, universe: Universe, source: AtacformerCheckpoint
) -> None:
    """Copy the weights of a checkpoint; embeddings go by region, or by overlap.

    Parameters
    ----------
    target
        What the weights are copied to.
    universe
        Its regions.
    source
        What they are taken from.

    Raises
    ------
    ValueError
        If hardly any region overlaps one of the checkpoint.
    """
    given = source.module
    state = {
        name: value
        for name, value in given.state_dict().items()
        if not name.startswith(("embeddings.", "idf"))
    }
    own = target.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    target.load_state_dict(fitting, strict=False)
    weights = _region_weights(source, embedded_universe(target, universe))
    table, given_table = (module.embeddings.token_embeddings.weight for module in (target, given))
    n_own, n_given = target.embeddings.n_active, given.embeddings.n_active
    table[:n_own] = _mix(given_table[:n_given], weights, table[:n_own])
    table[n_own:] = given_table[n_given:].to(table)
    if target.config.pooling == "idf":
        target.idf[:n_own] = _mix(
            given.idf[:n_given, None], weights, target.idf[:n_own, None]
        ).squeeze(1)
        target.idf[n_own:] = 0.0


def encoder_of(
    source: Any, universe: Universe, active_ids: torch.Tensor | None
) -> AtacformerCheckpoint:
    """Return the encoder and the regions of a trained AtacformerModel, or of a checkpoint.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    TypeError
        If `source` is neither such a model nor a folder or name.
    """
    if isinstance(source, (str, Path)):
        return read_pretrained(source, universe, active_ids)
    module = getattr(source, "module", None)
    if not isinstance(module, AtacformerModule):
        msg = (
            f"pretrained is {type(source).__name__}; give an AtacformerModel, the folder of a "
            "checkpoint, or the name of a repository of the Hugging Face hub."
        )
        raise TypeError(msg)
    if not source.is_trained:
        msg = "The AtacformerModel given as `pretrained` is not trained; call its `pretrain()`."
        raise RuntimeError(msg)
    return AtacformerCheckpoint(module, embedded_universe(module, source.universe))


def read_pretrained(
    source: str | Path, universe: Universe, active_ids: torch.Tensor | None
) -> AtacformerCheckpoint:
    """Read a checkpoint, of its embeddings only those that are needed where universes agree."""
    folder = resolve_source(source, None)
    found = Universe.from_folder(folder)
    if found == universe:
        checkpoint = read_checkpoint(folder, active_ids=active_ids)
        if active_ids is None:
            return checkpoint
        kept = Universe(found.regions.iloc[active_ids.numpy()])
        return AtacformerCheckpoint(checkpoint.module, kept)
    return read_checkpoint(folder)


def resolve_source(source: str | Path, revision: str | None) -> Path:
    """Return the folder of a checkpoint, which is downloaded if `source` is no folder.

    Raises
    ------
    FileNotFoundError
        If `source` is neither a folder nor the name of a repository.
    ImportError
        If the hub is needed and its library is missing.
    TypeError
        If it is neither a path nor a name.
    """
    if not isinstance(source, (str, Path)):
        msg = (
            f"{type(source).__name__} is no checkpoint; give the folder of one, or the name of a "
            "repository of the Hugging Face hub."
        )
        raise TypeError(msg)
    path = Path(source)
    if path.is_dir():
        return path
    parts = str(source).split("/")
    if isinstance(source, Path) or len(parts) != 2 or not all(parts) or str(source)[0] in "./~":
        msg = (
            f"{source} is no folder; give the folder of a checkpoint, or the name of a repository "
            "of the Hugging Face hub, such as 'databio/atacformer-base-hg38'."
        )
        raise FileNotFoundError(msg)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        msg = (
            f"{source!r} is no folder here, and loading it from the Hugging Face hub needs "
            "huggingface_hub: pip install 'atacvi[hub]'"
        )
        raise ImportError(msg) from error
    wanted = ["config.json", "model.safetensors", "universe.bed.gz"]
    return Path(snapshot_download(str(source), revision=revision, allow_patterns=wanted))


def overlap_weights(given: Universe, wanted: Universe, min_share: float = MIN_SHARE) -> Any:
    """Return the share of each given region in each wanted one, CSR of shape (wanted, given).

    Raises
    ------
    ValueError
        If fewer than `min_share` of the wanted regions overlap a given one.
    """
    import scipy.sparse as sp

    one, two, length = overlap(wanted.regions, given.regions)
    weights = sp.csr_matrix(
        (length.astype(np.float64), (one, two)), shape=(len(wanted), len(given))
    )
    total = np.asarray(weights.sum(axis=1)).ravel()
    share = float((total > 0).mean())
    if share < min_share:
        msg = (
            f"{share:.1%} of the {len(wanted)} regions overlap one that the model embeds; at least "
            f"{min_share:.0%} must. Are they of another genome build?"
        )
        raise ValueError(msg)
    return sp.csr_matrix(sp.diags(1.0 / np.maximum(total, 1.0)) @ weights)


def _region_weights(source: AtacformerCheckpoint, wanted: Universe) -> Any:
    """Return the overlap of the wanted regions with the given ones, or ``None`` if they agree."""
    if source.universe == wanted:
        return None
    given = source.universe
    n_given = source.module.embeddings.n_active
    if len(given) != n_given:  # the module embeds part of it
        given = Universe(given.regions.iloc[source.module.active_ids.cpu().numpy()])
    return overlap_weights(given, wanted)


def _mix(given: torch.Tensor, weights: Any, own: torch.Tensor) -> torch.Tensor:
    """Return given rows, mixed by overlap where the universes differ; own ones where there is none."""
    if weights is None:
        return given.to(own)
    mixed = torch.as_tensor(weights @ given.cpu().double().numpy()).to(own)
    found = torch.as_tensor(np.diff(weights.indptr) > 0, device=own.device)[:, None]
    return torch.where(found, mixed, own)
