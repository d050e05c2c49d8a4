"""Bernoulli likelihood of binary accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro.distributions as pyro_distributions
import torch
from torch import Tensor

from atacvi.likelihoods._sparse import SparseTarget, sparse_log_prob
from atacvi.likelihoods._special import MAX_LOGIT, exp_

if TYPE_CHECKING:
    from torch.distributions import Distribution


class Bernoulli(pyro_distributions.Bernoulli):
    r"""Bernoulli distribution given by logits.

    .. math:: \log p(x) = x \ell - \log(1 + e^{\ell})

    Parameters
    ----------
    logits
        Log-odds of an open region, any shape.
    validate_args
        Whether to check the logits and that values are 0 or 1; ``None`` means no.

    Raises
    ------
    ValueError
        With ``validate_args=True``, for logits that are not numbers or values other than 0, 1.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import Bernoulli
    >>> round(Bernoulli(torch.tensor(0.0)).log_prob(torch.tensor(1.0)).item(), 4)
    -0.6931
    """

    def __init__(self, logits: Tensor | float, validate_args: bool | None = None) -> None:
        super().__init__(logits=torch.as_tensor(logits), validate_args=bool(validate_args))

    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: Distribution | None = None
    ) -> Bernoulli:
        """Return the same distribution with its logits expanded to `batch_shape`."""
        new = type(self).__new__(type(self)) if _instance is None else _instance
        return super().expand(batch_shape, _instance=new)


class _BernoulliKernel:
    """`Kernel` of the Bernoulli likelihood in the logits."""

    def prepare(self, b: Tensor) -> tuple[Tensor, ...]:
        return ()

    def zero(self, a: Tensor, prepared: tuple[Tensor, ...], out: Tensor) -> None:
        exp_(torch.clamp(a, max=MAX_LOGIT, out=out)).log1p_().neg_()

    def zero_grad(
        self, a: Tensor, prepared: tuple[Tensor, ...], grad_a: Tensor, grad_b: Tensor, need_b: bool
    ) -> None:
        torch.sigmoid(a, out=grad_a).neg_()

    def correction(self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        return y * a.clamp(max=MAX_LOGIT)

    def correction_grad(
        self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...], need_b: bool
    ) -> tuple[Tensor, Tensor | None]:
        return y, None


_KERNEL = _BernoulliKernel()


def bernoulli_log_prob(
    target: SparseTarget, logits: Tensor, feature_weight: float | Tensor = 1.0
) -> Tensor:
    """Return the Bernoulli log-probability of each cell, summed over features.

    Equal to ``Bernoulli(logits).log_prob(dense).sum(-1)``. The target should hold ones; other
    values weigh the logit as in a binary cross-entropy with soft labels.

    Parameters
    ----------
    target
        Open regions of each cell, shape (cells, features).
    logits
        Log-odds of an open region, broadcastable to (cells, features).
    feature_weight
        Weight of each feature in the sum. With a sampled subset of the features, their number
        over that of the sample makes the sum an unbiased estimate of the full one.

    Returns
    -------
    Tensor of shape (cells,), in nats.

    Raises
    ------
    ValueError
        If a shape does not broadcast to that of the target.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import SparseTarget, bernoulli_log_prob
    >>> target = SparseTarget.from_tensor(torch.tensor([[0.0, 1.0]]))
    >>> round(bernoulli_log_prob(target, torch.zeros(1, 2)).item(), 4)
    -1.3863
    """
    return sparse_log_prob(_KERNEL, target, logits, None, feature_weight)
