"""Reverse gradients, so that an encoder unlearns what a head learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """Return the input; multiply its gradient by ``-strength`` in the backward pass.

    Parameters
    ----------
    x
        Any tensor.
    strength
        Factor of the reversed gradient; 0 stops it.

    Returns
    -------
    The same values.

    References
    ----------
    Ganin and Lempitsky, Unsupervised domain adaptation by backpropagation, ICML 2015, equation 9.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import reverse_gradient
    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, strength=0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    return _Reverse.apply(x, strength)
