"""A transformer layer of one token a cell over context tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class CrossAttention(nn.Module):
    """Attention of one token a cell over the cell's context tokens, with a feed-forward part.

    Query from the normalised token, keys and values from the context as it is; both branches are
    residual. With one context token the weights are 1 whatever the query is, and the attention
    adds a fixed linear map of that token.

    Parameters
    ----------
    width
        Width of the tokens.
    n_heads
        Number of heads.
    head_width
        Width of a head.
    dropout_rate
        Dropout after the attention and inside the feed-forward part.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import CrossAttention
    >>> layer = CrossAttention(width=16, n_heads=2, head_width=8)
    >>> layer(torch.zeros(4, 16), torch.zeros(4, 3, 16)).shape
    torch.Size([4, 16])
    """

    def __init__(
        self, width: int, n_heads: int = 8, head_width: int = 64, dropout_rate: float = 0.1
    ) -> None:
        super().__init__()
        inner = n_heads * head_width
        self.n_heads = n_heads
        self.norm_query = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.output = nn.Linear(inner, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 8 * width)  # values and as many gates (GEGLU)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout_rate)

    def attend(self, token: Tensor, context: Tensor) -> Tensor:
        """Return what the attention adds to `token` (n, width), given (n, tokens, width)."""
        query = self._heads(self.query(self.norm_query(token)).unsqueeze(1))
        key, value = self._heads(self.key(context)), self._heads(self.value(context))
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.output(attended.flatten(1))  # one query: (n, heads, 1, head_width)

    def forward(self, token: Tensor, context: Tensor) -> Tensor:
        """Return the token (n, width) after the layer."""
        token = token + self.dropout(self.attend(token, context))
        value, gate = self.widen(self.norm_feedforward(token)).chunk(2, dim=-1)
        return token + self.narrow(self.dropout(value * F.gelu(gate)))

    def _heads(self, tokens: Tensor) -> Tensor:
        """Return (n, heads, tokens, head_width)."""
        return tokens.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
