"""Negative binomial likelihood of gene expression counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from atacvi.likelihoods._base import ElementwiseDistribution
from atacvi.likelihoods._sparse import SparseTarget, sparse_log_prob
from atacvi.likelihoods._special import (
    MAX_INVERSE_DISPERSION,
    MAX_LOG_RATE,
    MIN_INVERSE_DISPERSION,
    MIN_LOG_RATE,
    exp_,
    scaled_log_rising,
    scaled_log_rising_derivative,
    softplus,
)


class NegativeBinomial(ElementwiseDistribution):
    r"""Negative binomial distribution by mean and inverse dispersion.

    .. math::

        \log p(x) = \theta \log\frac{\theta}{\theta + \mu} + x \log\frac{\mu}{\theta + \mu}
        + \log\frac{\Gamma(x + \theta)}{\Gamma(\theta) \Gamma(x + 1)}

    Equal to ``pyro.distributions.GammaPoisson(theta, theta / mean)``: counts of a Poisson whose
    rate is gamma distributed, variance :math:`\mu + \mu^2 / \theta` (Lopez et al., Nature
    Methods 15:1053, 2018). Tends to the Poisson for a large inverse dispersion, also in float32.

    Parameters
    ----------
    mean
        Expected count, not negative, any shape.
    inverse_dispersion
        Shape :math:`\theta` of the gamma distribution, positive, broadcastable with `mean`.
    validate_args
        Whether to check parameters and that values are whole and not negative; ``None`` means no.

    Raises
    ------
    ValueError
        With ``validate_args=True``, for parameters or values outside their domain.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import NegativeBinomial
    >>> counts = NegativeBinomial(torch.tensor(2.0), torch.tensor(1.5))
    >>> round(counts.log_prob(torch.tensor(3.0)).item(), 4)
    -2.167
    """

    arg_constraints = {"mean": constraints.nonnegative, "inverse_dispersion": constraints.positive}
    support = constraints.nonnegative_integer
    _parameter_names = ("mean", "inverse_dispersion")

    def __init__(
        self,
        mean: Tensor | float,
        inverse_dispersion: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__({"mean": mean, "inverse_dispersion": inverse_dispersion}, validate_args)

    @property
    def mean(self) -> Tensor:
        """Expected count, in the batch shape."""
        return self._mean

    @property
    def inverse_dispersion(self) -> Tensor:
        """Shape of the gamma distribution of the rate, in the batch shape."""
        return self._inverse_dispersion

    @property
    def variance(self) -> Tensor:
        """Variance, mean + mean² / inverse_dispersion."""
        return self._mean + self._mean**2 / self._inverse_dispersion

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draw counts of shape ``sample_shape + batch_shape``, without gradient."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            theta = self._inverse_dispersion.expand(shape)
            rate = torch._standard_gamma(theta) * (self._mean.expand(shape) / theta)
            return torch.poisson(rate)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each entry of `value`."""
        value = self._checked(value)
        theta = self._inverse_dispersion.clamp(MIN_INVERSE_DISPERSION, MAX_INVERSE_DISPERSION)
        log_mean = self._mean.clamp(min=torch.finfo(self._mean.dtype).tiny ** 0.5).log()
        return (
            value * log_mean
            - (theta + value) * torch.log1p(self._mean / theta)
            + scaled_log_rising(value, theta)
            - torch.lgamma(value + 1)
        )


class _NegativeBinomialKernel:
    r"""`Kernel` in log-mean `a` and inverse dispersion `b`.

    With d = a - log b: log p(0) = -b log(1 + e^a / b), and log p(x) - log p(0) =
    x [a - softplus(d)] + [lnΓ(x + b) - lnΓ(b) - x log b] - lnΓ(x + 1).
    """

    def prepare(self, b: Tensor) -> tuple[Tensor, ...]:
        theta = b.clamp(MIN_INVERSE_DISPERSION, MAX_INVERSE_DISPERSION)
        return theta, theta.log(), theta.reciprocal()

    def zero(self, a: Tensor, prepared: tuple[Tensor, ...], out: Tensor) -> None:
        theta, _, dispersion = prepared
        exp_(torch.clamp(a, max=MAX_LOG_RATE, out=out)).mul_(dispersion)
        out.log1p_().mul_(theta).neg_()

    def zero_grad(
        self, a: Tensor, prepared: tuple[Tensor, ...], grad_a: Tensor, grad_b: Tensor, need_b: bool
    ) -> None:
        theta, log_theta, dispersion = prepared
        torch.clamp(a, max=MAX_LOG_RATE, out=grad_a)
        if need_b:
            exp_(grad_b.copy_(grad_a)).mul_(dispersion).log1p_()
        grad_a.sub_(log_theta).sigmoid_()
        if need_b:
            torch.sub(grad_a, grad_b, out=grad_b)
        grad_a.mul_(theta).neg_()

    def correction(self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        theta, log_theta, _ = prepared
        a = a.clamp(MIN_LOG_RATE, MAX_LOG_RATE)
        return y * (a - softplus(a - log_theta)) + scaled_log_rising(y, theta) - torch.lgamma(y + 1)

    def correction_grad(
        self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...], need_b: bool
    ) -> tuple[Tensor, Tensor | None]:
        theta, log_theta, _ = prepared
        open_odds = torch.sigmoid(a.clamp(MIN_LOG_RATE, MAX_LOG_RATE) - log_theta)
        grad_a = y * (1 - open_odds)
        if not need_b:
            return grad_a, None
        return grad_a, y * open_odds / theta + scaled_log_rising_derivative(y, theta)


_KERNEL = _NegativeBinomialKernel()


def negative_binomial_log_prob(
    target: SparseTarget,
    log_mean: Tensor,
    inverse_dispersion: Tensor,
    feature_weight: float | Tensor = 1.0,
) -> Tensor:
    """Return the negative binomial log-probability of each cell, summed over features.

    Equal to ``NegativeBinomial(log_mean.exp(), inverse_dispersion).log_prob(dense).sum(-1)``.

    Parameters
    ----------
    target
        Non-zero counts of shape (cells, features).
    log_mean
        Natural logarithm of the expected counts, broadcastable to (cells, features).
    inverse_dispersion
        Positive, broadcastable to (cells, features); cheapest as (features,).
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
    >>> from atacvi.likelihoods import SparseTarget, negative_binomial_log_prob
    >>> target = SparseTarget.from_tensor(torch.tensor([[3.0, 0.0]]))
    >>> log_mean = torch.full((1, 2), 2.0).log()
    >>> round(negative_binomial_log_prob(target, log_mean, torch.tensor([1.5, 1.5])).item(), 4)
    -3.438
    """
    return sparse_log_prob(_KERNEL, target, log_mean, inverse_dispersion, feature_weight)
