"""The spectral embedding of cells as a fixed first layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atacvi.nn.sparse_input import scale_rows_to_unit, weighted_feature_sum

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget


class SpectralMap(nn.Module):
    r"""Map of open peaks onto eigenvectors of the similarity of the training cells.

    For a cell with IDF-weighted open peaks :math:`y` of unit norm it is
    :math:`T^\top y / \sqrt{d^\top y}`: linear but for the degree (Zhang et al., SnapATAC2, Nature
    Methods 21:217, 2024). It costs one row of the table per open peak and is not learnt.

    Parameters
    ----------
    n_peaks
        Number of peaks.
    n_components
        Number of components; all zero until `set_map`.
    """

    table: Tensor
    degree_weights: Tensor
    idf: Tensor
    scale: Tensor
    input_scale: Tensor

    def __init__(self, n_peaks: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(n_peaks, n_components))
        self.register_buffer("degree_weights", torch.ones(n_peaks))
        self.register_buffer("idf", torch.ones(n_peaks))
        self.register_buffer("scale", torch.zeros(n_components))
        self.register_buffer("input_scale", torch.zeros(n_components))

    @torch.no_grad()
    def set_map(
        self,
        table: Tensor,
        degree_weights: Tensor,
        idf: Tensor,
        scale: Tensor,
        input_scale: Tensor,
    ) -> None:
        """Set the map; components beyond those of `table` stay zero.

        Parameters
        ----------
        table, degree_weights, idf
            Shapes (peaks, components), (peaks,) and (peaks,).
        scale
            Standard deviation of each component in the embedding, shape (components,).
        input_scale
            That of each component as the input of a network, shape (components,).
        """
        n = table.shape[1]
        self.table.zero_()
        self.table[:, :n].copy_(table)
        self.degree_weights.copy_(degree_weights)
        self.idf.copy_(idf)
        for buffer, value in ((self.scale, scale), (self.input_scale, input_scale)):
            buffer.zero_()
            buffer[:n].copy_(value)

    def forward(self, y: SparseTarget) -> Tensor:
        """Return the embedding of each cell, shape (cells, n_components)."""
        return self.components(y) * self.scale

    def components(self, y: SparseTarget) -> Tensor:
        """Return the components at unit variance, shape (cells, n_components)."""
        weights = scale_rows_to_unit(y, self.idf[y.cols])
        degree = torch.zeros(y.shape[0], dtype=weights.dtype, device=weights.device)
        degree = degree.index_add(0, y.rows, weights * self.degree_weights[y.cols])
        mapped = weighted_feature_sum(y, weights, self.table)
        return mapped / degree.clamp(min=1e-6).sqrt().unsqueeze(1)
