"""Callbacks of ATACDiffModel's stages: which epoch to keep, and when the mixture begins."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

from atacvi.training.selection import SelectBest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)


class SelectFromStart(SelectBest):
    """`SelectBest` whose first candidate are the starting values.

    A start from the data can be better than what few cells teach: then it is what remains.
    Arguments are those of `SelectBest`, of which `probe` must be given.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the starting values."""
        if self.best_state is None and self.probe is not None:
            self.best = float(next(iter(self.probe().values())))
            state = pl_module.module.state_dict()
            self.best_state = {k: v.detach().cpu().clone() for k, v in state.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back, and tell if they are those of the start."""
        if self.best_state is not None and self.best_epoch is None:
            logger.info("No epoch was better than the start, which remains.")
        super().on_fit_end(trainer, pl_module)

    def forget(self) -> None:
        """Drop the best, where a change of the objective makes scores incomparable."""
        self.best, self.best_epoch, self.best_state, self.waited = -float("inf"), None, None, 0


class BeginMixture(Callback):
    """Fit the mixture to the latents of the training cells at the start of an epoch.

    Parameters
    ----------
    epoch
        The epoch.
    begin
        Function that fits the prior of the module.
    select
        Selection of the best epoch, which starts anew with the mixture.
    """

    def __init__(
        self, epoch: int, begin: Callable[[], None], select: SelectFromStart | None
    ) -> None:
        self.epoch, self.begin, self.select = epoch, begin, select

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the mixture when it is due."""
        module: Any = pl_module.module
        if module.mixture_active or trainer.current_epoch < self.epoch:
            return
        self.begin()
        # The new parameters must be known to the optimiser.
        trainer.strategy.setup_optimizers(trainer)
        if self.select is not None:
            self.select.forget()
