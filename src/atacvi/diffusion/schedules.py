"""Noise schedules of a discrete diffusion and what follows from them, in float64.

Index t counts from 0: ``betas[t]`` is the variance that step t adds, ``alpha_bar[t]`` the share of
the data's variance that is left after it (Ho et al., NeurIPS 2020).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from atacvi.diffusion._checks import check_count

# Below this the last beta of the linear schedule, 20 / n_steps, reaches 1.
_MIN_LINEAR_STEPS = 21
_MAX_BETA = 0.999
# Keeps the first beta of the cosine schedule from being tiny.
_COSINE_OFFSET = 0.008


class PosteriorCoefficients(NamedTuple):
    """q(x_{t-1} | x_t, x_0) = N(x0 * x_0 + x_t * x_t, variance), one entry a step.

    Parameters
    ----------
    x0
        Factor of x_0, shape (steps,).
    x_t
        Factor of x_t, shape (steps,).
    variance
        Variance, shape (steps,); 0 at the step that ends at the data.

    Examples
    --------
    >>> from atacvi.diffusion import linear_schedule, posterior_coefficients
    >>> first = [part[0].item() for part in posterior_coefficients(linear_schedule(1000))]
    >>> first  # the last step backwards returns x_0
    [1.0, 0.0, 0.0]
    """

    x0: Tensor
    x_t: Tensor
    variance: Tensor


def linear_schedule(n_steps: int = 1000) -> Tensor:
    """Return betas that grow linearly from 0.1 / n_steps to 20 / n_steps (Ho et al., 2020).

    Parameters
    ----------
    n_steps
        Number of steps; with 1,000 the betas go from 1e-4 to 0.02.

    Returns
    -------
    float64, shape (n_steps,).

    Raises
    ------
    ValueError
        If there are fewer than 21 steps, when the last beta would reach 1.

    Examples
    --------
    >>> from atacvi.diffusion import alphas_cumprod, linear_schedule
    >>> round(alphas_cumprod(linear_schedule(1000))[499].item(), 6)
    0.078587
    """
    if check_count("n_steps", n_steps) < _MIN_LINEAR_STEPS:
        msg = (
            f"The linear schedule needs n_steps of at least {_MIN_LINEAR_STEPS}, found {n_steps}; "
            "the cosine schedule takes any number."
        )
        raise ValueError(msg)
    return torch.linspace(0.1 / n_steps, 20.0 / n_steps, n_steps, dtype=torch.float64)


def cosine_schedule(n_steps: int = 1000) -> Tensor:
    """Return the betas whose alpha_bar falls as a squared cosine (Nichol and Dhariwal, 2021).

    Parameters
    ----------
    n_steps
        Number of steps.

    Returns
    -------
    float64, shape (n_steps,), at most 0.999.

    Examples
    --------
    >>> from atacvi.diffusion import alphas_cumprod, cosine_schedule
    >>> round(alphas_cumprod(cosine_schedule(1000))[499].item(), 6)
    0.493844
    """
    check_count("n_steps", n_steps)
    time = torch.arange(n_steps + 1, dtype=torch.float64) / n_steps
    angle = (time + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * (math.pi / 2)
    alpha_bar = angle.cos().square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=_MAX_BETA)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """Return alpha_bar, the products of ``1 - betas`` up to each step, shape (steps,).

    Parameters
    ----------
    betas
        Variances of the noise that each step adds, within 0 and 1, shape (steps,).

    References
    ----------
    Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import alphas_cumprod
    >>> alphas_cumprod(torch.tensor([0.5, 0.5]))
    tensor([0.5000, 0.2500])
    """
    return (1 - betas).cumprod(0)


def betas_of(alpha_bar: Tensor) -> Tensor:
    """Return the betas whose products are `alpha_bar`, shape (steps,).

    With `alpha_bar` of some steps only, these are the betas of the respaced process.

    Parameters
    ----------
    alpha_bar
        Share of the variance of the data that is left at each step, falling, shape (steps,).

    References
    ----------
    Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import betas_of
    >>> betas_of(torch.tensor([0.5, 0.25]))
    tensor([0.5000, 0.5000])
    """
    return 1 - alpha_bar / _previous(alpha_bar)


def posterior_coefficients(betas: Tensor) -> PosteriorCoefficients:
    """Return mean and variance of x_{t-1} given x_t and x_0 (Ho et al., 2020, Eq. 6-7).

    Parameters
    ----------
    betas
        Shape (steps,).

    Examples
    --------
    >>> from atacvi.diffusion import linear_schedule, posterior_coefficients
    >>> f"{posterior_coefficients(linear_schedule(1000)).variance[1].item():.6e}"
    '5.453188e-05'
    """
    alpha_bar = alphas_cumprod(betas)
    previous = _previous(alpha_bar)
    left = 1 - previous  # noise before the step; exactly 0 at the first
    return PosteriorCoefficients(
        # 1 - alpha_bar[0] may differ from betas[0] in the last digit, and the ratio must be 1
        x0=torch.where(left == 0, 1.0, betas * previous.sqrt() / (1 - alpha_bar)),
        x_t=left * (1 - betas).sqrt() / (1 - alpha_bar),
        variance=left * betas / (1 - alpha_bar),
    )


def signal_to_noise(alpha_bar: Tensor) -> Tensor:
    """Return ``alpha_bar / (1 - alpha_bar)``, for data of unit variance, same shape.

    Parameters
    ----------
    alpha_bar
        Share of the variance of the data that is left, within 0 and 1, any shape.

    References
    ----------
    Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import signal_to_noise
    >>> signal_to_noise(torch.tensor([0.5, 0.75]))
    tensor([1., 3.])
    """
    return alpha_bar / (1 - alpha_bar)


def terminal_kl(alpha_bar: float, second_moment: float = 1.0) -> float:
    """Return the mean KL(q(x_T | x_0) || N(0, 1)) of one dimension, in nats.

    It says how far the end of the process is from the noise that sampling starts with.

    Parameters
    ----------
    alpha_bar
        Share of the data's variance left at the last step.
    second_moment
        Mean square of the data in that dimension.

    Examples
    --------
    >>> from atacvi.diffusion import alphas_cumprod, linear_schedule, terminal_kl
    >>> f"{terminal_kl(alphas_cumprod(linear_schedule(1000))[-1].item()):.3e}"
    '2.018e-05'
    """
    return 0.5 * (alpha_bar * (second_moment - 1) - math.log1p(-alpha_bar))


def _previous(alpha_bar: Tensor) -> Tensor:
    """Return alpha_bar one step nearer to the data; 1 before the first."""
    return torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
