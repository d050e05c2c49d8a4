"""From a latent to expression and accessibility: a linear map plus a cluster-gated correction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atacvi.nn.row_gather import take_rows


class ClusterGatedTrunk(nn.Module):
    """Hidden layer of the decoders, gated by the cluster posterior (scMVP, Methods).

    Parameters
    ----------
    n_latent
        Latent dimensions.
    n_covariates
        Width of the covariates, 0 for none.
    n_hidden
        Width of the hidden layer.
    n_clusters
        Number of mixture components.
    """

    def __init__(self, n_latent: int, n_covariates: int, n_hidden: int, n_clusters: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_latent, n_hidden)
        self.covariates = nn.Linear(n_covariates, n_hidden, bias=False) if n_covariates else None
        self.norm = nn.LayerNorm(n_hidden)
        self.gate = nn.Linear(n_clusters, n_hidden)
        nn.init.constant_(self.gate.bias, 1.0)

    def forward(self, z: Tensor, covariates: Tensor, responsibilities: Tensor) -> Tensor:
        """Return the gated hidden layer, shape (cells, n_hidden)."""
        before = self.hidden(z)
        if self.covariates is not None:
            before = before + self.covariates(covariates)
        return torch.relu(self.norm(before)) * torch.sigmoid(self.gate(responsibilities))


class ExpressionHead(nn.Module):
    """Log fractions of expression: gene offset + linear map of z + covariates + correction.

    The correction of the gated trunk starts at zero: a log-linear factor model generalises best
    from few and shallow cells, and the network departs from it only as far as the data ask for.

    Parameters
    ----------
    n_latent, n_covariates, n_hidden
        Widths of the inputs.
    n_genes
        Number of genes.
    linear
        Whether to have the linear map of z.
    """

    def __init__(
        self, n_latent: int, n_covariates: int, n_hidden: int, n_genes: int, *, linear: bool = True
    ) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_genes))
        self.loadings = nn.Linear(n_latent, n_genes, bias=False) if linear else None
        self.covariates = nn.Linear(n_covariates, n_genes, bias=False) if n_covariates else None
        self.correction = nn.Linear(n_hidden, n_genes, bias=False)
        if self.loadings is not None:
            nn.init.normal_(self.loadings.weight, std=0.05)
            nn.init.zeros_(self.correction.weight)
        if self.covariates is not None:
            nn.init.zeros_(self.covariates.weight)

    def forward(self, z: Tensor, covariates: Tensor, trunk: Tensor) -> Tensor:
        """Return log fractions that sum to one over genes, shape (cells, genes)."""
        return torch.log_softmax(self.logits(z, covariates, trunk).float(), dim=-1)

    def logits(
        self, z: Tensor, covariates: Tensor, trunk: Tensor, genes: slice = slice(None)
    ) -> Tensor:
        """Return log fractions up to a constant of each cell, shape (cells, genes)."""
        logits = self._add_effects(self.offset[genes], z, trunk, genes)
        if self.covariates is not None:
            logits = logits + F.linear(covariates, self.covariates.weight[genes])
        return logits

    def effects(self, z: Tensor, trunk: Tensor) -> Tensor:
        """Return what z adds to the logits, shape (cells, genes)."""
        return self._add_effects(self.offset.new_zeros(()), z, trunk, slice(None))

    def _add_effects(self, to: Tensor, z: Tensor, trunk: Tensor, genes: slice) -> Tensor:
        to = to + F.linear(trunk, self.correction.weight[genes])
        return to if self.loadings is None else to + F.linear(z, self.loadings.weight[genes])

    def scale_effects(self, scale: float, shift: Tensor) -> None:
        """Multiply the effects of z and add to the offsets, of shape (genes,)."""
        _scale_effects(self, scale, shift)


class PeakHead(nn.Module):
    """Log-rates of peaks as products of a cell's vector and the embedding of each peak.

    The embeddings are those of the encoder: tied, so that a peak costs one row. A cell's vector is
    cheap; `log_rates` multiplies it only with the peaks asked for.

    Parameters
    ----------
    n_latent, n_covariates, n_hidden
        Widths of the inputs.
    n_embed
        Width of a peak's embedding.
    n_peaks
        Number of peaks.
    linear
        Whether to have the linear map of z.
    """

    def __init__(
        self,
        n_latent: int,
        n_covariates: int,
        n_hidden: int,
        n_embed: int,
        n_peaks: int,
        *,
        linear: bool = True,
    ) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_peaks))
        self.loadings = nn.Linear(n_latent, n_embed, bias=False) if linear else None
        self.covariates = nn.Linear(n_covariates, n_embed, bias=False) if n_covariates else None
        self.correction = nn.Linear(n_hidden, n_embed, bias=False)
        if self.loadings is not None:
            nn.init.normal_(self.loadings.weight, std=0.02)
            nn.init.zeros_(self.correction.weight)
        if self.covariates is not None:
            nn.init.zeros_(self.covariates.weight)

    def cell_vector(self, z: Tensor, covariates: Tensor, trunk: Tensor) -> Tensor:
        """Return what multiplies the embeddings, shape (cells, n_embed)."""
        vector = self.effects(z, trunk)
        if self.covariates is not None:
            vector = vector + self.covariates(covariates)
        return vector

    def effects(self, z: Tensor, trunk: Tensor) -> Tensor:
        """Return the part of the vector that z gives, shape (cells, n_embed)."""
        effects = self.correction(trunk)
        return effects if self.loadings is None else effects + self.loadings(z)

    def scale_effects(self, scale: float, shift: Tensor) -> None:
        """Multiply the effects of z and add to the offsets, of shape (peaks,)."""
        _scale_effects(self, scale, shift)

    def log_rates(self, vector: Tensor, table: Tensor, peaks: Tensor | None = None) -> Tensor:
        """Return log-rates at unit library size, shape (cells, peaks)."""
        return self.log_rates_of(vector, take_rows(table, peaks), peaks)

    def log_rates_of(self, vector: Tensor, rows: Tensor, peaks: Tensor | None = None) -> Tensor:
        """Return log-rates from the embeddings of the very peaks asked for, (cells, peaks)."""
        offset = self.offset if peaks is None else self.offset[peaks]
        return torch.addmm(offset, vector, rows.T)


@torch.no_grad()
def _scale_effects(head: ExpressionHead | PeakHead, scale: float, shift: Tensor) -> None:
    head.offset.add_(shift)
    head.correction.weight.mul_(scale)
    if head.loadings is not None:
        head.loadings.weight.mul_(scale)
