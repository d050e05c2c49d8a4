"""Conversions between what a network may predict: the data, the noise, or v.

With x_t = signal * x0 + noise_scale * eps, v = signal * eps - noise_scale * x0 (Salimans and Ho,
ICLR 2022). `signal` is the square root of alpha_bar and `noise_scale` that of ``1 - alpha_bar``:
numbers, or tensors that broadcast against x_t. They are given apart because ``1 - alpha_bar``
loses its digits in float32 near the data.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from atacvi.diffusion._checks import check_choice

Parameterization = Literal["x0", "eps", "v"]
PARAMETERIZATIONS = ("x0", "eps", "v")


def eps_to_x0(
    eps: Tensor, x_t: Tensor, signal: Tensor | float, noise_scale: Tensor | float
) -> Tensor:
    """Return the data that `eps` in `x_t` means.

    Parameters
    ----------
    eps
        Noise, as predicted, any shape.
    x_t
        Noised data, same shape.
    signal, noise_scale
        Factors of data and noise in `x_t`: numbers, or tensors that broadcast against it.

    Returns
    -------
    Same shape as `x_t`.

    References
    ----------
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import eps_to_x0
    >>> eps_to_x0(torch.tensor([1.0]), torch.tensor([1.4]), 0.6, 0.8)
    tensor([1.0000])
    """
    return (x_t - noise_scale * eps) / signal


def x0_to_eps(
    x0: Tensor, x_t: Tensor, signal: Tensor | float, noise_scale: Tensor | float
) -> Tensor:
    """Return the noise in `x_t` if the data is `x0`.

    Parameters
    ----------
    x0
        Data, as predicted, any shape.
    x_t
        Noised data, same shape.
    signal, noise_scale
        Factors of data and noise in `x_t`: numbers, or tensors that broadcast against it.

    Returns
    -------
    Same shape as `x_t`.

    References
    ----------
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import x0_to_eps
    >>> x0_to_eps(torch.tensor([1.0]), torch.tensor([1.4]), 0.6, 0.8)
    tensor([1.0000])
    """
    return (x_t - signal * x0) / noise_scale


def v_to_x0(v: Tensor, x_t: Tensor, signal: Tensor | float, noise_scale: Tensor | float) -> Tensor:
    """Return the data that `v` at `x_t` means.

    Parameters
    ----------
    v
        v, as predicted, any shape.
    x_t
        Noised data, same shape.
    signal, noise_scale
        Factors of data and noise in `x_t`: numbers, or tensors that broadcast against it.

    Returns
    -------
    Same shape as `x_t`.

    References
    ----------
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import v_to_x0
    >>> v_to_x0(torch.tensor([0.0]), torch.tensor([2.0]), 0.5, 0.75**0.5)
    tensor([1.])
    """
    return signal * x_t - noise_scale * v


def x0_to_v(x0: Tensor, x_t: Tensor, signal: Tensor | float, noise_scale: Tensor | float) -> Tensor:
    """Return v at `x_t` if the data is `x0`.

    Parameters
    ----------
    x0
        Data, as predicted, any shape.
    x_t
        Noised data, same shape.
    signal, noise_scale
        Factors of data and noise in `x_t`: numbers, or tensors that broadcast against it.

    Returns
    -------
    Same shape as `x_t`.

    References
    ----------
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import x0_to_v
    >>> x0_to_v(torch.tensor([1.0]), torch.tensor([2.0]), 0.5, 0.75**0.5)
    tensor([0.])
    """
    return (signal * x_t - x0) / noise_scale


def v_to_eps(v: Tensor, x_t: Tensor, signal: Tensor | float, noise_scale: Tensor | float) -> Tensor:
    """Return the noise in `x_t` that `v` means.

    Parameters
    ----------
    v
        v, as predicted, any shape.
    x_t
        Noised data, same shape.
    signal, noise_scale
        Factors of data and noise in `x_t`: numbers, or tensors that broadcast against it.

    Returns
    -------
    Same shape as `x_t`.

    References
    ----------
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import v_to_eps
    >>> v_to_eps(torch.tensor([0.0]), torch.tensor([2.0]), 0.75**0.5, 0.5)
    tensor([1.])
    """
    return noise_scale * x_t + signal * v


def eps_to_v(
    eps: Tensor, x_t: Tensor, signal: Tensor | float, noise_scale: Tensor | float
) -> Tensor:
    """Return v at `x_t` if the noise is `eps`.

    Parameters
    ----------
    eps
        Noise, as predicted, any shape.
    x_t
        Noised data, same shape.
    signal, noise_scale
        Factors of data and noise in `x_t`: numbers, or tensors that broadcast against it.

    Returns
    -------
    Same shape as `x_t`.

    References
    ----------
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import eps_to_v
    >>> eps_to_v(torch.tensor([1.0]), torch.tensor([2.0]), 0.75**0.5, 0.5)
    tensor([0.])
    """
    return (eps - noise_scale * x_t) / signal


def min_snr_weight(snr: Tensor, parameterization: str, gamma: float = 5.0) -> Tensor:
    """Return weights of the squared error that stop steps of little noise from taking over.

    All three give ``min(snr, gamma)`` times the squared error of x0, written for the error of what
    is predicted (Hang et al., ICCV 2023, Eq. 7 and Section 3.4).

    Parameters
    ----------
    snr
        Signal-to-noise ratio, may be infinite.
    parameterization
        ``"x0"``, ``"eps"`` or ``"v"``.
    gamma
        Ratio above which the weight stops growing.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import min_snr_weight
    >>> min_snr_weight(torch.tensor([1.0, 100.0]), "x0").tolist()
    [1.0, 5.0]
    """
    check_choice("parameterization", parameterization, PARAMETERIZATIONS)
    clipped = snr.clamp(max=gamma)
    if parameterization == "x0":
        return clipped
    return clipped / (snr if parameterization == "eps" else torch.add(snr, 1))
