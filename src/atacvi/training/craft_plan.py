"""Training plans of CRAFTModel: alignment of both modalities, then the decoder of expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from atacvi.training.atacformer_plan import TokenTrainingPlan
from atacvi.training.schedules import warmup_cosine

if TYPE_CHECKING:
    from atacvi.modules import CRAFTModule

# Parameters without a sensible zero: decay would pull them to arbitrary values.
_NO_DECAY = ("bias", "norm", "embeddings.", "query", "offset", "logit_scale", "dispersion")
_ENCODERS = ("gene_encoder.", "atac_encoder.", "component_encoder.")
# What starts by adding nothing learns as fast as the projections
_RESIDUAL = ("gene_encoder.blocks.", "component_encoder.")


class CRAFTPlan(TokenTrainingPlan):
    """What both plans share: which parameters are trained how fast.

    Parameters
    ----------
    module
        Module to train.
    lr
        Highest learning rate, of the projections or the decoder.
    encoder_lr_factor
        Learning rate of the encoders relative to `lr`, but for residual networks on linear maps.
        Low: what tells cells apart is a small part of what the encoders give, and large steps wash
        the start away.
    weight_decay
        Of AdamW; biases, norms, embeddings and the temperature are not decayed.
    warmup
        Share of the steps over which the learning rate rises.
    """

    module: Any
    # names of the parameters begin with one of these
    trained: tuple[str, ...] = ()

    def __init__(
        self,
        module: CRAFTModule,
        *,
        lr: float = 5e-4,
        encoder_lr_factor: float = 0.05,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
    ) -> None:
        super().__init__(module, lr=lr, weight_decay=weight_decay, warmup=warmup)  # type: ignore[arg-type]
        if encoder_lr_factor < 0:
            msg = f"encoder_lr_factor={encoder_lr_factor} must not be negative."
            raise ValueError(msg)
        self.encoder_lr_factor = encoder_lr_factor

    def configure_optimizers(self) -> dict[str, Any]:
        """Return a fused AdamW with its schedule, which is stepped with each minibatch."""
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad or not name.startswith(self.trained):
                continue
            is_slow = name.startswith(_ENCODERS) and not name.startswith(_RESIDUAL)
            kind = (is_slow, not any(part in name for part in _NO_DECAY))
            groups.setdefault(kind, []).append(parameter)
        options = [
            {
                "params": parameters,
                "lr": self.lr * (self.encoder_lr_factor if is_slow else 1.0),
                "weight_decay": self.weight_decay if decays else 0.0,
            }
            for (is_slow, decays), parameters in groups.items()
        ]
        optimizer = torch.optim.AdamW(options, lr=self.lr, fused=True)
        n_steps = max(int(self.trainer.estimated_stepping_batches), 1)
        n_warmup = min(round(self.warmup * n_steps), n_steps - 1)

        def factor(step: int) -> float:
            # the first step is taken at a small rate, not at none
            return warmup_cosine(step + 1, n_warmup + 1, n_steps + 1)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class AlignmentPlan(CRAFTPlan):
    """Symmetric contrast of both modalities over the cells of a minibatch, on all devices.

    Parameters
    ----------
    module
        Module to train.
    **kwargs
        Of `CRAFTPlan`.

    References
    ----------
    Radford et al., "Learning transferable visual models from natural language supervision", ICML
    (2021).
    """

    trained = (*_ENCODERS, "gene_projection.", "atac_projection.", "component_projection.",
               "logit_scale")  # fmt: skip

    def losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the contrast, what it tells, and the number of cells."""
        outputs = self.module.inference(**self.module._get_inference_input(batch))
        found = self.module.loss(batch, outputs)
        return found.loss, dict(found.extra_metrics), len(outputs["rna"])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the temperature within its bounds."""
        self.module.clamp_temperature()


class DecoderPlan(CRAFTPlan):
    """Likelihood of the counts of genes, given fixed embeddings of accessibility.

    Parameters
    ----------
    module
        Module whose decoder is trained.
    **kwargs
        Of `CRAFTPlan`.
    """

    trained = ("decoder.",)

    def losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the mean negative log-likelihood of a cell, and the number of cells."""
        nll = -self.module.decoder.log_prob(batch["cells"], batch["counts"]).mean()
        return nll, {"imputation_nll": nll}, len(batch["cells"])
