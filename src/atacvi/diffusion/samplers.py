"""Ways from noise back to data, given a function that denoises or gives a velocity.

Samplers of a diffusion take ``denoise(x, step)``: the data predicted from `x` at one of the kept
noise levels, whose alpha_bar stand in `alpha_bar`, from little to much noise. They go through the
levels from the last to the first and end at the data. Coefficients are computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atacvi.diffusion._checks import check_choice, check_range
from atacvi.diffusion.noise import Generators, draw_noise
from atacvi.diffusion.parameterization import x0_to_eps
from atacvi.diffusion.schedules import betas_of, posterior_coefficients

Denoise = Callable[[Tensor, int], Tensor]
Velocity = Callable[[Tensor, float], Tensor]
VARIANCES = ("fixed_small", "fixed_large")


def ddpm_sample(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: Tensor,
    *,
    variance: str = "fixed_small",
    generator: Generators = None,
) -> Tensor:
    """Sample the ancestral chain (Ho et al., NeurIPS 2020, Algorithm 2).

    Parameters
    ----------
    denoise
        Gives the data predicted from x (n, d) at a step.
    x
        Noise at the last kept level, shape (n, d).
    alpha_bar
        Of the kept levels, float64, falling, shape (steps,).
    variance
        ``"fixed_small"``: that of the posterior given the data, exact for data in one point;
        ``"fixed_large"``: beta, exact for standard normal data.
    generator
        Generator of the noise, or one a cell.

    Returns
    -------
    Data, shape (n, d).

    Raises
    ------
    ValueError
        If `variance` is unknown.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import alphas_cumprod, ddpm_sample, linear_schedule
    >>> alpha_bar = alphas_cumprod(linear_schedule(100))
    >>> ddpm_sample(lambda x, step: torch.full_like(x, 3.0), torch.zeros(1, 2), alpha_bar)
    tensor([[3., 3.]])
    """
    check_choice("variance", variance, VARIANCES)
    betas = betas_of(alpha_bar)
    from_x0, from_x, small = (part.tolist() for part in posterior_coefficients(betas))
    variances = small if variance == "fixed_small" else betas.tolist()
    for step in reversed(range(len(alpha_bar))):
        x = from_x0[step] * denoise(x, step) + from_x[step] * x
        if step > 0:  # the last step returns its mean
            x = x + math.sqrt(variances[step]) * _noise_like(x, generator)
    return x


def ddim_sample(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: Tensor,
    *,
    eta: float = 0.0,
    generator: Generators = None,
) -> Tensor:
    """Sample the implicit model (Song et al., ICLR 2021, Eq. 12 and 16).

    Parameters
    ----------
    denoise
        Gives the data predicted from x (n, d) at a step.
    x
        Noise at the last kept level, shape (n, d).
    alpha_bar
        Of the kept levels, float64, falling, shape (steps,).
    eta
        0 adds no noise on the way; 1 adds as much as the ancestral chain of small variance.
    generator
        Generator of the noise, or one a cell; not used when `eta` is 0.

    Returns
    -------
    Data, shape (n, d).

    Raises
    ------
    ValueError
        If `eta` is outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import alphas_cumprod, ddim_sample, linear_schedule, respace
    >>> alpha_bar = alphas_cumprod(linear_schedule(1000))[respace(1000, 5)]
    >>> ddim_sample(lambda x, step: torch.full_like(x, 3.0), torch.zeros(1, 2), alpha_bar)
    tensor([[3., 3.]])
    """
    check_range("eta", eta, 0.0, 1.0)
    small = posterior_coefficients(betas_of(alpha_bar)).variance.tolist()
    levels = alpha_bar.tolist()
    for step in reversed(range(len(levels))):
        here = levels[step]
        there = levels[step - 1] if step > 0 else 1.0
        added = eta**2 * small[step]
        x0 = denoise(x, step)
        eps = x0_to_eps(x0, x, math.sqrt(here), math.sqrt(1 - here))
        # with eta = 1 the difference can round below 0
        x = math.sqrt(there) * x0 + math.sqrt(max(1 - there - added, 0.0)) * eps
        if added > 0:
            x = x + math.sqrt(added) * _noise_like(x, generator)
    return x


def dpm_solver_sample(denoise: Denoise, x: Tensor, alpha_bar: Tensor) -> Tensor:
    """Solve the probability flow by DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, Algorithm 2).

    A multistep method of second order in half the log signal-to-noise ratio: one evaluation a
    step, no noise on the way. The first step and the last, which ends at the data where the ratio
    is infinite, are of first order.

    Parameters
    ----------
    denoise
        Gives the data predicted from x (n, d) at a step.
    x
        Noise at the last kept level, shape (n, d).
    alpha_bar
        Of the kept levels, float64, falling, shape (steps,).

    Returns
    -------
    Data, shape (n, d).

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import alphas_cumprod, dpm_solver_sample, linear_schedule
    >>> alpha_bar = alphas_cumprod(linear_schedule(1000))[::100]
    >>> dpm_solver_sample(lambda x, step: torch.full_like(x, 3.0), torch.zeros(1, 2), alpha_bar)
    tensor([[3., 3.]])
    """
    signal = alpha_bar.sqrt().tolist()
    noise_scale = (1 - alpha_bar).sqrt().tolist()
    half_log_snr = (0.5 * (alpha_bar.log() - torch.log1p(-alpha_bar))).tolist()
    before: Tensor | None = None
    for step in reversed(range(1, len(signal))):
        x0 = denoise(x, step)
        width = half_log_snr[step - 1] - half_log_snr[step]
        slope = x0
        if before is not None:
            # extrapolate the prediction to the middle of the step
            half_ratio = 0.5 * width / (half_log_snr[step] - half_log_snr[step + 1])
            slope = (1 + half_ratio) * x0 - half_ratio * before
        kept = noise_scale[step - 1] / noise_scale[step]
        x = kept * x - signal[step - 1] * math.expm1(-width) * slope
        before = x0
    return denoise(x, 0)


def euler_sample(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Follow a velocity by Euler's method.

    Parameters
    ----------
    velocity
        Gives the velocity towards the data at x (n, d) and a time.
    x
        Start at the first of `times`, shape (n, d).
    times
        Falling; the first is that of `x`, the last that of the result.

    Returns
    -------
    Shape (n, d).

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import euler_sample
    >>> euler_sample(lambda x, time: (3.0 - x) / time, torch.zeros(1, 2), [1.0, 0.0])
    tensor([[3., 3.]])
    """
    for time, after in zip(times[:-1], times[1:], strict=True):
        x = x + (time - after) * velocity(x, time)
    return x


def heun_sample(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Follow a velocity by Heun's method: second order, two evaluations a step.

    Parameters
    ----------
    velocity
        Gives the velocity towards the data at x (n, d) and a time; must be finite at time 0.
    x
        Start at the first of `times`, shape (n, d).
    times
        Falling; the first is that of `x`, the last that of the result.

    Returns
    -------
    Shape (n, d).

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import heun_sample
    >>> heun_sample(lambda x, time: torch.full_like(x, 2.0), torch.zeros(1, 2), [1.0, 0.5, 0.0])
    tensor([[2., 2.]])
    """
    for time, after in zip(times[:-1], times[1:], strict=True):
        here = velocity(x, time)
        there = velocity(x + (time - after) * here, after)
        x = x + 0.5 * (time - after) * (here + there)
    return x


def _noise_like(x: Tensor, generator: Generators) -> Tensor:
    return draw_noise(x.shape, generator, dtype=x.dtype, device=x.device)
