"""From the tokens of packed cells to one vector a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from atacvi.nn.transformer import PackedTokens

# Weights of zero would leave a cell without a mean; far below any weight that tells regions apart.
_MIN_WEIGHT = 1e-6


def pool_mean(hidden: Tensor, tokens: PackedTokens, weights: Tensor | None = None) -> Tensor:
    """Average the tokens of each cell.

    Parameters
    ----------
    hidden
        Vectors of the tokens, shape (tokens, width).
    tokens
        Which tokens belong to which cell.
    weights
        Weight of each token, not negative, shape (tokens,); equal when ``None``.

    Returns
    -------
    Shape (cells, width), float32 or wider; zeros for a cell without tokens.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import PackedTokens, pool_mean
    >>> tokens = PackedTokens.from_cells([[0, 1], []])
    >>> pool_mean(torch.tensor([[1.0, 2.0], [3.0, 6.0]]), tokens)
    tensor([[2., 4.],
            [0., 0.]])
    """
    hidden = hidden.float() if hidden.dtype in (torch.float16, torch.bfloat16) else hidden
    if weights is None:
        return _sum(hidden, tokens) / tokens.lengths.clamp(min=1).unsqueeze(-1)
    weights = weights.to(hidden.dtype).clamp(min=_MIN_WEIGHT).unsqueeze(-1)
    total = _sum(weights, tokens)
    return _sum(hidden * weights, tokens) / torch.where(total > 0, total, 1.0)


def _sum(values: Tensor, tokens: PackedTokens) -> Tensor:
    """Sum over the tokens of each cell, shape (cells, width)."""
    return torch.segment_reduce(values, "sum", offsets=tokens.offsets, axis=0, initial=0.0)


class AttentionPooling(nn.Module):
    """Average the tokens of each cell with weights from a learned query.

    The query starts at zero, that is, as the plain mean.

    Parameters
    ----------
    n_embed
        Width of a token.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import AttentionPooling, PackedTokens
    >>> tokens = PackedTokens.from_cells([[0, 1], [2]])
    >>> AttentionPooling(4)(torch.ones(3, 4), tokens).shape
    torch.Size([2, 4])
    """

    def __init__(self, n_embed: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(n_embed))

    def forward(self, hidden: Tensor, tokens: PackedTokens) -> Tensor:
        """Return the pooled cells, shape (cells, n_embed)."""
        return pool_mean(hidden, tokens, self.weights(hidden, tokens))

    def weights(self, hidden: Tensor, tokens: PackedTokens) -> Tensor:
        """Return the weight of each token, proportional within a cell, shape (tokens,)."""
        scores = (hidden @ self.query.to(hidden.dtype)).float() / hidden.shape[-1] ** 0.5
        cell = tokens.cell_index
        # the largest weight of a cell is one; the softmax's sum is taken by the mean
        highest = scores.new_full((tokens.n_cells,), -torch.inf)
        highest = highest.scatter_reduce(0, cell, scores.detach(), "amax")
        return (scores - highest[cell]).exp()
