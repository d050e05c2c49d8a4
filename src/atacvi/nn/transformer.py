"""Post-norm transformer encoder over cells that are packed one after the other, without padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from atacvi.nn.packed_attention import PackedLayout, attend_packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atacvi.nn.low_rank import LowRankAdapter


class PackedTokens(NamedTuple):
    """Tokens of several cells, one cell after the other.

    Parameters
    ----------
    ids
        Token ids of all cells, int64, shape (tokens,).
    offsets
        Where each cell starts, and at the end the number of tokens; int64, shape (cells + 1,).

    Examples
    --------
    >>> from atacvi.nn import PackedTokens
    >>> tokens = PackedTokens.from_cells([[4, 7, 9], [], [2]])
    >>> tokens.lengths.tolist(), tokens.cell_index.tolist(), tokens.n_cells
    ([3, 0, 1], [0, 0, 0, 2], 3)
    """

    ids: Tensor
    offsets: Tensor

    @classmethod
    def from_cells(cls, cells: Sequence[Sequence[int] | Tensor]) -> PackedTokens:
        """Pack one sequence of ids a cell."""
        parts = [torch.as_tensor(cell, dtype=torch.long) for cell in cells]
        offsets = torch.zeros(len(parts) + 1, dtype=torch.long)
        offsets[1:] = torch.tensor([len(part) for part in parts], dtype=torch.long).cumsum(0)
        ids = torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)
        return cls(ids, offsets)

    @classmethod
    def from_padded(cls, ids: Tensor, pad_id: int) -> PackedTokens:
        """Pack a matrix (cells, length) of ids, leaving out the padding."""
        real = ids != pad_id
        return cls(ids[real], F.pad(real.sum(1).cumsum(0), (1, 0)))

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each cell, shape (cells,)."""
        return self.offsets.diff()

    @property
    def cell_index(self) -> Tensor:
        """Cell of each token, shape (tokens,)."""
        cells = torch.arange(self.n_cells, device=self.offsets.device)
        return cells.repeat_interleave(self.lengths, output_size=self.ids.shape[0])

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.offsets.shape[0] - 1


class PackedSelfAttention(nn.Module):
    """Multi-head self-attention within each of the packed cells.

    Parameters are named as those of :class:`torch.nn.MultiheadAttention`.

    Parameters
    ----------
    n_embed
        Width of a token.
    n_heads
        Number of heads; divides `n_embed`.
    dropout_rate
        Dropout on the attention weights in training.
    """

    # added by `nn.low_rank`; it is a module then, and its parameters are trained
    in_proj_adapter: LowRankAdapter | None

    def __init__(self, n_embed: int, n_heads: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        if n_heads < 1 or n_embed % n_heads:
            msg = f"n_embed={n_embed} must be divisible by n_heads, found n_heads={n_heads}."
            raise ValueError(msg)
        self.n_heads = n_heads
        self.dropout_rate = dropout_rate
        self.in_proj_weight = nn.Parameter(torch.empty(3 * n_embed, n_embed))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * n_embed))
        self.out_proj = nn.Linear(n_embed, n_embed)
        self.in_proj_adapter = None
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Return the attended tokens, shape (tokens, n_embed)."""
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        if self.in_proj_adapter is not None:
            projected = projected + self.in_proj_adapter(x)
        projected = projected.unflatten(-1, (3, self.n_heads, -1))
        dropout = self.dropout_rate if self.training else 0.0
        return self.out_proj(attend_packed(projected, layout, dropout).flatten(1))


class PackedTransformerLayer(nn.Module):
    """One post-norm layer: attention, then a ReLU feed-forward block, each added and normalised.

    Parameters
    ----------
    n_embed, n_heads, n_feedforward
        Widths and number of heads.
    dropout_rate
        Dropout on both branches and within the feed-forward block.
    attention_dropout_rate
        Dropout on the attention weights.
    """

    def __init__(
        self,
        n_embed: int,
        n_heads: int,
        n_feedforward: int,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = PackedSelfAttention(n_embed, n_heads, attention_dropout_rate)
        self.linear1 = nn.Linear(n_embed, n_feedforward)
        self.linear2 = nn.Linear(n_feedforward, n_embed)
        self.norm1 = nn.LayerNorm(n_embed)
        self.norm2 = nn.LayerNorm(n_embed)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Return the tokens after the layer, shape (tokens, n_embed)."""
        if not torch.is_grad_enabled() and _adds_nothing(self.self_attn.out_proj):
            x = self.norm1(x)
        else:
            x = self.norm1(x + self.dropout(self.self_attn(x, layout)))
        if not torch.is_grad_enabled() and _adds_nothing(self.linear2):
            return self.norm2(x)
        # in place: neither linear layer needs the input of the ReLU for its gradient
        hidden = F.relu(self.linear1(x), inplace=True)
        return self.norm2(x + self.dropout(self.linear2(self.dropout(hidden))))


def _adds_nothing(last: nn.Module) -> bool:
    """Whether a branch ends in a map that is still zero, as at a start: it need not be computed."""
    return not any(bool(parameter.any()) for parameter in last.parameters())


class PackedTransformer(nn.Module):
    """Transformer encoder without positions over packed cells.

    It computes what :class:`torch.nn.TransformerEncoder` computes on padded cells (post-norm, ReLU,
    biases everywhere) and takes its state dict, but no position is spent on padding and the matrix
    of attention scores is never held. A cell is a set: permuting its tokens permutes the output.

    Parameters
    ----------
    n_embed
        Width of a token.
    n_layers
        Number of layers.
    n_heads
        Number of attention heads; divides `n_embed`.
    n_feedforward
        Width of the feed-forward block.
    dropout_rate
        Dropout on the branches.
    attention_dropout_rate
        Dropout on the attention weights. Fused kernels without it are several times faster, so
        that it is off by default; in evaluation it makes no difference.
    gradient_checkpointing
        Compute each layer again in the backward pass instead of keeping its activations.

    Raises
    ------
    ValueError
        If `n_embed` is not divisible by `n_heads`.

    References
    ----------
    Vaswani et al., Attention is all you need, NeurIPS 2017, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import PackedTransformer
    >>> encoder = PackedTransformer(n_embed=16, n_layers=2, n_heads=4, n_feedforward=32)
    >>> encoder(torch.randn(7, 16), offsets=torch.tensor([0, 3, 7])).shape
    torch.Size([7, 16])
    """

    def __init__(
        self,
        n_embed: int,
        n_layers: int,
        n_heads: int,
        n_feedforward: int,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        *,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PackedTransformerLayer(
                n_embed, n_heads, n_feedforward, dropout_rate, attention_dropout_rate
            )
            for _ in range(n_layers)
        )
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, x: Tensor, offsets: Tensor) -> Tensor:
        """Encode packed tokens.

        Parameters
        ----------
        x
            Embedded tokens, shape (tokens, n_embed).
        offsets
            Where each cell starts, and at the end the number of tokens, shape (cells + 1,).

        Returns
        -------
        Contextual embeddings, shape (tokens, n_embed).
        """
        layout = PackedLayout(offsets, x.shape[0])
        if x.shape[0] == 0:
            return x
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, layout, use_reentrant=False)
            else:
                x = layer(x, layout)
        return x
