"""Counts of genes from the embedding of a cell's accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atacvi.likelihoods import negative_binomial_log_prob
from atacvi.nn import ExpressionHead

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget

# Inverse dispersion at the start: between Poisson and a single overdispersed gene
_START_INVERSE_DISPERSION = 2.0


class CrossModalDecoder(nn.Module):
    r"""Negative binomial counts of genes from an embedding of accessibility.

    .. math::

        x_{cg} \sim \mathrm{NB}(\ell_c \rho_{cg}, \theta_g), \quad
        \log \rho_c = \mathrm{log\,softmax}(b + W z_c + f(z_c)), \quad
        \log \hat\ell_c = u^\top (z_c, \log(1 + n_c)) + s^2 / 2

    with n the number of a cell's open regions. While training :math:`\ell` is the observed depth,
    so that depth does not disturb the shares; where only accessibility is known it is predicted.
    The network f starts by adding nothing.

    Parameters
    ----------
    n_latent
        Width of the embedding.
    n_genes
        Number of genes.
    n_hidden
        Width of the hidden layer.
    """

    centre: Tensor
    scale: Tensor
    library_weights: Tensor
    library_offset: Tensor

    def __init__(self, n_latent: int, n_genes: int, n_hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_latent, n_hidden)
        self.norm = nn.LayerNorm(n_hidden)
        self.head = ExpressionHead(n_latent, 0, n_hidden, n_genes)
        start = torch.full((n_genes,), _START_INVERSE_DISPERSION)
        self.log_inverse_dispersion = nn.Parameter(start.log())
        self.register_buffer("centre", torch.zeros(n_latent))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("library_weights", torch.zeros(n_latent + 1))
        self.register_buffer("library_offset", torch.zeros(()))

    def log_shares(self, cells: Tensor) -> Tensor:
        """Return the logarithm of each gene's share of the counts, shape (cells, genes)."""
        z = (cells - self.centre) / self.scale
        trunk = torch.relu(self.norm(self.hidden(z)))
        return self.head(z, z[:, :0], trunk)

    def log_library(self, cells: Tensor, n_tokens: Tensor) -> Tensor:
        """Return the logarithm of the expected total count, shape (cells, 1).

        Parameters
        ----------
        cells
            Embedding, shape (cells, n_latent).
        n_tokens
            Number of open regions of each cell, shape (cells,).
        """
        z = (cells - self.centre) / self.scale
        known = torch.cat([z, n_tokens.to(z).log1p().unsqueeze(1)], dim=1)
        return (known @ self.library_weights + self.library_offset).unsqueeze(1)

    def log_prob(self, cells: Tensor, counts: SparseTarget) -> Tensor:
        """Return the log-probability of each cell's counts at their own depth, shape (cells,)."""
        depth = counts.values.new_zeros(counts.shape[0])
        depth = depth.index_add(0, counts.rows, counts.values).clamp(min=1.0)
        log_mean = self.log_shares(cells) + depth.log().unsqueeze(1)
        return negative_binomial_log_prob(counts, log_mean, self.log_inverse_dispersion.exp())
