"""Self-attention over genome blocks, and over hidden features as in the scMVP code."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _check_heads(width: int, n_heads: int) -> None:
    if n_heads < 1 or width % n_heads:
        msg = f"The width {width} must be divisible by n_heads, found n_heads={n_heads}."
        raise ValueError(msg)


class TokenSelfAttention(nn.Module):
    """One pre-norm transformer layer over a cell's tokens.

    Both residual branches start at zero, so that the layer starts as the identity and a sum over
    its tokens as the plain sum of the embeddings of the open peaks.

    Parameters
    ----------
    width
        Width of a token.
    n_heads
        Number of heads; divides `width`.
    dropout_rate
        Dropout on both branches.

    Raises
    ------
    ValueError
        If `width` is not divisible by `n_heads`.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import TokenSelfAttention
    >>> TokenSelfAttention(width=16, n_heads=4)(torch.zeros(2, 5, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(self, width: int, n_heads: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        _check_heads(width, n_heads)
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        widen, narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.feedforward = nn.Sequential(widen, nn.GELU(), narrow)
        self.dropout = nn.Dropout(dropout_rate)
        for last in (self.output, narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the layer, shape (cells, tokens, width)."""
        query, key, value = self._heads(tokens)
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = attended.transpose(1, 2).flatten(2)  # (cells, tokens, width)
        tokens = tokens + self.dropout(self.output(attended))
        return tokens + self.dropout(self.feedforward(self.norm_feedforward(tokens)))

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the attention weights, shape (cells, heads, query tokens, key tokens)."""
        query, key, _ = self._heads(tokens)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores.softmax(-1)

    def _heads(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return query, key and value, each (cells, heads, tokens, width / heads)."""
        mixed = self.query_key_value(self.norm_attention(tokens))
        split = mixed.unflatten(-1, (3, self.n_heads, -1))
        return tuple(part.transpose(1, 2) for part in split.unbind(2))


class FeatureSelfAttention(nn.Module):
    """Attention over hidden scalars, as the scMVP code computes it; kept for comparison.

    The hidden units fall into `n_heads` groups; within each, every unit is a token of width one.
    No peaks and no positions take part (Li et al., Genome Biology 23:20, 2022; their code).

    Parameters
    ----------
    width
        Number of hidden units.
    n_heads
        Number of groups; divides `width`.
    dropout_rate
        Dropout on the attention weights.

    Raises
    ------
    ValueError
        If `width` is not divisible by `n_heads`.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import FeatureSelfAttention
    >>> FeatureSelfAttention(width=16, n_heads=4)(torch.zeros(2, 16)).shape
    torch.Size([2, 16])
    """

    def __init__(self, width: int, n_heads: int = 8, dropout_rate: float = 0.0) -> None:
        super().__init__()
        _check_heads(width, n_heads)
        self.n_heads = n_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the attended units, shape (cells, width)."""
        value = self.value(hidden).unflatten(-1, (self.n_heads, -1))
        attended = self.dropout(self.weights(hidden)) @ value.unsqueeze(-1)
        return attended.flatten(1)

    def weights(self, hidden: Tensor) -> Tensor:
        """Return the attention weights, shape (cells, heads, width / heads, width / heads)."""
        query = self.query(hidden).unflatten(-1, (self.n_heads, -1))
        key = self.key(hidden).unflatten(-1, (self.n_heads, -1))
        return torch.softmax(query.unsqueeze(-1) * key.unsqueeze(-2), dim=-1)
