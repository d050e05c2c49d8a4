"""Training plan: fused AdamW with groups, and a warm-up of the KL term that always ends."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from scvi.train import TrainingPlan

from atacvi.training.row_adamw import RowAdamW, clip_gradients_by_norm

# Parameters without a sensible zero: decay would pull them to arbitrary values.
_NO_DECAY = (
    "bias",
    "offset",
    "norm",
    "prior.",
    "log_inverse_dispersion",
    "gate_logits",
    "position",
)


class MultiViewTrainingPlan(TrainingPlan):
    """Plan of MultiViewModel.

    It differs from :class:`scvi.train.TrainingPlan` in its defaults (AdamW, eps 1e-8), in that the
    optimiser is fused, that offsets, norms and the prior are not decayed, and that the prior has a
    learning rate of its own. A given ``optimizer`` or ``optimizer_creator`` is used as it is.

    Parameters
    ----------
    module
        Module to train.
    lr, weight_decay, eps
        Of AdamW.
    prior_lr_factor
        Learning rate of the prior relative to `lr`.
    n_epochs_kl_warmup
        Epochs over which the KL weight rises linearly to ``max_kl_weight``; the model clips them
        to the run.
    optimizer
        ``"FusedAdamW"``, or what :class:`scvi.train.TrainingPlan` takes.
    **kwargs
        Further arguments of :class:`scvi.train.TrainingPlan`.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        lr: float = 2e-3,
        weight_decay: float = 1e-4,
        eps: float = 1e-8,
        prior_lr_factor: float = 0.3,
        n_epochs_kl_warmup: int | None = 10,
        optimizer: str = "FusedAdamW",
        **kwargs: Any,
    ) -> None:
        self._fused = optimizer == "FusedAdamW" and kwargs.get("optimizer_creator") is None
        self.prior_lr_factor = prior_lr_factor
        super().__init__(
            module,
            lr=lr,
            weight_decay=weight_decay,
            eps=eps,
            n_epochs_kl_warmup=n_epochs_kl_warmup,
            optimizer="AdamW" if self._fused else optimizer,
            **kwargs,
        )

    def configure_optimizers(self) -> Any:
        """Return the optimiser and, if asked for, its scheduler."""
        # Several processes exchange dense gradients only, and an accelerator fills them in no time.
        alone = self._trainer is None or self._trainer.world_size == 1
        self.module.row_gradients = self._fused and alone and self.device.type == "cpu"
        if not self._fused:
            return super().configure_optimizers()
        groups: dict[str, list[torch.nn.Parameter]] = {"decay": [], "plain": [], "prior": []}
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith("prior."):
                groups["prior"].append(parameter)
            elif any(part in name for part in _NO_DECAY):
                groups["plain"].append(parameter)
            else:
                groups["decay"].append(parameter)
        prior_lr = self.lr * self.prior_lr_factor
        options: list[dict[str, Any]] = [
            {"params": groups["decay"]},
            {"params": groups["plain"], "weight_decay": 0.0},
            {"params": groups["prior"], "weight_decay": 0.0, "lr": prior_lr},
        ]
        optimizer = RowAdamW(options, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay)
        if not self.reduce_lr_on_plateau:
            return {"optimizer": optimizer}
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            patience=self.lr_patience,
            factor=self.lr_factor,
            threshold=self.lr_threshold,
            min_lr=self.lr_min,
            threshold_mode="abs",
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": self.lr_scheduler_metric},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients; by norm also those that are sparse, which Lightning cannot."""
        by_norm = gradient_clip_algorithm in (None, "norm")
        if not (self.module.row_gradients and by_norm and gradient_clip_val):
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        clip_gradients_by_norm(self.module.parameters(), gradient_clip_val)


def check_plan_kwargs(
    plan_class: type[TrainingPlan], plan_kwargs: dict[str, Any], loss: Any
) -> None:
    """Raise on arguments that neither the plan nor the loss knows.

    scvi-tools hands unknown ones to the loss, where they fail in the first step.

    Raises
    ------
    TypeError
        If an argument is unknown.
    """
    known = set(inspect.signature(loss).parameters) | plan_arguments(plan_class, TrainingPlan)
    known -= {"self", "module", "kwargs", "loss_kwargs", "tensors"}
    known -= {"inference_outputs", "generative_outputs"}
    refuse_unknown(plan_kwargs, known, plan_class)


def plan_arguments(plan_class: type, base: type) -> set[str]:
    """Return the names that the constructors of a plan take, down to that of `base`."""
    return {
        name
        for cls in plan_class.__mro__
        if issubclass(cls, base) and "__init__" in vars(cls)
        for name in inspect.signature(vars(cls)["__init__"]).parameters
    }


def refuse_unknown(plan_kwargs: dict[str, Any], known: set[str], plan_class: type) -> None:
    """Raise on arguments that a plan does not know.

    Raises
    ------
    TypeError
        If there is one.
    """
    unknown = sorted(set(plan_kwargs) - known)
    if unknown:
        msg = (
            f"plan_kwargs holds {', '.join(map(repr, unknown))}, which {plan_class.__name__} does "
            f"not know. It takes: {', '.join(sorted(known))}."
        )
        raise TypeError(msg)
