"""The standard normal prior, with the interface of the mixture."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class PriorKL(NamedTuple):
    """Divergence of a cell's posterior from the prior, in nats, in its two parts.

    Parameters
    ----------
    z
        Part of the continuous latent, shape (cells,).
    c
        Part of the cluster, shape (cells,).

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import PriorKL
    >>> PriorKL(z=torch.tensor([1.0]), c=torch.tensor([0.5])).total.tolist()
    [1.5]
    """

    z: Tensor
    c: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of both parts, shape (cells,)."""
        return self.z + self.c


class StandardNormalPrior(nn.Module):
    """N(0, I) over the latent space.

    Parameters
    ----------
    n_latent
        Number of latent dimensions.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import StandardNormalPrior
    >>> prior = StandardNormalPrior(3)
    >>> prior.kl(torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[0.5, 1.0, 2.0]])).z.tolist()
    [2.875]
    """

    n_components = 1

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of `z` (..., n_latent), shape (...)."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def kl(
        self, q_mean: Tensor, q_var: Tensor, log_responsibilities: Tensor | None = None
    ) -> PriorKL:
        """Return KL(N(q_mean, q_var) || N(0, I)); the cluster part is zero.

        Parameters
        ----------
        q_mean
            Posterior mean, shape (..., n_latent).
        q_var
            Posterior variance (not its logarithm), shape (..., n_latent).
        log_responsibilities
            Ignored: there is one component.
        """
        divergence = 0.5 * (q_var - q_var.log() + q_mean.square() - 1).sum(-1)
        return PriorKL(z=divergence, c=torch.zeros_like(divergence))

    def log_responsibilities(self, z: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return zeros of shape (..., 1): the one component takes every cell."""
        return z.new_zeros((*z.shape[:-1], 1))

    def responsibilities(self, z: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return ones of shape (..., 1): the one component takes every cell."""
        return z.new_ones((*z.shape[:-1], 1))

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw `n` latents, shape (n, n_latent).

        The module holds no parameter that would tell its device: the draw is on that of the
        generator unless `device` says otherwise.
        """
        if device is None and generator is not None:
            device = generator.device
        return torch.randn(n, self.n_latent, generator=generator, device=device)
