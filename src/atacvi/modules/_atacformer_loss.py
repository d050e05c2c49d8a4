"""Objectives of AtacformerModule: replaced tokens, contrast, classes, and the batch adversary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput
from torch import Tensor
from torch.nn import functional as F

from atacvi.nn import (
    batch_hard_triplet_loss,
    reverse_gradient,
    sample_triplets,
    supervised_contrastive_loss,
    triplet_loss,
)

if TYPE_CHECKING:
    from torch import nn

    from atacvi.modules._atacformer_config import AtacformerConfig
    from atacvi.nn import PackedTokens, ReplacedTokenHead

# Labels that take no part: of tokens as in the public code, of cells as elsewhere in this package.
IGNORED_TOKEN = -100
UNKNOWN_LABEL = -1


class AtacformerBatch(NamedTuple):
    """Keys of the minibatch that the module reads; a dictionary holds those that a task needs."""

    tokens: str = "tokens"
    corrupted: str = "corrupted"
    replaced: str = "replaced"
    batch: str = REGISTRY_KEYS.BATCH_KEY
    labels: str = REGISTRY_KEYS.LABELS_KEY


BATCH_KEYS = AtacformerBatch()


@dataclass(frozen=True)
class AtacformerObjectives:
    """Weights of the objectives, 0 for those that take no part, and their options.

    Parameters
    ----------
    replaced
        Replaced-token detection on the corrupted pass.
    contrastive
        Supervised contrastive loss on the clean pass.
    triplet
        Triplet margin loss on the clean pass.
    classification
        Cross-entropy of the classification head on the clean pass.
    adversary
        Cross-entropy of the batch head behind the reversed gradient, on the clean pass.
    temperature
        Of the contrastive loss.
    margin
        Of the triplet loss.
    hard_triplets
        Take the farthest positive and the nearest negative of the minibatch, else one of each at
        random.
    label_smoothing
        Of the classification.
    reversal_strength
        Factor of the reversed gradient.

    Raises
    ------
    ValueError
        If a weight is negative, all are zero, or an option is out of its range.

    Examples
    --------
    >>> from atacvi.modules import AtacformerObjectives
    >>> AtacformerObjectives(replaced=1.0).active
    ('replaced',)
    """

    replaced: float = 0.0
    contrastive: float = 0.0
    triplet: float = 0.0
    classification: float = 0.0
    adversary: float = 0.0
    temperature: float = 0.1
    margin: float = 1.0
    hard_triplets: bool = True
    label_smoothing: float = 0.0
    reversal_strength: float = 1.0

    def __post_init__(self) -> None:
        """Check weights and options."""
        negative = [name for name in _OBJECTIVES if getattr(self, name) < 0]
        if negative or not self.active:
            found = ", ".join(f"{name}={getattr(self, name)}" for name in _OBJECTIVES)
            msg = f"weights of objectives must not be negative, and one must be positive: {found}"
            raise ValueError(msg)
        if self.temperature <= 0:
            msg = f"temperature must be positive, found {self.temperature}"
            raise ValueError(msg)
        if not 0 <= self.label_smoothing < 1:
            msg = f"label_smoothing must be in [0, 1), found {self.label_smoothing}"
            raise ValueError(msg)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the objectives of positive weight."""
        return tuple(name for name in _OBJECTIVES if getattr(self, name) > 0)


_OBJECTIVES = ("replaced", "contrastive", "triplet", "classification", "adversary")


def replaced_token_loss(logits: Tensor, replaced: Tensor) -> Tensor:
    """Mean binary cross-entropy over the tokens, leaving out those labelled -100.

    Parameters
    ----------
    logits
        Of "replaced", shape (tokens,).
    replaced
        1 or True where the token was replaced, 0 where not, -100 where it does not count, (tokens,).

    Returns
    -------
    Scalar; 0, with gradients of 0, where no token counts.
    """
    counts = replaced != IGNORED_TOKEN
    if not counts.any():
        return 0.0 * logits.float().sum()
    target = replaced[counts].float()
    return F.binary_cross_entropy_with_logits(logits[counts].float(), target)


def label_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the cells, leaving out those labelled -1.

    Parameters
    ----------
    logits
        Shape (cells, classes).
    labels
        int64, shape (cells,) or (cells, 1).
    label_smoothing
        Share of the probability that is spread over all classes.

    Returns
    -------
    Scalar; 0, with gradients of 0, where no label is known.
    """
    labels = labels.flatten().long()
    if not (labels != UNKNOWN_LABEL).any():
        return 0.0 * logits.float().sum()
    return F.cross_entropy(
        logits.float(), labels, ignore_index=UNKNOWN_LABEL, label_smoothing=label_smoothing
    )


class AtacformerLossMixin:
    """Losses of AtacformerModule."""

    config: AtacformerConfig
    discriminator: ReplacedTokenHead
    classification_head: nn.Module | None
    batch_prediction_head: nn.Module | None
    projection_head: nn.Module | None

    def rtd_loss(self, corrupted: PackedTokens, replaced: Tensor) -> Tensor:
        """Encode corrupted tokens and return the loss of telling which were replaced.

        Parameters
        ----------
        corrupted
            Tokens of which some were replaced.
        replaced
            1 where a token was replaced, 0 where not, -100 where it does not count, (tokens,).
        """
        return replaced_token_loss(self.discriminate(self.embed_tokens(corrupted)), replaced)  # type: ignore[attr-defined]

    def contrastive_loss(self, cells: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
        """Supervised contrastive loss of pooled cells, projected where there is a head for it."""
        projected = cells if self.projection_head is None else self.projection_head(cells)
        return supervised_contrastive_loss(projected, labels.flatten(), temperature)

    def triplet_loss(
        self, cells: Tensor, labels: Tensor, margin: float = 1.0, *, hard: bool = True
    ) -> Tensor:
        """Triplet margin loss of pooled cells (cells, d), hard or of random triplets."""
        if hard:
            return batch_hard_triplet_loss(cells, labels.flatten(), margin)
        anchor, positive, negative = sample_triplets(labels.flatten())
        if not len(anchor):
            return 0.0 * cells.float().sum()
        return triplet_loss(cells[anchor], cells[positive], cells[negative], margin)

    def classification_loss(
        self, cells: Tensor, labels: Tensor, label_smoothing: float = 0.0
    ) -> Tensor:
        """Cross-entropy of the classification head on pooled cells; label -1 is unknown."""
        head = _require(self.classification_head, "classification", "n_labels")
        return label_loss(head(cells), labels, label_smoothing)

    def adversary_loss(self, cells: Tensor, batch: Tensor, strength: float = 1.0) -> Tensor:
        """Cross-entropy of the batch head; the encoder gets its gradient reversed."""
        head = _require(self.batch_prediction_head, "adversary", "n_batch")
        return label_loss(head(reverse_gradient(cells, strength)), batch)

    def loss(
        self,
        tensors: dict[str, Any],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        objectives: AtacformerObjectives | None = None,
    ) -> LossOutput:
        """Return the weighted sum of the objectives.

        Parameters
        ----------
        tensors
            Minibatch, see `AtacformerModule`.
        inference_outputs
            What `inference` gave.
        generative_outputs
            Empty.
        objectives
            Weights and options; replaced-token detection alone when ``None``.
        """
        objectives = AtacformerObjectives(replaced=1.0) if objectives is None else objectives
        parts = {
            name: getattr(self, f"_{name}_part")(tensors, inference_outputs, objectives)
            for name in objectives.active
        }
        total = torch.stack([getattr(objectives, name) * v for name, v in parts.items()]).sum()
        return LossOutput(
            loss=total,
            n_obs_minibatch=inference_outputs["n_cells"],
            extra_metrics={f"{name}_loss": value.detach() for name, value in parts.items()},
        )

    def _replaced_part(
        self, tensors: dict[str, Any], outputs: dict[str, Any], objectives: AtacformerObjectives
    ) -> Tensor:
        logits = self.discriminate(outputs["corrupted_hidden"])  # type: ignore[attr-defined]
        return replaced_token_loss(logits, tensors[BATCH_KEYS.replaced].to(logits.device))

    def _contrastive_part(
        self, tensors: dict[str, Any], outputs: dict[str, Any], objectives: AtacformerObjectives
    ) -> Tensor:
        labels = tensors[BATCH_KEYS.labels]
        return self.contrastive_loss(outputs["cells"], labels, objectives.temperature)

    def _triplet_part(
        self, tensors: dict[str, Any], outputs: dict[str, Any], objectives: AtacformerObjectives
    ) -> Tensor:
        labels, hard = tensors[BATCH_KEYS.labels], objectives.hard_triplets
        return self.triplet_loss(outputs["cells"], labels, objectives.margin, hard=hard)

    def _classification_part(
        self, tensors: dict[str, Any], outputs: dict[str, Any], objectives: AtacformerObjectives
    ) -> Tensor:
        labels = tensors[BATCH_KEYS.labels]
        return self.classification_loss(outputs["cells"], labels, objectives.label_smoothing)

    def _adversary_part(
        self, tensors: dict[str, Any], outputs: dict[str, Any], objectives: AtacformerObjectives
    ) -> Tensor:
        batch = tensors[BATCH_KEYS.batch]
        return self.adversary_loss(outputs["cells"], batch, objectives.reversal_strength)


def _require(head: nn.Module | None, objective: str, argument: str) -> nn.Module:
    if head is None:
        msg = f"the objective {objective!r} needs a head; build the module with {argument} > 1"
        raise ValueError(msg)
    return head
