"""Training of a query model: only the covariate columns that the reference does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule, Trainer

# End of the names of the weights that covariates multiply
COVARIATE_WEIGHT = "covariates.weight"
# Ends of the names of the tables with a row for each batch
BATCH_EMBEDDING = "embeddings.batch.weight"
BATCH_COEFFICIENTS = "batch_coefficients"
# Name of the buffer with the mean of the covariates over the training cells
COVARIATE_MEAN = "covariate_mean"
# Name of the buffer with the shares of the batches in each component of a prior
BATCH_SHARES = "latent_prior_batches"


class LearnNewColumns(Callback):
    """Freeze a module but for some columns of its covariate weights.

    Gradients of the other columns are zeroed, and their values put back after each step, so that
    neither clipping nor weight decay sees or changes them.

    Parameters
    ----------
    columns
        Columns to learn.

    Raises
    ------
    ValueError
        If there is no column to learn.
    """

    def __init__(self, columns: Sequence[int]) -> None:
        if len(columns) == 0:
            msg = (
                "The query has no new batches or categories, so there is nothing to learn: use "
                "the getters as they are."
            )
            raise ValueError(msg)
        self.columns = list(columns)
        self._kept: list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []
        self._hooks: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze, before the optimiser is made."""
        for name, parameter in pl_module.module.named_parameters():
            parameter.requires_grad_(name.endswith(COVARIATE_WEIGHT))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the reference's columns, on the device where training runs."""
        for parameter in pl_module.module.parameters():
            if not parameter.requires_grad:
                continue
            learnt = torch.zeros(parameter.shape[1], dtype=torch.bool, device=parameter.device)
            learnt[self.columns] = True
            self._kept.append((parameter, learnt, parameter.detach().clone()))
            self._hooks.append(parameter.register_hook(lambda grad, m=learnt: grad * m))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Put the reference's columns back."""
        with torch.no_grad():
            for parameter, learnt, reference in self._kept:
                parameter.copy_(torch.where(learnt, parameter, reference))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the freeze back."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._kept = [], []
        for parameter in pl_module.module.parameters():
            parameter.requires_grad_(True)
