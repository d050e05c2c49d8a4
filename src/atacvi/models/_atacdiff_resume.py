"""What ended stages leave in the checkpoint folder, so that a stopped run takes them up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from atacvi.modules import STAGES
from atacvi.training import read_checkpoint


class FinishedStages:
    """One file for each stage that ended: weights, split and history.

    Parameters
    ----------
    folder
        Checkpoint folder of the training.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage}.done"

    def write(self, model: Any, stage: str) -> None:
        """Write the state after `stage`, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        split = (model.train_indices_, model.validation_indices_, model.test_indices_)
        content = {
            "state": model.module.state_dict(),
            "n_clusters": model.module.n_clusters,
            "stages": list(model.stages_done_),
            "split": [torch.as_tensor(np.asarray(part, dtype=np.int64)) for part in split],
            "history": {
                name: ([int(e) for e in table.index], [float(v) for v in table.iloc[:, 0]])
                for name, table in (model.history_ or {}).items()
            },
            "rng": torch.get_rng_state(),
        }
        unfinished = self._path(stage).with_suffix(".tmp")
        torch.save(content, unfinished)
        os.replace(unfinished, self._path(stage))

    def stopped_split(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return the split of a first stage that was stopped, if there is one."""
        for stage in STAGES:
            noted = read_checkpoint(self.folder / stage)
            if noted is not None:
                train, validation, test = (part.numpy() for part in noted["split"])
                return train, validation, test
        return None

    def take_up(self, model: Any) -> list[str]:
        """Give a model the state after the last stage that ended; return the stages that did."""
        written = [stage for stage in STAGES if self._path(stage).exists()]
        if not written:
            return []
        # weights_only: a checkpoint holds tensors, numbers and strings, nothing that runs.
        content = torch.load(self._path(written[-1]), map_location="cpu", weights_only=True)
        if content["n_clusters"] != model.module.n_clusters:
            model.module.resize_mixture(content["n_clusters"])
        if "auxiliary" in content["stages"]:  # a saved model is built with this number
            model.init_params_["non_kwargs"]["n_clusters"] = content["n_clusters"]
        model.module.load_state_dict(content["state"])
        parts = [part.numpy() for part in content["split"]]
        model.train_indices_, model.validation_indices_, model.test_indices_ = parts
        model.stages_done_ = list(content["stages"])
        model.history_ = {
            name: pd.DataFrame({name: values}, index=pd.Index(epochs, name="epoch"))
            for name, (epochs, values) in content["history"].items()
        }
        torch.set_rng_state(content["rng"])
        return list(content["stages"])
