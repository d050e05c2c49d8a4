"""The files of a checkpoint's folder: names, writing them all or none, finding them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from atacvi.regions import Universe

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
UNIVERSE_FILE = "universe.bed.gz"
#: Beginnings of the names of the weights that an encoder of tokens is made of
BACKBONE = ("embeddings.", "encoder.")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def write_files(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], universe: Universe
) -> None:
    """Write all files beside their places, then move them there; the folder is made if needed."""
    from safetensors.torch import save_file

    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; a checkpoint is a folder of three files: give another path."
        raise FileExistsError(msg)
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


def existing_file(folder: Path, name: str) -> Path:
    """Return the path of a file of a checkpoint.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If the weights are there as a pickle only.
    """
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


def read_config_file(folder: Path) -> dict[str, Any]:
    """Return the configuration of a checkpoint.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it cannot be read.
    """
    path = existing_file(folder, CONFIG_FILE)
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise ValueError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path} must hold an object, found {type(values).__name__}"
        raise ValueError(msg)
    return values


def read_weights_file(folder: Path) -> dict[str, Tensor]:
    """Return all weights of a checkpoint under the names of the file.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    ValueError
        If they cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = existing_file(folder, WEIGHTS_FILE)
    try:
        return load_file(path)
    except SafetensorError as error:
        msg = f"{path} cannot be read; it may be truncated: {error}"
        raise ValueError(msg) from error
