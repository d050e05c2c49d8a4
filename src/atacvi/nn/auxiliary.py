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


class AuxiliaryEncoder(nn.Module):
    """Encoder of z: the spectral map of the training cells plus what a network adds to it.

    The network's last layer starts at zero, so that z starts at the spectral embedding and leaves
    it only as far as held-out data ask for. Without the map it is a plain encoder.

    Parameters
    ----------
    n_peaks, n_latent, n_hidden, n_embed
        Numbers of peaks, of latent and hidden units, and the width of a peak's row.
    n_condition
        Width of a further view of the cell (such as an embedding of its RNA), 0 for none.
    dropout_rate
        Dropout of the network.
    spectral
        Whether there is a spectral map.
    """

    def __init__(
        self,
        n_peaks: int,
        n_latent: int,
        n_hidden: int,
        n_embed: int,
        n_condition: int = 0,
        dropout_rate: float = 0.1,
        *,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.spectral = SpectralMap(n_peaks, n_latent) if spectral else None
        self.table = nn.Parameter(torch.randn(n_peaks, n_embed) / n_embed**0.5)
        self.encoder = AtacEncoder(
            n_peaks, n_embed, n_hidden, attention="none", dropout_rate=dropout_rate
        )
        self.condition = nn.Linear(n_condition, n_hidden, bias=False) if n_condition else None
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        if spectral:
            nn.init.zeros_(self.mean.weight)
            nn.init.zeros_(self.mean.bias)
        nn.init.normal_(self.log_variance.weight, std=0.01)
        nn.init.constant_(self.log_variance.bias, -3.0)

    def forward(self, y: SparseTarget, condition: Tensor | None = None) -> Posterior:
        """Return mean and variance of z, each (cells, n_latent)."""
        hidden = self.encoder(y, self.table)
        if self.condition is not None and condition is not None:
            hidden = hidden + self.condition(condition)
        mean = self.mean(hidden)
        if self.spectral is not None:
            mean = mean + self.spectral(y)
        return Posterior(mean, self.log_variance(hidden).clamp(*_LOG_VARIANCE).exp())


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
