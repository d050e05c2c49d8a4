"""Encoder of expression that starts as principal components and learns what to add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atacvi.nn.sparse_input import weighted_feature_sum

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget

# Standardised expression beyond this is an outlier of one cell, not a direction to learn from.
_MAX_STANDARDISED = 10.0


class ResidualBlock(nn.Module):
    """A hidden layer whose output is added to its input; it starts by adding nothing.

    Parameters
    ----------
    n_input, n_hidden
        Widths.
    dropout_rate
        Dropout on the hidden layer.
    """

    def __init__(self, n_input: int, n_hidden: int, dropout_rate: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_input)
        self.hidden = nn.Linear(n_input, n_hidden)
        self.dropout = nn.Dropout(dropout_rate)
        self.output = nn.Linear(n_hidden, n_input)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input and what the block adds, shape (cells, n_input)."""
        return x + self.output(self.dropout(torch.relu(self.hidden(self.norm(x)))))


class ExpressionEncoder(nn.Module):
    """Linear map of log-normalised, standardised counts, and a residual network on it.

    Counts of a cell are scaled to the median depth, logged and standardised by statistics of the
    training cells; standardising is folded into the sum over the non-zeros. The map can start as
    the principal components of the training cells, the network starts by adding nothing.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_output
        Width of the embedding.
    n_hidden
        Width of the residual network's hidden layer.
    n_layers
        Number of its blocks; 0 leaves the linear map.
    dropout_rate
        Dropout on the hidden layers.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import SparseTarget
    >>> from atacvi.nn import ExpressionEncoder
    >>> counts = SparseTarget.from_tensor(torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    >>> ExpressionEncoder(n_genes=3, n_output=2, n_hidden=4)(counts).shape
    torch.Size([2, 2])
    """

    median_depth: Tensor
    mean: Tensor
    inverse_deviation: Tensor

    def __init__(
        self,
        n_genes: int,
        n_output: int,
        n_hidden: int = 128,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_output = n_output
        self.table = nn.Parameter(torch.randn(n_genes, n_output) / n_genes**0.5)
        blocks = [ResidualBlock(n_output, n_hidden, dropout_rate) for _ in range(n_layers)]
        self.blocks = nn.Sequential(*blocks)
        self.register_buffer("median_depth", torch.tensor(1e4))
        self.register_buffer("mean", torch.zeros(n_genes))
        self.register_buffer("inverse_deviation", torch.ones(n_genes))

    @torch.no_grad()
    def set_statistics(self, median_depth: float, mean: Tensor, deviation: Tensor) -> None:
        """Set the statistics of scaled and logged expression over the training cells."""
        self.median_depth.fill_(median_depth)
        self.mean.copy_(mean)
        self.inverse_deviation.copy_(1.0 / deviation.clamp(min=1e-2))

    def forward(self, x: SparseTarget, known: Tensor | None = None) -> Tensor:
        """Return the embedding of each cell, shape (cells, n_output).

        Parameters
        ----------
        x
            Counts of shape (cells, genes).
        known
            Genes that were measured, bool of shape (genes,); the others are taken to be at their
            mean. ``None`` means all.
        """
        depth = torch.zeros(x.shape[0], dtype=x.values.dtype, device=x.values.device)
        depth = depth.index_add(0, x.rows, x.values)
        scale = self.median_depth / depth.clamp(min=1.0)
        logged = torch.log1p(x.values * scale[x.rows])
        values = (logged * self.inverse_deviation[x.cols]).clamp(max=_MAX_STANDARDISED)
        shift = self.mean * self.inverse_deviation
        if known is not None:
            shift = shift * known
        return self.blocks(weighted_feature_sum(x, values, self.table) - shift @ self.table)


class EmbeddingEncoder(nn.Module):
    """Residual network on an embedding that is given, standardised as a whole.

    Parameters
    ----------
    n_input
        Width of the embedding; also that of the output.
    n_hidden, n_layers, dropout_rate
        As in :class:`ExpressionEncoder`.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import EmbeddingEncoder
    >>> EmbeddingEncoder(5)(torch.randn(3, 5)).shape
    torch.Size([3, 5])
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, n_input: int, n_hidden: int = 128, n_layers: int = 1, dropout_rate: float = 0.1
    ) -> None:
        super().__init__()
        self.n_output = n_input
        blocks = [ResidualBlock(n_input, n_hidden, dropout_rate) for _ in range(n_layers)]
        self.blocks = nn.Sequential(*blocks)
        self.register_buffer("centre", torch.zeros(n_input))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, scale: float) -> None:
        """Set mean and overall standard deviation of the embedding over the training cells."""
        self.centre.copy_(mean)
        self.scale.fill_(max(scale, 1e-6))

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the embedding of each cell, shape (cells, n_input)."""
        return self.blocks((x - self.centre) / self.scale)
