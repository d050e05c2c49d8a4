"""Folders of the public checkpoints: ``config.json``, ``model.safetensors``, ``universe.bed.gz``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atacvi.data._messages import examples
from atacvi.modules._atacformer_config import AtacformerConfig
from atacvi.modules._atacformer_embeddings import check_active_ids
from atacvi.modules._atacformer_weights import (
    HEADS,
    PREFIXES,
    read_state,
)
from atacvi.modules._checkpoint_files import (
    BACKBONE,
    CONFIG_FILE,
    UNIVERSE_FILE,
    WEIGHTS_FILE,
    existing_file,
    read_config_file,
    write_files,
)
from atacvi.modules.atacformer import AtacformerModule
from atacvi.nn import low_rank_state
from atacvi.regions import Universe

if TYPE_CHECKING:
    from torch import Tensor

_POOLINGS = ("idf", "attention_pooling.")


class AtacformerCheckpoint(NamedTuple):
    """What a checkpoint's folder holds."""

    module: AtacformerModule
    universe: Universe


# ---- writing ------------------------------------------------------------------------------


def write_checkpoint(
    folder: str | Path,
    module: AtacformerModule,
    universe: Universe,
    *,
    prefix: str = "atacformer.",
    reduced: bool = False,
) -> None:
    """Write a module and its universe under the public names.

    Low-rank adapters are merged into what is written. Nothing is left behind when writing fails.

    Parameters
    ----------
    folder
        Made if it is not there; files of a checkpoint within it are replaced.
    module
        What to write.
    universe
        Regions in the order of the ids.
    prefix
        Before the names of embeddings and encoder: ``"atacformer."`` or ``""``.
    reduced
        Where only some regions have an embedding, write a universe of these alone. Ids are then
        the lines of the universe that is written.

    Raises
    ------
    ValueError
        If the universe is not that of the module, or only some of its regions have an embedding
        and `reduced` is not set, or the prefix is another.
    """
    if prefix not in PREFIXES[:2]:
        msg = f"prefix must be 'atacformer.' or '', found {prefix!r}"
        raise ValueError(msg)
    config = module.config
    if len(universe) != config.n_regions:
        msg = (
            f"the universe has {len(universe)} regions, the module was built for "
            f"{config.n_regions} (vocab_size={config.vocab_size})"
        )
        raise ValueError(msg)
    if not module.has_full_vocabulary:
        n_active = module.embeddings.n_active
        if not reduced:
            msg = (
                f"only {n_active} of the {config.n_regions} regions of the universe have an "
                "embedding, so that a file for the whole universe cannot be written; use "
                "reduced=True to write a universe of these regions alone"
            )
            raise ValueError(msg)
        universe = Universe(universe.regions.iloc[module.active_ids.cpu().numpy()])
        config = config.for_universe(n_active)
    tensors = {
        _public_name(name, prefix): value.detach().cpu().contiguous()
        for name, value in low_rank_state(module).items()
        if name.startswith((*BACKBONE, *HEADS)) and name != "embeddings.active_ids"
    }
    write_files(Path(folder), _as_float32(config.to_dict()), tensors, universe)


def _public_name(name: str, prefix: str) -> str:
    return f"{prefix}{name}" if name.startswith(BACKBONE) else name


def _as_float32(config: dict[str, Any]) -> dict[str, Any]:
    """Say in the configuration what type the weights are written in."""
    return {k: "float32" if k in ("torch_dtype", "dtype") else v for k, v in config.items()}


# ---- reading ------------------------------------------------------------------------------


def read_checkpoint(
    folder: str | Path,
    *,
    active_ids: Tensor | None = None,
    gradient_checkpointing: bool = False,
    **changes: Any,
) -> AtacformerCheckpoint:
    """Read a module and its universe from a folder with the public names.

    Names may have one of the known prefixes, the table of positions may be missing where it is not
    used, and weights of half precision become float32. Nothing is unpickled.

    Parameters
    ----------
    folder
        With ``config.json``, ``model.safetensors`` and ``universe.bed.gz``.
    active_ids
        Read the embeddings of these regions only; int64, rising.
    gradient_checkpointing
        Of the module.
    **changes
        Fields of the configuration that do not change the weights, such as ``dropout``.

    Returns
    -------
    The module, in evaluation mode, and the universe.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If files do not fit each other, or weights of the encoder are missing: layers with random
        weights are never made up.

    Warns
    -----
    UserWarning
        On weights that are not used, and on a missing replaced-token head.
    """
    folder = Path(folder)
    config = replace(_read_config(folder), **changes)
    universe = Universe.from_bed(existing_file(folder, UNIVERSE_FILE))
    check_universe(universe, config)
    if active_ids is not None:
        active_ids = check_active_ids(active_ids, config.n_regions)
    state, keep_positions = read_state(existing_file(folder, WEIGHTS_FILE), config, active_ids)
    module = AtacformerModule(
        replace(config, keep_position_table=keep_positions),
        active_ids=active_ids,
        gradient_checkpointing=gradient_checkpointing,
        **_head_sizes(state),
    )
    _load(module, state)
    return AtacformerCheckpoint(module.eval(), universe)


def check_universe(universe: Universe, config: AtacformerConfig) -> None:
    """Refuse a universe that is not the one of the weights.

    Raises
    ------
    ValueError
        If the numbers of regions differ.
    """
    if config.n_regions != len(universe):
        msg = (
            f"{UNIVERSE_FILE} has {len(universe)} regions, so that vocab_size must be "
            f"{universe.vocab_size} and the id of <pad> {universe.pad_id}; {CONFIG_FILE} has "
            f"vocab_size={config.vocab_size} and <pad> {config.pad_token_id}: the universe is not "
            "the one that the weights were trained with"
        )
        raise ValueError(msg)


def _read_config(folder: Path) -> AtacformerConfig:
    return AtacformerConfig.from_dict(read_config_file(folder))


def _head_sizes(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the sizes of the heads whose weights there are."""

    def rows(name: str) -> int:
        return state[name].shape[0] if name in state else 0

    return {
        "n_labels": rows("classification_head.classifier.weight"),
        "n_batch": rows("batch_prediction_head.weight"),
        "n_projection": rows("projection_head.output.weight") or None,
        "classification_hidden": rows("classification_head.dense.weight") or None,
    }


def _load(module: AtacformerModule, state: dict[str, Tensor]) -> None:
    """Load the weights; of what is missing only heads that start the same for all may start anew."""
    own = module.state_dict().keys()
    # of another pooling than the one asked for
    state = {k: v for k, v in state.items() if k in own or not k.startswith(_POOLINGS)}
    outcome = module.load_state_dict(state, strict=False)
    may_start = ("discriminator.", *_POOLINGS)
    missing = [name for name in outcome.missing_keys if not name.startswith(may_start)]
    if missing or outcome.unexpected_keys:
        wrong = [*missing, *outcome.unexpected_keys]
        msg = f"the heads of {WEIGHTS_FILE} are incomplete: {examples(wrong)}"
        raise ValueError(msg)
    if any(name.startswith("discriminator.") for name in outcome.missing_keys):
        msg = (
            f"{WEIGHTS_FILE} has no replaced-token head (discriminator); it starts from random "
            "weights. Embeddings of cells and regions do not use it, further pretraining does"
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    if any(name.startswith(_POOLINGS) for name in outcome.missing_keys):
        msg = (
            f"{WEIGHTS_FILE} has no weights for pooling={module.config.pooling!r}; it starts as "
            "the plain mean"
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
