"""Linear components of a cell's open regions, and a residual network on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atacvi.nn.expression_encoder import ResidualBlock


class RegionComponents(nn.Module):
    r"""Map of weighted open regions of unit norm onto few directions, and what a network adds.

    .. math::

        y_c = \frac{1}{n_c} \sum_{t \in T_c} w_t\, \tau_t, \qquad
        n_c = \Big(\sum_{t \in T_c} w_t^2\Big)^{1/2}, \qquad
        e_c = h\big((y_c - m) / s\big)

    Dividing by :math:`n_c` leaves noise of the same size in deep and in shallow cells, where a mean
    over tokens would leave more in shallow ones. Map, centre m and scale s are set from data and not
    learnt; the residual network h starts by adding nothing. A cell without regions lies at m.

    Parameters
    ----------
    n_rows
        Rows of the table: regions, and maybe special tokens, which weigh nothing.
    n_components
        Number of components; all zero until `set_map`.
    n_hidden, n_layers, dropout_rate
        As in :class:`ExpressionEncoder`.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import RegionComponents
    >>> components = RegionComponents(n_rows=3, n_components=2)
    >>> components.set_map(torch.eye(3, 2), torch.tensor([3.0, 4.0, 0.0]))
    >>> components(torch.tensor([0, 1, 1]), torch.tensor([0, 2, 3])).detach()
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])
    """

    table: Tensor
    weights: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        n_rows: int,
        n_components: int,
        n_hidden: int = 128,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_output = n_components
        self.register_buffer("table", torch.zeros(n_rows, n_components))
        self.register_buffer("weights", torch.zeros(n_rows))
        self.register_buffer("centre", torch.zeros(n_components))
        self.register_buffer("scale", torch.ones(()))
        blocks = [ResidualBlock(n_components, n_hidden, dropout_rate) for _ in range(n_layers)]
        self.blocks = nn.Sequential(*blocks)

    @torch.no_grad()
    def set_map(
        self,
        table: Tensor,
        weights: Tensor,
        centre: Tensor | None = None,
        scale: float = 1.0,
    ) -> None:
        """Set the map; rows and components beyond those given stay zero.

        Parameters
        ----------
        table, weights
            Shapes (regions, components) and (regions,).
        centre, scale
            Mean of the components over the training cells, and their overall standard deviation.
        """
        n_rows, n_found = table.shape
        for buffer in (self.table, self.weights, self.centre):
            buffer.zero_()
        self.table[:n_rows, :n_found].copy_(table)
        self.weights[:n_rows].copy_(weights)
        if centre is not None:
            self.centre[:n_found].copy_(centre)
        self.scale.fill_(max(scale, 1e-12))

    def components(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return the components, centred and scaled, shape (cells, n_components).

        Parameters
        ----------
        rows
            Row of each open region, int64, shape (tokens,).
        offsets
            Where each cell starts, and at the end the number of tokens, shape (cells + 1,).
        """
        n_cells = offsets.shape[0] - 1
        weights = self.weights[rows]
        cells = torch.arange(n_cells, device=offsets.device)
        cells = cells.repeat_interleave(offsets.diff(), output_size=rows.shape[0])
        square = weights.new_zeros(n_cells).index_add(0, cells, weights.square())
        summed = F.embedding_bag(
            rows, self.table, offsets[:-1], mode="sum", per_sample_weights=weights
        )
        found = summed * square.clamp(min=1e-16).rsqrt().unsqueeze(1)
        found = (found - self.centre) / self.scale
        return found * (square > 0).unsqueeze(1)

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return the embedding of each cell, shape (cells, n_components)."""
        return self.blocks(self.components(rows, offsets))
