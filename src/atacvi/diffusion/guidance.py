"""Classifier-free guidance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atacvi.diffusion._checks import check_range


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Combine predictions with and without the condition (Ho and Salimans, arXiv 2207.12598).

    ``unconditional + scale * (conditional - unconditional)``. x0, eps, v and a velocity are affine
    in each other at a given x_t, so guidance means the same in every parameterisation.

    Parameters
    ----------
    conditional
        Prediction with the condition.
    unconditional
        Prediction with the null condition, same shape.
    scale
        0 gives exactly the unconditional and 1 exactly the conditional prediction; beyond 1 the
        condition is stressed at the cost of diversity. Ho and Salimans' w is ``scale - 1``.

    Returns
    -------
    Guided prediction, same shape.

    Raises
    ------
    ValueError
        If `scale` is negative or not finite.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import guide
    >>> guide(torch.tensor([1.0]), torch.tensor([0.5]), 2.0)
    tensor([1.5000])
    """
    check_range("The guidance scale", scale, 0.0, math.inf)
    if math.isinf(scale):
        msg = "The guidance scale must be finite, found inf."
        raise ValueError(msg)
    return torch.lerp(unconditional, conditional, float(scale))
