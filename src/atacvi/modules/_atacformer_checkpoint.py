"""Folders of the public checkpoints: ``config.json``, ``model.safetensors``, ``universe.bed.gz``."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atacvi.data._messages import examples
from atacvi.modules._atacformer_config import AtacformerConfig
from atacvi.modules._atacformer_embeddings import check_active_ids
from atacvi.modules._atacformer_weights import (
    BACKBONE,
    CONFIG_FILE,
    HEADS,
    PREFIXES,
    WEIGHTS_FILE,
    read_state,
)
from atacvi.modules.atacformer import AtacformerModule
from atacvi.nn import low_rank_state
from atacvi.regions import Universe

if TYPE_CHECKING:
    from torch import Tensor

UNIVERSE_FILE = "universe.bed.gz"
_POOLINGS = ("idf", "attention_pooling.")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


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
    _write_files(Path(folder), _as_float32(config.to_dict()), tensors, universe)


def _public_name(name: str, prefix: str) -> str:
    return f"{prefix}{name}" if name.startswith(BACKBONE) else name


def _as_float32(config: dict[str, Any]) -> dict[str, Any]:
    """Say in the configuration what type the weights are written in."""
    return {k: "float32" if k in ("torch_dtype", "dtype") else v for k, v in config.items()}


def _write_files(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], universe: Universe
) -> None:
    """Write all files beside their places, then move them there."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        universe.save(draft)
        save_file(tensors, draft / WEIGHTS_FILE, metadata={"format": "pt"})
        for name in (WEIGHTS_FILE, UNIVERSE_FILE, CONFIG_FILE):
            (draft / name).replace(folder / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
    universe = Universe.from_bed(_existing(folder, UNIVERSE_FILE))
    if config.n_regions != len(universe):
        msg = (
            f"{UNIVERSE_FILE} has {len(universe)} regions, so that vocab_size must be "
            f"{universe.vocab_size} and the id of <pad> {universe.pad_id}; {CONFIG_FILE} has "
            f"vocab_size={config.vocab_size} and <pad> {config.pad_token_id}: the universe is not "
            "the one that the weights were trained with"
        )
        raise ValueError(msg)
    if active_ids is not None:
        active_ids = check_active_ids(active_ids, config.n_regions)
    state, keep_positions = read_state(_existing(folder, WEIGHTS_FILE), config, active_ids)
    module = AtacformerModule(
        replace(config, keep_position_table=keep_positions),
        active_ids=active_ids,
        gradient_checkpointing=gradient_checkpointing,
        **_head_sizes(state),
    )
    _load(module, state)
    return AtacformerCheckpoint(module.eval(), universe)


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    if not folder.is_dir():
        msg = f"there is no folder {folder}"
        raise FileNotFoundError(msg)
    found = sorted(p.name for p in folder.iterdir())
    pickled = [x for x in found if x.endswith(_PICKLED)]
    if name == WEIGHTS_FILE and pickled:
        msg = (
            f"{folder} holds its weights as {', '.join(pickled)}, which can run any code when it is "
            f"read, so that it is not; convert it to {WEIGHTS_FILE} (safetensors.torch.save_file)"
        )
        raise ValueError(msg)
    msg = f"{folder} has no {name}; it holds {', '.join(found) or 'nothing'}"
    raise FileNotFoundError(msg)


def _read_config(folder: Path) -> AtacformerConfig:
    path = _existing(folder, CONFIG_FILE)
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise ValueError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} must hold an object, found {type(values).__name__}"
        raise ValueError(msg)
    return AtacformerConfig.from_dict(values)


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
