"""Stop a training whose loss is no longer finite, with the last weights that were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

# Reading a value from an accelerator waits for all that is queued there: once in so many steps.
CHECK_EVERY = 50
_NEVER = torch.iinfo(torch.int64).max


class StopOnNonFinite(Callback):
    """Stop with a message that names stage, epoch and step when the loss is not finite.

    The module then holds the weights of the last epoch's end at which all were finite. On an
    accelerator each step leaves a flag on the device, which is read every `check_every` steps and
    at the end of an epoch; on a processor every step is checked at once.

    Parameters
    ----------
    stage
        Function that returns the name of the running stage.
    check_every
        Steps between two looks at the flag of an accelerator.
    """

    def __init__(
        self, stage: Callable[[], str] | None = None, check_every: int = CHECK_EVERY
    ) -> None:
        self.stage, self.check_every = stage, check_every
        self.kept_epoch: int | None = None
        self._kept: dict[str, torch.Tensor] | None = None
        self._kept_clusters: int | None = None
        self._first_bad: torch.Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the starting weights, with which nothing has gone wrong yet."""
        self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Flag the step if its loss is not finite, and look at the flag where that is due."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        if self._first_bad is None or self._first_bad.device != loss.device:
            self._first_bad = torch.full((), _NEVER, device=loss.device)
        bad = ~torch.isfinite(loss.detach()).all()
        now = torch.full_like(self._first_bad, trainer.global_step)
        self._first_bad = torch.where(bad, torch.minimum(self._first_bad, now), self._first_bad)
        if loss.device.type == "cpu" or trainer.global_step % self.check_every == 0:
            self._raise_if_bad(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the flag, and keep the weights if all are finite."""
        self._raise_if_bad(trainer, pl_module)
        if self._keep(pl_module):
            self.kept_epoch = trainer.current_epoch

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go of the copy."""
        self._kept = None

    def _keep(self, pl_module: LightningModule) -> bool:
        state = pl_module.module.state_dict()
        finite = [value.isfinite().all() for value in state.values() if value.is_floating_point()]
        if finite and not bool(torch.stack(finite).all()):
            return False
        self._kept = {name: value.detach().clone() for name, value in state.items()}
        self._kept_clusters = getattr(pl_module.module, "n_clusters", None)
        return True

    def _raise_if_bad(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = _NEVER if self._first_bad is None else int(self._first_bad)
        if step == _NEVER:
            return
        self._put_back(pl_module)
        stage = "" if self.stage is None else f"the {self.stage()} stage, "
        kept = "the start" if self.kept_epoch is None else f"the end of epoch {self.kept_epoch}"
        msg = (
            f"The loss is not finite in {stage}epoch {trainer.current_epoch}, step {step}. The "
            f"weights are those of {kept}. Lower the learning rate (plan_kwargs={{'lr': 3e-4}}), "
            "train in full precision, or check the counts for extreme values."
        )
        raise FloatingPointError(msg)

    def _put_back(self, pl_module: LightningModule | None) -> None:
        if self._kept is None or pl_module is None:
            return
        module: Any = pl_module.module
        # The mixture may have been given another number of components since.
        if getattr(module, "n_clusters", None) != self._kept_clusters:
            module.resize_mixture(self._kept_clusters)
        module.load_state_dict(self._kept)
