"""Likelihood of open and closed regions by the rate of the events that open them."""

from __future__ import annotations

import torch
from torch import Tensor

from atacvi.likelihoods._sparse import SparseTarget, sparse_log_prob
from atacvi.likelihoods._special import MIN_LOG_RATE
from atacvi.likelihoods.poisson import PoissonKernel

# exp(4) = 55 events: such a region is closed in one cell of 1e23, and one that is closed all the
# same must not outweigh all others.
_MAX_LOG_RATE = 4.0


class _OpenKernel(PoissonKernel):
    """`Kernel` of open or closed in the log-rate: closed is no event, as in `PoissonKernel`."""

    max_log_rate = _MAX_LOG_RATE

    def correction(self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        # log(exp(r) - 1) = r + log r + log((1 - exp(-r)) / r), whose last term does not cancel
        a = a.clamp(MIN_LOG_RATE, _MAX_LOG_RATE)
        rate = a.exp()
        return y * (rate + a + (-torch.expm1(-rate) / rate).log())

    def correction_grad(
        self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...], need_b: bool
    ) -> tuple[Tensor, Tensor | None]:
        rate = a.clamp(MIN_LOG_RATE, _MAX_LOG_RATE).exp()
        return y * rate / -torch.expm1(-rate), None


_KERNEL = _OpenKernel()


def open_log_prob(
    target: SparseTarget, log_rate: Tensor, feature_weight: float | Tensor = 1.0
) -> Tensor:
    r"""Return the log-probability of each cell's open and closed regions, summed over regions.

    A region is open if at least one event of a Poisson process of its rate :math:`r` falls there
    (the complementary log-log link), so that depth acts on the rate as it does on counts:

    .. math:: \log p(x) = x \log(e^r - 1) - r

    Equal to ``Bernoulli(log_rate.exp().expm1().log()).log_prob(dense).sum(-1)``, with one
    exponential for each closed region. Above a log-rate of 4 the value is held and the gradient
    keeps pointing back, so that a step may recover.

    Parameters
    ----------
    target
        Open regions of each cell as ones, shape (cells, features).
    log_rate
        Natural logarithm of the expected number of events, broadcastable to (cells, features).
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
    >>> from atacvi.likelihoods import SparseTarget, open_log_prob
    >>> target = SparseTarget.from_tensor(torch.tensor([[0.0, 1.0]]))
    >>> round(open_log_prob(target, torch.zeros(1, 2)).item(), 4)  # -1 + log(1 - 1/e)
    -1.4587
    """
    return sparse_log_prob(_KERNEL, target, log_rate, None, feature_weight)
