"""Losses that compare cells with each other: by label, in triplets, or across modalities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Label of a cell of which none is known
UNKNOWN_LABEL = -1


def supervised_contrastive_loss(
    embeddings: Tensor, labels: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""Pull cells of one label together and push all others apart.

    .. math::

        \mathcal{L} = \frac{1}{|A|} \sum_{i \in A} \frac{-1}{|P(i)|} \sum_{p \in P(i)}
        \log \frac{\exp(z_i^\top z_p / \tau)}{\sum_{a \neq i} \exp(z_i^\top z_a / \tau)}

    over the anchors A that have other cells P(i) of their label in the batch. Cells of label -1
    (unknown) take no part.

    Parameters
    ----------
    embeddings
        Shape (cells, width); scaled to unit length here.
    labels
        Label of each cell, int64, shape (cells,).
    temperature
        :math:`\tau`.

    Returns
    -------
    Scalar; 0, with gradients of 0, where no cell has another of its label.

    References
    ----------
    Khosla et al., Supervised contrastive learning, NeurIPS 2020, equation 2.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import supervised_contrastive_loss
    >>> apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> round(supervised_contrastive_loss(apart, labels).item(), 4)
    0.0
    """
    embeddings, labels = _known(embeddings, labels)
    unit = F.normalize(embeddings.float(), dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    scores = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    positive = _same_label(labels) & ~itself
    anchors = positive.any(1)
    log_probability = scores - scores.logsumexp(1, keepdim=True)
    of_anchor = log_probability.masked_fill(~positive, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    # `where` before the mean: a batch of one cell has a log-sum-exp of nothing
    return _mean_or_zero(-of_anchor[anchors], embeddings)


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    r"""Mean of :math:`\max(\lVert a - p \rVert_2 - \lVert a - n \rVert_2 + m, 0)`.

    Parameters
    ----------
    anchor, positive, negative
        Embeddings, each (triplets, width); not normalised.
    margin
        m.

    Returns
    -------
    Scalar.

    References
    ----------
    Reimers and Gurevych, Sentence-BERT, EMNLP 2019, section 3.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import triplet_loss
    >>> a, n = torch.zeros(1, 2), torch.full((1, 2), 9.0)
    >>> triplet_loss(a, a, n).item(), round(triplet_loss(a, a, a).item(), 4)
    (0.0, 1.0)
    """
    return F.triplet_margin_loss(anchor.float(), positive.float(), negative.float(), margin)


def batch_hard_triplet_loss(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Triplet loss of each cell with its farthest positive and its nearest negative of the batch.

    Cells of label -1 take no part, nor do cells without a positive or a negative in the batch.

    Parameters
    ----------
    embeddings
        Shape (cells, width).
    labels
        Label of each cell, int64, shape (cells,).
    margin
        By how much the negative should be farther than the positive.

    Returns
    -------
    Scalar; 0, with gradients of 0, where there is no triplet.

    References
    ----------
    Hermans et al., In defense of the triplet loss for person re-identification, 2017, equation 5.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import batch_hard_triplet_loss
    >>> cells = torch.tensor([[0.0], [1.0], [3.0], [4.0]])
    >>> batch_hard_triplet_loss(cells, torch.tensor([0, 0, 1, 1]), margin=2.0).item()
    0.5
    """
    embeddings, labels = _known(embeddings, labels)
    vectors = embeddings.float()
    squares = (vectors.unsqueeze(1) - vectors.unsqueeze(0)).square().sum(-1)
    # the root has no gradient at zero
    distances = squares.clamp(min=1e-12).sqrt()
    same = _same_label(labels)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    complete = (same & ~itself).any(1) & (~same).any(1)
    distances, same, itself = distances[complete], same[complete], itself[complete]
    if not complete.any():
        return _mean_or_zero(distances.new_empty(0), embeddings)
    farthest = distances.masked_fill(~same | itself, -torch.inf).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    return F.relu(farthest - nearest + margin).mean()


def sample_triplets(
    labels: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw for each cell another of its label and one of another label.

    Parameters
    ----------
    labels
        Label of each cell, int64, shape (cells,); cells of label -1 take no part.
    generator
        Source of the draws; torch's own when ``None``.

    Returns
    -------
    Positions of anchors, positives and negatives, each (triplets,). Cells without a positive or a
    negative in the batch are no anchors.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import sample_triplets
    >>> anchor, positive, negative = sample_triplets(torch.tensor([0, 0, 1]))
    >>> anchor.tolist(), positive.tolist(), negative.tolist()
    ([0, 1], [1, 0], [2, 2])
    """
    known = labels != UNKNOWN_LABEL
    same = _same_label(labels) & known & known.unsqueeze(1)
    other = ~_same_label(labels) & known & known.unsqueeze(1)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor = torch.nonzero(positive.any(1) & other.any(1)).flatten()
    if not len(anchor):
        return anchor, anchor, anchor
    draws = [
        torch.multinomial(candidates[anchor].float(), 1, generator=generator).flatten()
        for candidates in (positive, other)
    ]
    return anchor, draws[0], draws[1]


def paired_contrastive_loss(first: Tensor, second: Tensor, logit_scale: Tensor) -> Tensor:
    r"""Symmetric cross-entropy that matches each row of one modality to the same row of the other.

    .. math::

        S = e^{s}\, \hat A \hat B^\top, \quad
        \mathcal{L} = \tfrac{1}{2} (\mathrm{CE}(S, \mathrm{diag}) + \mathrm{CE}(S^\top, \mathrm{diag}))

    Parameters
    ----------
    first, second
        Projections of the two modalities, each (cells, width); scaled to unit length here.
    logit_scale
        s, a scalar; the logarithm of the inverse temperature.

    Returns
    -------
    Scalar.

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, ICML
    2021, figure 3.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import paired_contrastive_loss
    >>> cells = 100 * torch.eye(4)
    >>> paired_contrastive_loss(cells, cells, torch.tensor(5.0)).item() < 1e-6
    True
    """
    first, second = (F.normalize(x.float(), dim=-1) for x in (first, second))
    scores = logit_scale.float().exp() * first @ second.T
    diagonal = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, diagonal) + F.cross_entropy(scores.T, diagonal)) / 2


def _known(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the cells without a label."""
    known = labels.flatten() != UNKNOWN_LABEL
    return embeddings[known], labels.flatten()[known]


def _same_label(labels: Tensor) -> Tensor:
    """Whether two cells share their label, shape (cells, cells)."""
    return labels.unsqueeze(1) == labels.unsqueeze(0)


def _mean_or_zero(values: Tensor, embeddings: Tensor) -> Tensor:
    """Mean; where there is nothing, a zero through which gradients of zero flow."""
    return values.mean() if values.numel() else 0.0 * embeddings.float().sum()
