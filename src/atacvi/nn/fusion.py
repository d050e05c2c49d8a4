"""From the hidden vectors of two modalities to one Gaussian posterior, also when one is missing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Keeps a posterior from becoming a point, which would make its divergence infinite.
_MIN_VARIANCE = 1e-4


class Posterior(NamedTuple):
    """A diagonal Gaussian of each cell.

    Parameters
    ----------
    mean
        Shape (cells, n_latent).
    variance
        Shape (cells, n_latent); not its logarithm.
    """

    mean: Tensor
    variance: Tensor


class _GaussianHead(nn.Module):
    """Linear maps from a hidden layer to a Gaussian's mean and variance."""

    def __init__(self, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(n_hidden, n_latent)
        self.spread = nn.Linear(n_hidden, n_latent)

    def forward(self, hidden: Tensor) -> Posterior:
        return Posterior(self.mean(hidden), F.softplus(self.spread(hidden)) + _MIN_VARIANCE)


class ExpertFusion(nn.Module):
    """Product of one Gaussian expert per modality and N(0, I).

    Each modality says where the cell lies and how sure it is; the joint mean is weighted by
    precision, so that a shallow modality counts for little and a missing one for nothing
    (product of experts: Wu and Goodman, NeurIPS 2018).

    Parameters
    ----------
    n_hidden
        Width of the hidden vectors.
    n_latent
        Latent dimensions.
    """

    def __init__(self, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.rna = _GaussianHead(n_hidden, n_latent)
        self.atac = _GaussianHead(n_hidden, n_latent)

    def forward(self, rna: Tensor, atac: Tensor, has_rna: Tensor, has_atac: Tensor) -> Posterior:
        """Fuse two hidden vectors (cells, n_hidden); masks are of shape (cells, 1)."""
        precision: Tensor | float = 1.0
        weighted: Tensor | float = 0.0
        for head, hidden, has in ((self.rna, rna, has_rna), (self.atac, atac, has_atac)):
            # The head's spread is read as a precision: zero means "no opinion".
            mean, expert_precision = head(hidden)
            expert_precision = expert_precision * has
            precision = precision + expert_precision
            weighted = weighted + expert_precision * mean
        return Posterior(weighted / precision, 1.0 / precision)  # type: ignore[arg-type]


class ConcatFusion(nn.Module):
    """Linear layer over both hidden vectors, and a head of its own per single modality (scMVP).

    Parameters
    ----------
    n_hidden
        Width of the hidden vectors.
    n_latent
        Latent dimensions.
    """

    def __init__(self, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.shared = nn.Linear(2 * n_hidden, 2 * n_hidden)
        self.norm = nn.LayerNorm(2 * n_hidden)
        self.joint = _GaussianHead(2 * n_hidden, n_latent)
        self.rna = _GaussianHead(n_hidden, n_latent)
        self.atac = _GaussianHead(n_hidden, n_latent)

    def forward(self, rna: Tensor, atac: Tensor, has_rna: Tensor, has_atac: Tensor) -> Posterior:
        """Fuse two hidden vectors (cells, n_hidden); masks are of shape (cells, 1)."""
        both = self.joint(self.norm(self.shared(torch.cat([rna, atac], dim=1))))
        only_rna, only_atac = self.rna(rna), self.atac(atac)
        mean = torch.where(has_atac, only_atac.mean, 0.0)
        variance = torch.where(has_atac, only_atac.variance, 1.0)
        mean = torch.where(has_rna, only_rna.mean, mean)
        variance = torch.where(has_rna, only_rna.variance, variance)
        paired = has_rna & has_atac
        return Posterior(
            torch.where(paired, both.mean, mean), torch.where(paired, both.variance, variance)
        )
