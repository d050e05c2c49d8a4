"""Poisson likelihood of counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from atacvi.likelihoods._base import ElementwiseDistribution
from atacvi.likelihoods._sparse import SparseTarget, sparse_log_prob
from atacvi.likelihoods._special import MAX_LOG_RATE, MIN_LOG_RATE, exp_


class Poisson(ElementwiseDistribution):
    r"""Poisson distribution whose density stays finite at a vanishing rate.

    .. math:: \log p(x) = x \log \lambda - \lambda - \log \Gamma(x + 1)

    The continuous extension by the gamma function serves targets such as TF-IDF values.

    Parameters
    ----------
    rate
        Expected count, not negative, any shape.
    validate_args
        Whether to check the rate and that values are whole and not negative; ``None`` means no.

    Raises
    ------
    ValueError
        With ``validate_args=True``, for a negative rate or a value outside the support.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import Poisson
    >>> round(Poisson(torch.tensor(1.3)).log_prob(torch.tensor(0.0)).item(), 4)
    -1.3
    """

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer
    _parameter_names = ("rate",)

    def __init__(self, rate: Tensor | float, validate_args: bool | None = None) -> None:
        super().__init__({"rate": rate}, validate_args)

    @property
    def rate(self) -> Tensor:
        """Expected count, in the batch shape."""
        return self._rate

    @property
    def mean(self) -> Tensor:
        """Expected count, in the batch shape."""
        return self._rate

    @property
    def variance(self) -> Tensor:
        """Variance, equal to the rate."""
        return self._rate

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draw counts of shape ``sample_shape + batch_shape``, without gradient."""
        with torch.no_grad():
            return torch.poisson(self._rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each entry of `value`."""
        value = self._checked(value)
        return poisson_log_density(value, self._rate)


def poisson_log_density(value: Tensor, rate: Tensor) -> Tensor:
    """Return x log(rate) - rate - lnΓ(x + 1), finite and differentiable at rate 0."""
    floor = torch.finfo(rate.dtype).tiny ** 0.5
    return value * rate.clamp(min=floor).log() - rate - torch.lgamma(value + 1)


class PoissonKernel:
    """`Kernel` of the Poisson likelihood in the log-rate, which is held above `max_log_rate`."""

    max_log_rate = MAX_LOG_RATE

    def prepare(self, b: Tensor) -> tuple[Tensor, ...]:
        """Return nothing: there is no second parameter."""
        return ()

    def zero(self, a: Tensor, prepared: tuple[Tensor, ...], out: Tensor) -> None:
        """Write minus the rate, log p(0), into `out`."""
        exp_(torch.clamp(a, max=self.max_log_rate, out=out)).neg_()

    def zero_grad(
        self, a: Tensor, prepared: tuple[Tensor, ...], grad_a: Tensor, grad_b: Tensor, need_b: bool
    ) -> None:
        """Write minus the rate, also its derivative, into `grad_a`."""
        exp_(torch.clamp(a, max=self.max_log_rate, out=grad_a)).neg_()

    def correction(self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return log p(y) - log p(0) on the non-zeros."""
        return y * a.clamp(min=MIN_LOG_RATE) - torch.lgamma(y + 1)

    def correction_grad(
        self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...], need_b: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative of `correction` with respect to the log-rate."""
        return y, None


_KERNEL = PoissonKernel()


def poisson_log_prob(
    target: SparseTarget, log_rate: Tensor, feature_weight: float | Tensor = 1.0
) -> Tensor:
    """Return the Poisson log-probability of each cell, summed over features.

    Equal to ``Poisson(log_rate.exp()).log_prob(dense).sum(-1)``. Above a log-rate of 50 the value
    is held and the gradient keeps pointing back, so that a step may recover.

    Parameters
    ----------
    target
        Non-zero counts of shape (cells, features).
    log_rate
        Natural logarithm of the expected counts, broadcastable to (cells, features).
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
    >>> from atacvi.likelihoods import SparseTarget, poisson_log_prob
    >>> target = SparseTarget.from_tensor(torch.tensor([[0.0, 1.0]]))
    >>> round(poisson_log_prob(target, torch.zeros(1, 2)).item(), 4)
    -2.0
    """
    return sparse_log_prob(_KERNEL, target, log_rate, None, feature_weight)
