"""The run of a training on tokens: split, minibatches, Lightning, checkpoints, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi.dataloaders import DataSplitter
from scvi.train import TrainRunner

from atacvi.models._seed import session_seed
from atacvi.training import (
    StopOnNonFinite,
    TokenCheckpoint,
    TokenDataModule,
    TokenTrainingPlan,
    plan_arguments,
    refuse_unknown,
)

if TYPE_CHECKING:
    from pathlib import Path

    from atacvi.training import SelectBest

_CLIP = 1.0
# What a stage leaves in the folder of its checkpoints when it went to its end
_FINISHED = "finished.pt"


class TokenFitMixin:
    """What all trainings on tokens share."""

    module: Any
    adata: Any
    adata_manager: Any
    is_trained_: bool
    history_: Any
    started_: bool
    train_indices: Any
    validation_indices: Any
    test_indices: Any

    _train_runner_cls = TrainRunner

    def _split(self, **kwargs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        splitter = DataSplitter(self.adata_manager, **kwargs)
        splitter.setup()
        parts = (splitter.train_idx, splitter.val_idx, splitter.test_idx)
        return tuple(np.asarray(part, dtype=np.int64) for part in parts)  # type: ignore[return-value]

    def _fit(
        self,
        plan: TokenTrainingPlan,
        data: TokenDataModule,
        max_epochs: int,
        select: SelectBest | None,
        checkpoint_dir: str | None,
        *,
        kind: str,
        precision: Any,
        callbacks: list[Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Run Lightning; keep the history of earlier trainings, also of terms that are new.

        No epochs keep the weights as they are.
        """
        if max_epochs == 0:
            self.train_indices, self.validation_indices = data.train_idx, data.val_idx
            self.test_indices, self.is_trained_ = data.test_idx, True
            self.history_ = self.history_ or {}
            self.module.eval()
            return
        found = [*(callbacks or []), StopOnNonFinite()]
        if select is not None:
            found.insert(0, select)
        if checkpoint_dir is not None:
            found.append(TokenCheckpoint(checkpoint_dir, kind))
        if precision is not None:
            trainer_kwargs["precision"] = precision
        if len(data.val_idx):
            trainer_kwargs.setdefault("check_val_every_n_epoch", 1)
        trainer_kwargs.setdefault("gradient_clip_val", _CLIP)
        before, was_trained = self.history_, self.is_trained_
        torch.manual_seed(session_seed())
        runner = self._train_runner_cls(
            self,  # type: ignore[arg-type]
            training_plan=plan,
            data_splitter=data,  # type: ignore[arg-type]
            max_epochs=max_epochs,
            early_stopping=False,  # SelectBest stops
            use_distributed_sampler=False,  # minibatches are shared out by TokenBatchSampler
            callbacks=found,
            **trainer_kwargs,
        )
        self.module.train()  # Lightning takes the mode it finds
        self.history_, self.is_trained_ = None, False
        try:
            runner()
        finally:
            self.is_trained_ = self.is_trained_ or was_trained
            self.history_ = _join_histories(before, self.history_)
            self.module.eval()


def check_ranges(**values: tuple[Any, bool, str]) -> None:
    """Refuse arguments that are out of range: by name the value, whether it is fine, the range.

    Raises
    ------
    ValueError
        With the first of them.
    """
    for name, (value, is_fine, allowed) in values.items():
        if not is_fine:
            msg = f"{name}={value!r} is out of range; it must be {allowed}."
            raise ValueError(msg)


def check_run(
    early_stopping_patience: int | None,
    n_workers: int,
    batch_size: int | None,
    token_budget: int | None,
) -> None:
    """Refuse what no training on tokens can run with.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    patience = early_stopping_patience
    optional = "at least 1, or None"
    check_ranges(
        early_stopping_patience=(patience, patience is None or patience >= 1, optional),
        n_workers=(n_workers, n_workers >= 0, "at least 0"),
        batch_size=(batch_size, batch_size is None or batch_size >= 1, optional),
        token_budget=(token_budget, token_budget is None or token_budget >= 1, optional),
    )


def n_epochs(argument: str, value: int | None, default: int) -> int:
    """Return the number of epochs, the default for ``None``.

    Raises
    ------
    ValueError
        If it is negative or no whole number.
    """
    if value is None:
        return default
    if value < 0 or value != int(value):
        msg = (
            f"{argument}={value}; give a whole number of at least 0, or None, which chooses by the "
            "number of cells."
        )
        raise ValueError(msg)
    return int(value)


def make_plan(
    plan_class: type[TokenTrainingPlan], module: Any, plan_kwargs: dict[str, Any] | None, **own: Any
) -> Any:
    """Return a training plan: the model's own arguments under those of the user.

    Raises
    ------
    TypeError
        If `plan_kwargs` holds an argument that the plan does not know.
    """
    given = dict(plan_kwargs or {})
    known = plan_arguments(plan_class, TokenTrainingPlan)
    refuse_unknown(given, known - {"self", "module", "kwargs"}, plan_class)
    return plan_class(module, **{**own, **given})


def read_finished(folder: Path | None) -> dict[str, Any] | None:
    """Return what `write_finished` left of a stage that went to its end; ``None`` if it did not."""
    if folder is None or not (folder / _FINISHED).exists():
        return None
    found = torch.load(folder / _FINISHED, map_location="cpu", weights_only=True)
    tables = found["history"].items()
    found["history"] = {
        name: pd.DataFrame({name: values}, index=pd.Index(index, name="epoch"))
        for name, (index, values) in tables
    }
    return found


def write_finished(folder: Path | None, module: Any, history: Any, **values: Any) -> None:
    """Write weights, history and further values at the end of a stage, whole or not at all."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        name: ([int(i) for i in table.index], [float(v) for v in table.iloc[:, 0]])
        for name, table in (history or {}).items()
    }
    unfinished = folder / f"{_FINISHED}.tmp"
    torch.save({"weights": module.state_dict(), "history": tables, **values}, unfinished)
    unfinished.replace(folder / _FINISHED)


def _join_histories(before: Any, after: Any) -> Any:
    """Append one history to another; epochs count on, and terms of either stay."""
    if not before:
        return after
    if not after:
        return before
    first = max(len(table) for table in before.values())
    joined = dict(before)
    for name, table in after.items():
        moved = table.copy()
        moved.index = pd.Index(np.asarray(moved.index) + first, name=table.index.name)
        joined[name] = pd.concat([before[name], moved]) if name in before else moved
    return joined
