"""The auxiliary branch of the diffusion model: from open peaks to z and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atacvi.nn.encoders import AtacEncoder
from atacvi.nn.fusion import Posterior
from atacvi.nn.spectral_map import SpectralMap

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget

_LOG_VARIANCE = (-8.0, 2.0)


class SpectralEncoder(nn.Module):
    """Hidden layer of a cell from its spectral components, of which none is learnt.

    Parameters
    ----------
    n_components
        Number of components.
    n_hidden
        Width.
    dropout_rate
        Dropout.
    """

    def __init__(self, n_components: int, n_hidden: int, dropout_rate: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_components, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
        )

    def forward(self, components: Tensor, scale: Tensor) -> Tensor:
        """Return the hidden layer of components of unit variance, (cells, n_hidden)."""
        return self.layers(components * scale)


class AuxiliaryEncoder(nn.Module):
    """Encoder of z: the spectral embedding of the cells plus what a network adds to it.

    The network sees the spectral components, and its last layer starts at zero: z starts at the
    embedding and leaves it only as far as held-out data ask for. Without the map it is a plain
    encoder of open peaks.

    Parameters
    ----------
    n_peaks, n_latent, n_hidden, n_embed
        Numbers of peaks, of latent and hidden units, and the width of a peak's row.
    n_components
        Spectral components; 0 for the plain encoder.
    n_condition
        Width of a further view of the cell (such as an embedding of its RNA), 0 for none.
    dropout_rate
        Dropout of the network.
    """

    def __init__(
        self,
        n_peaks: int,
        n_latent: int,
        n_hidden: int,
        n_embed: int,
        n_components: int = 0,
        n_condition: int = 0,
        dropout_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.spectral = SpectralMap(n_peaks, n_components) if n_components else None
        self.table: nn.Parameter | None = None
        self.encoder: nn.Module
        if n_components:
            self.encoder = SpectralEncoder(n_components, n_hidden, dropout_rate)
        else:
            self.table = nn.Parameter(torch.randn(n_peaks, n_embed) / n_embed**0.5)
            self.encoder = AtacEncoder(
                n_peaks, n_embed, n_hidden, attention="none", dropout_rate=dropout_rate
            )
        self.condition = nn.Linear(n_condition, n_hidden, bias=False) if n_condition else None
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        if n_components:
            nn.init.zeros_(self.mean.weight)
            nn.init.zeros_(self.mean.bias)
        nn.init.normal_(self.log_variance.weight, std=0.01)
        nn.init.constant_(self.log_variance.bias, -3.0)

    def forward(
        self,
        y: SparseTarget,
        condition: Tensor | None = None,
        components: Tensor | None = None,
    ) -> Posterior:
        """Return mean and variance of z, each (cells, n_latent).

        Parameters
        ----------
        y
            Counts, shape (cells, peaks).
        condition
            The further view of the cells.
        components
            Spectral components of `y`, where they are at hand; else they are computed.
        """
        start: Tensor | float = 0.0
        if self.spectral is not None:
            components = self.spectral.components(y) if components is None else components
            start = (components * self.spectral.scale)[:, : self.n_latent]
            start = nn.functional.pad(start, (0, self.n_latent - start.shape[1]))
            hidden = self.encoder(components, self.spectral.input_scale)
        else:
            hidden = self.encoder(y, self.table)
        if self.condition is not None and condition is not None:
            hidden = hidden + self.condition(condition)
        variance = self.log_variance(hidden).clamp(*_LOG_VARIANCE).exp()
        return Posterior(start + self.mean(hidden), variance)


class AuxiliaryDecoder(nn.Module):
    """Log-linear decoder of z: an offset and a loading vector for each peak.

    Parameters
    ----------
    n_peaks, n_latent
        Numbers of peaks and of latent dimensions.
    n_covariates
        Width of the covariates, 0 for none.
    """

    def __init__(self, n_peaks: int, n_latent: int, n_covariates: int = 0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_peaks))
        self.loadings = nn.Parameter(0.01 * torch.randn(n_peaks, n_latent))
        self.covariates = nn.Linear(n_covariates, n_latent, bias=False) if n_covariates else None
        if self.covariates is not None:
            nn.init.zeros_(self.covariates.weight)

    def cell_vector(self, z: Tensor, covariates: Tensor) -> Tensor:
        """Return the vector whose product with the loadings gives log-rates, (cells, n_latent)."""
        return z if self.covariates is None else z + self.covariates(covariates)
