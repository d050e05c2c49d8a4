"""Weights under the public names: which there are, whether they are complete, and their values."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from atacvi.data._messages import examples
from atacvi.modules._checkpoint_files import BACKBONE, CONFIG_FILE
from atacvi.modules.atacformer import AtacformerModule

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from atacvi.modules._atacformer_config import AtacformerConfig

# Before the names of embeddings and encoder: bare, with heads, and within CRAFT
PREFIXES = ("", "atacformer.", "craft.atac_encoder.", "atac_encoder.")
_TABLE = "embeddings.token_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
HEADS = (
    "discriminator.",
    "batch_prediction_head.",
    "classification_head.",
    "projection_head.",
    "attention_pooling.",
    "idf",
)
_ROWS_AT_ONCE = 65_536


def read_state(
    path: Path, config: AtacformerConfig, active_ids: Tensor | None = None
) -> tuple[dict[str, Tensor], bool]:
    """Return the weights under the module's names, and whether there is a table of positions.

    Parameters
    ----------
    path
        File of safetensors.
    config
        What the file should hold.
    active_ids
        Read the rows of these regions only, and of the special tokens; int64, rising.

    Raises
    ------
    ValueError
        If the file is damaged, or weights of embeddings or encoder are missing, left over or of
        another shape.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            prefix = _find_prefix(shapes, path)
            expected = _expected_shapes(config, has_positions=f"{prefix}{_POSITIONS}" in shapes)
            _check_backbone(shapes, prefix, expected, path)
            wanted = {f"{prefix}{name}": name for name in expected}
            wanted |= {name: name for name in shapes if name.startswith(HEADS)}
            state = {
                name: file.get_tensor(there).float()
                for there, name in wanted.items()
                if name not in (_TABLE, "idf") or active_ids is None
            }
            if active_ids is not None:
                rows = torch.cat([active_ids, torch.arange(config.n_regions, config.vocab_size)])
                for name in {f"{prefix}{_TABLE}", "idf"} & wanted.keys():
                    state[wanted[name]] = _read_rows(file.get_slice(name), rows)
                state["embeddings.active_ids"] = active_ids
    except SafetensorError as error:
        msg = f"{path} cannot be read; it may be truncated: {error}"
        raise ValueError(msg) from error
    _warn_unused(sorted(shapes.keys() - wanted.keys()), path)
    return state, _POSITIONS in state


def _find_prefix(shapes: dict[str, tuple[int, ...]], path: Path) -> str:
    found = [prefix for prefix in PREFIXES if f"{prefix}{_TABLE}" in shapes]
    if len(found) != 1:
        what = "no table of tokens" if not found else f"tables of tokens under {found}"
        msg = (
            f"{path} has {what}; expected one of {', '.join(f'{p}{_TABLE}' for p in PREFIXES)}. "
            f"It holds {examples(sorted(shapes))}"
        )
        raise ValueError(msg)
    return found[0]


def _expected_shapes(
    config: AtacformerConfig, *, has_positions: bool
) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every weight of embeddings and encoder."""
    with torch.device("meta"):
        module = AtacformerModule(replace(config, keep_position_table=has_positions))
    state = module.state_dict()
    return {name: tuple(x.shape) for name, x in state.items() if name.startswith(BACKBONE)}


def _check_backbone(
    shapes: dict[str, tuple[int, ...]],
    prefix: str,
    expected: dict[str, tuple[int, ...]],
    path: Path,
) -> None:
    """Refuse weights of which some are missing, left over in the encoder, or of another shape."""
    encoder = f"{prefix}encoder.layers."
    missing = [f"{prefix}{name}" for name in expected if f"{prefix}{name}" not in shapes]
    if missing:
        msg = (
            f"{path} lacks {len(missing)} weights that {CONFIG_FILE} asks for: "
            f"{examples(missing)}. They are not made up: get the complete file, or correct "
            f"num_hidden_layers and use_pos_embeddings in {CONFIG_FILE}"
        )
        raise ValueError(msg)
    known = {f"{prefix}{name}" for name in expected}
    left = [name for name in sorted(shapes) if name.startswith(encoder) and name not in known]
    if left:
        msg = (
            f"{path} has weights of the encoder beyond what {CONFIG_FILE} asks for: "
            f"{examples(left)}; correct num_hidden_layers in {CONFIG_FILE}"
        )
        raise ValueError(msg)
    wrong = [
        f"{prefix}{name} {shapes[f'{prefix}{name}']} instead of {shape}"
        for name, shape in expected.items()
        if shapes[f"{prefix}{name}"] != shape
    ]
    if wrong:
        msg = f"{path} does not fit {CONFIG_FILE}: {examples(wrong)}"
        raise ValueError(msg)


def _read_rows(table: Any, rows: Tensor) -> Tensor:
    """Return rows of a stored table, rising, without holding the table in memory."""
    n_rows = table.get_shape()[0]
    parts = []
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        here = rows[(rows >= start) & (rows < start + _ROWS_AT_ONCE)] - start
        if len(here):
            parts.append(table[start : start + _ROWS_AT_ONCE][here].float())
    return torch.cat(parts)


def _warn_unused(names: list[str], path: Path) -> None:
    if names:
        msg = f"{path} has {len(names)} weights that are not used: {examples(names)}"
        warnings.warn(msg, UserWarning, stacklevel=4)
