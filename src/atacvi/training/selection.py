"""Which epoch of a training to keep, and checkpoints of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from atacvi.training.resume import CheckpointEachEpoch, _history

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)


class SelectBest(Callback):
    """Keep the weights of the epoch with the highest score, and stop when it rises no more.

    Parameters
    ----------
    monitor
        Logged quantity that is the score, higher is better, where there is no probe.
    probe
        Function that returns scores of the embeddings by name; its first entry decides, and all are
        logged with the prefix ``probe_``.
    every
        Epochs between two probes; the last epoch always has one.
    patience
        Scores without improvement that end the training; ``None`` trains to the end.
    min_delta
        Improvement that counts.
    """

    def __init__(
        self,
        monitor: str,
        probe: Callable[[], dict[str, float]] | None = None,
        *,
        every: int = 1,
        patience: int | None = None,
        min_delta: float = 0.0,
    ) -> None:
        self.monitor, self.probe, self.every = monitor, probe, every
        self.patience, self.min_delta = patience, min_delta
        self.best = -float("inf")
        self.best_epoch: int | None = None
        self.best_state: dict[str, torch.Tensor] | None = None
        self.waited = 0

    # Lightning stores this with a checkpoint, and gives it back when training resumes.
    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to know."""
        return {key: getattr(self, key) for key in ("best", "best_epoch", "best_state", "waited")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a stopped run."""
        for key, value in state_dict.items():
            setattr(self, key, value)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the epoch; the validation lies behind."""
        score = self._score(trainer, pl_module)
        if score is None:
            return
        if score > self.best + self.min_delta:
            self.best, self.best_epoch, self.waited = score, trainer.current_epoch, 0
            self._keep(pl_module)
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            logger.info("No better score in %d epochs: training ends.", self.patience)
            trainer.should_stop = True

    def _score(self, trainer: Trainer, pl_module: LightningModule) -> float | None:
        if self.probe is None:
            value = trainer.callback_metrics.get(self.monitor)
            return None if value is None else float(value)
        is_last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        if (trainer.current_epoch + 1) % self.every and not is_last:
            return None
        scores = self.probe()
        for name, found in scores.items():
            pl_module.log(f"probe_{name}", found, sync_dist=True)
        return float(next(iter(scores.values())))

    def _keep(self, pl_module: LightningModule) -> None:
        state = pl_module.module.state_dict()
        self.best_state = {k: v.detach().cpu().clone() for k, v in state.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back."""
        if self.best_state is not None:
            pl_module.module.load_state_dict(self.best_state)
        self.best_state = None


class SelectFromStart(SelectBest):
    """`SelectBest` whose first candidate are the starting values.

    A start from the data can be better than what few cells teach: then it is what remains.
    Arguments are those of `SelectBest`; without a probe the start has the score that validation
    minibatches give it.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the starting values."""
        if self.best_state is not None:
            return
        if self.probe is not None:
            self.best = float(next(iter(self.probe().values())))
        else:
            self.best = self._validation_score(trainer, pl_module)
        self._keep(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back, and tell if they are those of the start."""
        if self.best_state is not None and self.best_epoch is None:
            logger.info("No epoch was better than the start, which remains.")
        super().on_fit_end(trainer, pl_module)

    def forget(self) -> None:
        """Drop the best, where a change of the objective makes scores incomparable."""
        self.best, self.best_epoch, self.best_state, self.waited = -float("inf"), None, None, 0

    @torch.no_grad()
    def _validation_score(self, trainer: Trainer, pl_module: LightningModule) -> float:
        """Return the mean score of the validation minibatches, as it is logged after an epoch."""
        plan: Any = pl_module
        total = n_total = 0.0
        was_training = plan.training
        plan.eval()
        for batch in trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
            _, parts, n_cells = plan.losses(trainer.strategy.batch_to_device(batch))
            total, n_total = total + n_cells * float(parts["score"]), n_total + n_cells
        plan.train(was_training)
        return total / max(n_total, 1.0)


class TokenCheckpoint(CheckpointEachEpoch):
    """Write weights, optimiser, split and history after each epoch, whole or not at all.

    Parameters
    ----------
    folder
        Where to write; made if needed.
    kind
        What is trained; a checkpoint of something else is refused.
    """

    def __init__(self, folder: Any, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not keep."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        split = (data.train_idx, data.val_idx, data.test_idx)
        checkpoint["atacvi"] = {
            "kind": self.kind,
            "split": [torch.as_tensor(np.asarray(part, dtype=np.int64)) for part in split],
            "history": _history(trainer),
            "rng": torch.get_rng_state(),
        }
