"""Training plans of AtacformerModel: pretraining without labels, fine-tuning with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from atacvi.nn import PackedTokens, paired_contrastive_loss
from atacvi.training.schedules import ramp, warmup_cosine

if TYPE_CHECKING:
    from atacvi.modules import AtacformerModule, AtacformerObjectives

_EMBEDDINGS, _ENCODER = "embeddings.", "encoder."
# Parameters without a sensible zero: decay would pull them to arbitrary values.
_NO_DECAY = ("bias", "norm", "embeddings.", "query")
_FEWEST_PAIRS = 2


class TokenTrainingPlan(LightningModule):
    """What both plans share: optimiser, schedule, logging.

    Parameters
    ----------
    module
        Module to train.
    lr
        Highest learning rate.
    embedding_lr_factor, encoder_lr_factor
        Learning rates of the table of regions and of the layers relative to `lr`, which is that of
        the heads. Layers that start as the identity, or that were pretrained, have something to
        lose, unlike heads: the signal of a cell is a small part of its tokens' length.
    weight_decay
        Of AdamW; biases, norms and embeddings are not decayed.
    warmup
        Share of the steps over which the learning rate rises.
    n_cycles
        Cosine cycles after the warm-up.
    """

    def __init__(
        self,
        module: AtacformerModule,
        *,
        lr: float,
        embedding_lr_factor: float = 1.0,
        encoder_lr_factor: float = 0.1,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        n_cycles: int = 1,
    ) -> None:
        super().__init__()
        if lr < 0 or not 0 <= warmup < 1:
            msg = (
                f"lr={lr}, warmup={warmup}: a learning rate is not negative, and the warm-up is a "
                "share of the steps below 1."
            )
            raise ValueError(msg)
        self.module = module
        self.lr, self.embedding_lr_factor = lr, embedding_lr_factor
        self.encoder_lr_factor = encoder_lr_factor
        self.weight_decay, self.warmup, self.n_cycles = weight_decay, warmup, n_cycles

    def losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the loss, its parts by name, and the number of cells."""
        raise NotImplementedError

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a minibatch."""
        loss, parts, n_cells = self.losses(batch)
        self._log("train", {"loss": loss, **parts}, n_cells)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the losses of a minibatch of held-out cells."""
        loss, parts, n_cells = self.losses(batch)
        self._log("validation", {"loss": loss, **parts}, n_cells)

    def _log(self, part: str, values: dict[str, Tensor], n_cells: int) -> None:
        for name, value in values.items():
            # the loss as in scvi-tools: train_loss, validation_loss; its parts as replaced_train
            key = f"{part}_loss" if name == "loss" else f"{name}_{part}"
            self.log(
                key,
                value.detach(),
                on_step=False,
                on_epoch=True,
                prog_bar=name == "loss",
                batch_size=n_cells,
                sync_dist=part == "validation",
            )

    def configure_optimizers(self) -> dict[str, Any]:
        """Return a fused AdamW with its schedule, which is stepped with each minibatch."""
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad:
                continue
            factor = 1.0
            if name.startswith(_EMBEDDINGS):
                factor = self.embedding_lr_factor
            elif name.startswith(_ENCODER):
                factor = self.encoder_lr_factor
            decay = 0.0 if any(part in name for part in _NO_DECAY) else self.weight_decay
            groups.setdefault((self.lr * factor, decay), []).append(parameter)
        options = [
            {"params": parameters, "lr": lr, "weight_decay": decay}
            for (lr, decay), parameters in groups.items()
        ]
        optimizer = torch.optim.AdamW(options, lr=self.lr, fused=True)
        n_steps = max(int(self.trainer.estimated_stepping_batches), 1)
        n_warmup = min(round(self.warmup * n_steps), n_steps - 1)

        def schedule(step: int) -> float:
            # the first step is taken at a small rate, not at none
            return warmup_cosine(step + 1, n_warmup + 1, n_steps + 1, self.n_cycles)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class PretrainingPlan(TokenTrainingPlan):
    r"""Replaced-token detection, and agreement between two disjoint parts of a cell.

    .. math::

        \mathcal{L} = \mathcal{L}_\mathrm{replaced} + w\, \mathcal{L}_\mathrm{agreement}

    Agreement is the symmetric cross-entropy of finding, among the cells of the minibatch, the other
    part of the same cell by the cosine of the centred embeddings: a lower bound on what both parts
    tell about the cell beyond the sampling of its regions.

    Parameters
    ----------
    module
        Module to train.
    bayes_losses
        Loss of the best prediction without context, for ``"train"`` and ``"validation"``; logged
        beside the model's own.
    replaced_weight, agreement_weight
        Weights of the two terms.
    temperature
        Of the agreement.
    **kwargs
        Of `TokenTrainingPlan`.

    References
    ----------
    Clark et al., "ELECTRA: Pre-training text encoders as discriminators rather than generators",
    ICLR (2020). van den Oord et al., "Representation learning with contrastive predictive coding",
    arXiv 1807.03748 (2018).
    """

    def __init__(
        self,
        module: AtacformerModule,
        *,
        bayes_losses: dict[str, float] | None = None,
        replaced_weight: float = 1.0,
        agreement_weight: float = 1.0,
        temperature: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, **kwargs)
        if min(replaced_weight, agreement_weight) < 0 or replaced_weight + agreement_weight == 0:
            msg = (
                f"replaced_weight={replaced_weight}, agreement_weight={agreement_weight}: weights "
                "are not negative, and one is positive."
            )
            raise ValueError(msg)
        self.bayes_losses = dict(bayes_losses or {})
        self.replaced_weight, self.agreement_weight = replaced_weight, agreement_weight
        self.temperature = temperature

    def losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the loss of both terms and what they tell."""
        part = "train" if self.training else "validation"
        parts: dict[str, Tensor] = {}
        terms: list[Tensor] = []
        n_cells = 0
        if "corrupted" in batch:
            corrupted = batch["corrupted"]
            n_cells = corrupted.n_cells
            loss = self.module.rtd_loss(corrupted, batch["replaced"])
            terms.append(self.replaced_weight * loss)
            parts["replaced_loss"] = loss
            if part in self.bayes_losses:
                bayes = loss.new_tensor(self.bayes_losses[part])
                parts["unigram_bayes_loss"] = bayes
                parts["context_gain"] = bayes - loss
        if "first" in batch:
            n_cells = batch["first"].n_cells
            loss, n_pairs = self._agreement(batch["first"], batch["second"])
            terms.append(self.agreement_weight * loss)
            parts["agreement_loss"] = loss
            parts["agreement_information"] = loss.new_tensor(max(n_pairs, 1)).log() - loss
        # what the weights know beyond single tokens: higher is better, unlike the loss of replaced
        # tokens alone, which says little of the embedding
        gains = [parts[name] for name in ("context_gain", "agreement_information") if name in parts]
        if gains:
            parts["score"] = torch.stack(gains).sum()
        return torch.stack(terms).sum(), parts, n_cells

    def _agreement(self, first: PackedTokens, second: PackedTokens) -> tuple[Tensor, int]:
        """Return the loss over the cells of which both parts hold tokens, and their number."""
        both = (first.lengths > 0) & (second.lengths > 0)
        one, two = self.module.encode(first)[both], self.module.encode(second)[both]
        if len(one) < _FEWEST_PAIRS:
            return 0.0 * (one.sum() + two.sum()), len(one)
        centre = torch.cat([one, two]).mean(0).detach()
        scale = one.new_tensor(1.0 / self.temperature).log()
        return paired_contrastive_loss(one - centre, two - centre, scale), len(one)


class FinetuningPlan(TokenTrainingPlan):
    """Fine-tuning on labels, batches, or both.

    Parameters
    ----------
    module
        Module to train, with the heads that the objectives need.
    objectives
        Weights and options of the losses.
    centre
        Mean embedding, subtracted before cells are compared or classified, shape (width,).
    n_ramp_epochs
        Epochs over which the reversed gradient of the adversary reaches its strength.
    **kwargs
        Of `TokenTrainingPlan`.

    References
    ----------
    Khosla et al., "Supervised contrastive learning", NeurIPS (2020). Ganin et al.,
    "Domain-adversarial training of neural networks", JMLR 17:59 (2016).
    """

    centre: Tensor

    def __init__(
        self,
        module: AtacformerModule,
        objectives: AtacformerObjectives,
        *,
        centre: Tensor,
        n_ramp_epochs: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, **kwargs)
        self.objectives, self.n_ramp_epochs = objectives, max(n_ramp_epochs, 1)
        self.register_buffer("centre", centre.detach().clone(), persistent=False)

    def losses(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the weighted loss of the objectives, and their parts."""
        outputs = self.module.inference(batch["tokens"], batch.get("corrupted"))
        outputs["cells"] = outputs["cells"] - self.centre
        objectives = self.objectives
        if objectives.adversary > 0:
            strength = ramp(min(self.current_epoch / self.n_ramp_epochs, 1.0))
            objectives = replace(
                objectives, reversal_strength=objectives.reversal_strength * strength
            )
        found = self.module.loss(batch, outputs, {}, objectives=objectives)
        parts = dict(found.extra_metrics)
        supervised = [
            getattr(objectives, name) * parts[f"{name}_loss"]
            for name in ("contrastive", "triplet", "classification")
            if f"{name}_loss" in parts
        ]
        if supervised:
            parts["score"] = -torch.stack(supervised).sum()
        if self.module.classification_head is not None and objectives.classification > 0:
            parts["accuracy"] = self._accuracy(outputs["cells"], batch["labels"])
        return found.loss, parts, batch["tokens"].n_cells

    @torch.no_grad()
    def _accuracy(self, cells: Tensor, labels: Tensor) -> Tensor:
        known = labels.flatten() >= 0
        if not known.any():
            return cells.new_tensor(float("nan"))
        predicted = self.module.classification_head(cells[known]).argmax(1)  # type: ignore[misc]
        return (predicted == labels.flatten()[known]).float().mean()
