"""When the mixture of ATACDiffModel's auxiliary stage begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

    from atacvi.training.selection import SelectFromStart


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
