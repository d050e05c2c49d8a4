"""Checkpoints from which a stopped training goes on as if it had not stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

_FILE = "last.ckpt"
_KEY = "atacvi"


def checkpoint_path(folder: str | Path) -> Path:
    """Return the path of the checkpoint in a folder."""
    return Path(folder) / _FILE


def read_checkpoint(folder: str | Path) -> dict[str, Any] | None:
    """Return what `CheckpointEachEpoch` noted beside the weights; ``None`` without a checkpoint.

    Raises
    ------
    ValueError
        If the file is no checkpoint of such a training.
    """
    path = checkpoint_path(folder)
    if not path.exists():
        return None
    # weights_only: a checkpoint holds tensors, numbers and strings, nothing that runs.
    content = torch.load(path, map_location="cpu", weights_only=True)
    if _KEY not in content:
        msg = f"{path} is not a checkpoint of atacvi. Give another `checkpoint_dir`."
        raise ValueError(msg)
    return content[_KEY]


class CheckpointEachEpoch(Callback):
    """Write module, optimiser, stages and random state after each epoch, whole or not at all.

    Parameters
    ----------
    folder
        Where to write; made if needed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._rng: torch.Tensor | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint under a passing name, then move it into its place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = checkpoint_path(self.folder)
        unfinished = target.with_suffix(".tmp")
        trainer.save_checkpoint(unfinished)
        os.replace(unfinished, target)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not keep."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        split = (datamodule.train_idx, datamodule.val_idx, datamodule.test_idx)
        checkpoint[_KEY] = {
            "n_clusters": pl_module.module.n_clusters,
            "split": [torch.as_tensor(np.asarray(part, dtype=np.int64)) for part in split],
            "history": _history(trainer),
            "rng": torch.get_rng_state(),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up history and random state."""
        noted = checkpoint[_KEY]
        self._rng = noted["rng"]
        tables = trainer.logger.experiment.data  # type: ignore[union-attr]
        for name, (index, values) in noted["history"].items():
            tables[name] = pd.DataFrame({name: values}, index=pd.Index(index, name="epoch"))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the random state, when the callbacks before the first epoch have drawn."""
        if self._rng is not None:
            torch.set_rng_state(self._rng)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the order of the cells anew: Lightning drew it before the state was set."""
        if self._rng is not None:
            iter(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
            self._rng = None


def _history(trainer: Trainer) -> dict[str, tuple[list[int], list[float]]]:
    """Return epochs and values of each term, with those of the epoch that ends right now.

    Lightning hands the latter to the logger only after the callbacks.
    """
    tables = trainer.logger.experiment.data  # type: ignore[union-attr]
    history = {
        name: ([int(epoch) for epoch in table.index], [float(v) for v in table[name]])
        for name, table in tables.items()
    }
    epoch = trainer.current_epoch
    for name, value in trainer.logged_metrics.items():
        epochs, values = history.setdefault(name, ([], []))
        if name != "epoch" and not name.endswith("_step") and epoch not in epochs:
            epochs.append(epoch)
            values.append(float(value))
    return {name: entry for name, entry in history.items() if entry[0]}
