"""The stages of MultiViewModel's training: warm-up, mixture, cycle; and when to stop."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from atacvi.priors import warn_on_collapse
from atacvi.training.mixture import mixture_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)

_MONITOR = "elbo_validation"

# What a resumed run needs to know
_STATE = ("borders", "n_clusters", "best", "best_state", "waited", "cuts")


@dataclass(frozen=True)
class StageSchedule:
    """Epochs at which the stages begin, and the patience of early stopping.

    Parameters
    ----------
    mixture_start
        Epoch before which the prior is N(0, I) and at which the mixture is fitted to the joint
        latent; ``None`` never.
    cycle_start
        First epoch of the cycle term; ``None`` never.
    cycle_ramp
        Epochs over which its weight rises linearly.
    cycle_weight
        Its final weight.
    patience
        Epochs without improvement of the held-out ELBO that cut the learning rate or, after the
        last cut, end a stage; ``None`` never.
    min_delta
        Improvement that counts, in nats per cell.
    lr_cuts
        Cuts of the learning rate in a stage before it ends.
    lr_factor
        What a cut multiplies the learning rate by.
    """

    mixture_start: int | None
    cycle_start: int | None
    cycle_ramp: int = 10
    cycle_weight: float = 1.0
    patience: int | None = None
    min_delta: float = 0.0
    lr_cuts: int = 0
    lr_factor: float = 0.25


class MultiViewStages(Callback):
    """Move the module through its stages; keep its best weights and stop on the held-out ELBO.

    On a plateau the learning rate is cut.
    Training always goes on from the best weights. After the last cut, a plateau in the warm-up
    begins the mixture, which starts one cut down, and a plateau after that ends the training. The
    best weights of a stage are put back at its end, so that neither the mixture nor the user gets
    what overfitting left.

    Parameters
    ----------
    schedule
        When stages begin.
    get_latent
        Function that returns mean and variance of the joint posterior of the training cells, each
        of shape (cells, n_latent).
    labels
        Label of each training cell in the same order, where the mixture starts from labels.
    n_clusters
        Number of components; ``None`` chooses by Leiden clustering of the latent.
    restore_best
        Whether to put the best weights back.
    random_state
        Seed of the fit of the mixture.
    """

    def __init__(
        self,
        schedule: StageSchedule,
        get_latent: Callable[[], tuple[np.ndarray, np.ndarray]],
        labels: Callable[[], np.ndarray] | None = None,
        n_clusters: int | None = None,
        *,
        restore_best: bool = True,
        random_state: int = 0,
    ) -> None:
        self.schedule = schedule
        self.get_latent, self.labels = get_latent, labels
        self.n_clusters, self.random_state = n_clusters, random_state
        self.restore_best = restore_best
        self.borders: dict[str, int] = {}
        self.best = float("inf")
        self.best_state: dict[str, torch.Tensor] | None = None
        self.waited, self.cuts = 0, 0

    # Lightning stores this with a checkpoint, and gives it back when training resumes.
    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to know."""
        return {key: getattr(self, key) for key in _STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a stopped run."""
        for key, value in state_dict.items():
            setattr(self, key, value)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the stages that are due."""
        epoch, schedule = trainer.current_epoch, self.schedule
        plan: Any = pl_module
        module = plan.module
        if not module.mixture_active and schedule.mixture_start is not None:
            if epoch >= schedule.mixture_start or self._stage_is_over():
                self._begin_mixture(trainer, plan, epoch)
        if schedule.cycle_start is not None and epoch >= schedule.cycle_start:
            self.borders.setdefault("cycle", epoch)
            progress = (epoch - self.borders["cycle"] + 1) / max(1, schedule.cycle_ramp)
            module.cycle_weight = schedule.cycle_weight * min(1.0, progress)

    @property
    def stage(self) -> str:
        """Name of the stage that runs."""
        return "mixture" if "mixture" in self.borders else "warm-up"

    def _begin_mixture(self, trainer: Trainer, plan: Any, epoch: int) -> None:
        module = plan.module
        self._put_best_back(module)
        labels = None if self.labels is None else self.labels()
        fit = mixture_of(*self.get_latent(), labels, self.n_clusters, self.random_state)
        if len(fit.weights) != module.n_clusters:
            module.resize_mixture(len(fit.weights))
        module.prior.initialize(fit.means, fit.variances, fit.weights)
        module.mixture_active.fill_(True)
        self.n_clusters = len(fit.weights)
        logger.info("Epoch %d: the prior is a mixture of %d components.", epoch, self.n_clusters)
        # The new parameters must be known to the optimiser.
        trainer.strategy.setup_optimizers(trainer)
        self.borders["mixture"] = epoch
        self._forget_best()
        if self.schedule.lr_cuts:
            self._cut_learning_rate(trainer)

    def _forget_best(self) -> None:
        self.best, self.best_state, self.waited, self.cuts = float("inf"), None, 0, 0

    def _put_best_back(self, module: Any) -> None:
        if self.restore_best and self.best_state is not None:
            module.load_state_dict(self.best_state)

    def _stage_is_over(self) -> bool:
        patience = self.schedule.patience
        waited = patience is not None and self.waited >= patience
        return waited and self.cuts >= self.schedule.lr_cuts

    def _cut_learning_rate(self, trainer: Trainer) -> None:
        self.waited, self.cuts = 0, self.cuts + 1
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= self.schedule.lr_factor

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note improvements; where there are none, change a weight or rate, or end the stage."""
        if trainer.sanity_checking or _MONITOR not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[_MONITOR])
        if not np.isfinite(value):
            return
        if value < self.best - self.schedule.min_delta:
            self.best, self.waited = value, 0
            if self.restore_best:
                state = pl_module.module.state_dict()
                self.best_state = {k: v.detach().clone() for k, v in state.items()}
            return
        self.waited += 1
        schedule, module = self.schedule, pl_module.module
        if schedule.patience is None or self.waited < schedule.patience:
            return
        if self.cuts < schedule.lr_cuts:
            self._put_best_back(module)
            self._cut_learning_rate(trainer)
        elif module.mixture_active or schedule.mixture_start is None:
            logger.info("No better held-out ELBO in %d epochs: training ends.", schedule.patience)
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back, and look for a collapse of the mixture."""
        module: Any = pl_module.module
        self._put_best_back(module)
        self.best_state = None
        module.eval()
        if module.mixture_active and self.schedule.mixture_start is not None:
            device = module.prior.means.device
            mean, variance = (torch.as_tensor(part, device=device) for part in self.get_latent())
            with torch.no_grad():
                warn_on_collapse(module.prior.responsibilities(mean, variance))
