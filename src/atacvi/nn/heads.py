"""Heads on contextual tokens or on pooled cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ReplacedTokenHead(nn.Module):
    """Tell for each token whether it was replaced (ELECTRA).

    Parameters are named as in the public Atacformer checkpoints.

    Parameters
    ----------
    n_embed, n_hidden
        Width of a token and of the hidden layer.
    norm_eps
        Epsilon of the layer norm.

    References
    ----------
    Clark et al., ELECTRA: pre-training text encoders as discriminators rather than generators,
    ICLR 2020.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import ReplacedTokenHead
    >>> ReplacedTokenHead(n_embed=8, n_hidden=8)(torch.zeros(5, 8)).shape
    torch.Size([5])
    """

    def __init__(self, n_embed: int, n_hidden: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.dense = nn.Linear(n_embed, n_hidden)
        self.norm = nn.LayerNorm(n_hidden, eps=norm_eps)
        self.classifier = nn.Linear(n_hidden, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logit of "replaced" of each token, shape (tokens,)."""
        return self.classifier(self.norm(F.gelu(self.dense(hidden)))).squeeze(-1)


class ClassificationHead(nn.Module):
    """Classify pooled cells: linear, or with one hidden layer.

    Parameters
    ----------
    n_embed
        Width of a pooled cell.
    n_classes
        Number of classes.
    n_hidden
        Width of the hidden layer; linear when ``None``.
    dropout_rate
        Dropout before the last layer.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import ClassificationHead
    >>> ClassificationHead(n_embed=8, n_classes=3)(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_embed: int,
        n_classes: int,
        n_hidden: int | None = None,
        dropout_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.dense = None if n_hidden is None else nn.Linear(n_embed, n_hidden)
        self.norm = None if n_hidden is None else nn.LayerNorm(n_hidden)
        self.dropout = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(n_hidden or n_embed, n_classes)

    def forward(self, cells: Tensor) -> Tensor:
        """Return the logits, shape (cells, n_classes)."""
        if self.dense is not None and self.norm is not None:
            cells = self.norm(F.gelu(self.dense(cells)))
        return self.classifier(self.dropout(cells))


class ProjectionHead(nn.Module):
    """Project pooled cells onto the unit sphere, where a contrastive loss compares them.

    Parameters
    ----------
    n_embed, n_hidden, n_output
        Widths of a pooled cell, of the hidden layer and of the projection.

    References
    ----------
    Khosla et al., Supervised contrastive learning, NeurIPS 2020, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import ProjectionHead
    >>> out = ProjectionHead(n_embed=8, n_hidden=8, n_output=4)(torch.randn(5, 8))
    >>> torch.allclose(out.norm(dim=1), torch.ones(5))
    True
    """

    def __init__(self, n_embed: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.dense = nn.Linear(n_embed, n_hidden)
        self.output = nn.Linear(n_hidden, n_output)

    def forward(self, cells: Tensor) -> Tensor:
        """Return unit vectors, shape (cells, n_output)."""
        return F.normalize(self.output(torch.relu(self.dense(cells))), dim=-1)
