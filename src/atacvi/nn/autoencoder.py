"""Autoencoder of open peaks: sparse in, factorised out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atacvi.nn.auxiliary import SpectralEncoder
from atacvi.nn.decoders import PeakHead
from atacvi.nn.encoders import AtacEncoder
from atacvi.nn.fusion import Posterior

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget
    from atacvi.nn.spectral_map import SpectralMap

# Variances outside are of no use and make gradients explode.
_LOG_VARIANCE = (-8.0, 4.0)


class PeakAutoencoder(nn.Module):
    """From counts to a latent of a few dozen dimensions, and from there to log-rates of peaks.

    With spectral components the encoder sees those, through a linear map that starts at the
    identity and a network that starts at zero; else open peaks through rows of a table that it
    shares with the decoder. The decoder is a log-linear map plus a correction that starts at zero.

    Parameters
    ----------
    n_peaks, n_latent, n_hidden, n_embed
        Numbers of peaks, of latent and hidden units, and the width of a peak's row.
    n_components
        Spectral components that the encoder sees; 0 for open peaks.
    n_covariates
        Width of the covariates that enter the decoder, 0 for none.
    dropout_rate
        Dropout of the encoder.
    unit_sphere
        Scale latents to unit length and drop their variance, as Huang et al. (ATAC-Diff, 2024).
    """

    def __init__(
        self,
        n_peaks: int,
        n_latent: int,
        n_hidden: int,
        n_embed: int,
        n_components: int = 0,
        n_covariates: int = 0,
        dropout_rate: float = 0.1,
        *,
        unit_sphere: bool = False,
    ) -> None:
        super().__init__()
        self.unit_sphere = unit_sphere
        self.table = nn.Parameter(torch.randn(n_peaks, n_embed) / n_embed**0.5)
        self.linear: nn.Linear | None = None
        self.encoder: nn.Module
        if n_components:
            self.encoder = SpectralEncoder(n_components, n_hidden, dropout_rate)
            self.linear = nn.Linear(n_components, n_latent, bias=False)
            nn.init.eye_(self.linear.weight)
        else:
            self.encoder = AtacEncoder(
                n_peaks, n_embed, n_hidden, attention="none", dropout_rate=dropout_rate
            )
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        self.trunk = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.LayerNorm(n_hidden), nn.ReLU())
        self.head = PeakHead(n_latent, n_covariates, n_hidden, n_embed, n_peaks)
        if n_components:
            nn.init.zeros_(self.mean.weight)
            nn.init.zeros_(self.mean.bias)
        nn.init.normal_(self.log_variance.weight, std=0.01)
        nn.init.constant_(self.log_variance.bias, -1.0)

    def encode(
        self,
        y: SparseTarget,
        spectral: SpectralMap | None = None,
        components: Tensor | None = None,
    ) -> Posterior:
        """Return mean and variance of the latent of each cell, each (cells, n_latent).

        Parameters
        ----------
        y
            Counts, shape (cells, peaks).
        spectral
            The map, for an encoder of spectral components.
        components
            Spectral components of `y`, where they are at hand; else they are computed.
        """
        if self.linear is not None and spectral is not None:
            components = spectral.components(y) if components is None else components
            hidden = self.encoder(components, spectral.input_scale)
            mean = self.linear(components) + self.mean(hidden)
        else:
            hidden = self.encoder(y, self.table)
            mean = self.mean(hidden)
        if self.unit_sphere:
            mean = nn.functional.normalize(mean, dim=-1)
            return Posterior(mean, torch.full_like(mean, 1e-8))
        return Posterior(mean, self.log_variance(hidden).clamp(*_LOG_VARIANCE).exp())

    def decode(self, latent: Tensor, covariates: Tensor) -> Tensor:
        """Return the vector whose product with the table gives log-rates, (cells, n_embed)."""
        return self.head.cell_vector(latent, covariates, self.trunk(latent))
