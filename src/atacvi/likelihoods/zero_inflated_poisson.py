"""Zero-inflated Poisson likelihood of accessibility counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from atacvi.likelihoods._base import ElementwiseDistribution
from atacvi.likelihoods._sparse import SparseTarget, sparse_log_prob
from atacvi.likelihoods._special import MAX_LOG_RATE, MAX_LOGIT, MIN_LOG_RATE, exp_, softplus
from atacvi.likelihoods.poisson import poisson_log_density


class ZeroInflatedPoisson(ElementwiseDistribution):
    r"""Poisson counts, replaced by zero with probability :math:`\sigma(\pi)`.

    .. math::

        \log p(0) &= \log[\sigma(\pi) + (1 - \sigma(\pi)) e^{-\lambda}] \\
        \log p(x) &= \log(1 - \sigma(\pi)) + x \log\lambda - \lambda - \log\Gamma(x + 1), \; x > 0

    Same convention as ``pyro.distributions.ZeroInflatedPoisson(rate, gate_logits=...)``, and the
    accessibility model of scMVP (Li et al., Genome Biology 23:20, 2022), whose :math:`\tau` is
    the opposite probability :math:`1 - \sigma(\pi)`.

    Parameters
    ----------
    rate
        Expected count without structural zeros, not negative, any shape.
    gate_logits
        Log-odds of a structural zero, broadcastable with `rate`.
    validate_args
        Whether to check parameters and that values are whole and not negative; ``None`` means no.

    Raises
    ------
    ValueError
        With ``validate_args=True``, for parameters or values outside their domain.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import ZeroInflatedPoisson
    >>> zip_ = ZeroInflatedPoisson(torch.tensor(1.0), torch.tensor(0.0))
    >>> round(zip_.log_prob(torch.tensor(0.0)).item(), 4)
    -0.3799
    """

    arg_constraints = {"rate": constraints.nonnegative, "gate_logits": constraints.real}
    support = constraints.nonnegative_integer
    _parameter_names = ("rate", "gate_logits")

    def __init__(
        self,
        rate: Tensor | float,
        gate_logits: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__({"rate": rate, "gate_logits": gate_logits}, validate_args)

    @property
    def rate(self) -> Tensor:
        """Expected count without structural zeros, in the batch shape."""
        return self._rate

    @property
    def gate_logits(self) -> Tensor:
        """Log-odds of a structural zero, in the batch shape."""
        return self._gate_logits

    @property
    def gate(self) -> Tensor:
        """Probability of a structural zero, in the batch shape."""
        return torch.sigmoid(self._gate_logits)

    @property
    def mean(self) -> Tensor:
        """Expected count, structural zeros included."""
        return torch.sigmoid(-self._gate_logits) * self._rate

    @property
    def variance(self) -> Tensor:
        """Variance, (1 - gate) rate (1 + gate rate)."""
        return self.mean * (1 + self.gate * self._rate)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draw counts of shape ``sample_shape + batch_shape``, without gradient."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            counts = torch.poisson(self._rate.expand(shape))
            return counts * torch.bernoulli(torch.sigmoid(-self._gate_logits).expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each entry of `value`."""
        value = self._checked(value)
        gate, rate = self._gate_logits, self._rate
        at_zero = logsigmoid(gate) + softplus(-gate - rate)
        elsewhere = logsigmoid(-gate) + poisson_log_density(value, rate)
        return torch.where(value == 0, at_zero, elsewhere)


class _ZeroInflatedPoissonKernel:
    r"""`Kernel` in log-rate `a` and gate logits `b`.

    With t = -b - e^a: log p(0) = log σ(b) + softplus(t), and
    log p(y) - log p(0) = y a - softplus(-t) - lnΓ(y + 1).
    """

    def prepare(self, b: Tensor) -> tuple[Tensor, ...]:
        gate = b.clamp(-MAX_LOGIT, MAX_LOGIT)
        return gate, logsigmoid(gate), torch.sigmoid(-gate)

    def zero(self, a: Tensor, prepared: tuple[Tensor, ...], out: Tensor) -> None:
        gate, log_gate, _ = prepared
        exp_(torch.clamp(a, max=MAX_LOG_RATE, out=out)).add_(gate).neg_()
        exp_(out).log1p_().add_(log_gate)

    def zero_grad(
        self, a: Tensor, prepared: tuple[Tensor, ...], grad_a: Tensor, grad_b: Tensor, need_b: bool
    ) -> None:
        gate, _, not_gate = prepared
        exp_(torch.clamp(a, max=MAX_LOG_RATE, out=grad_a))
        torch.add(grad_a, gate, out=grad_b)
        grad_b.neg_().sigmoid_()
        grad_a.mul_(grad_b).neg_()
        if need_b:
            torch.sub(not_gate, grad_b, out=grad_b)

    def correction(self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        rate = a.clamp(max=MAX_LOG_RATE).exp()
        return y * a.clamp(min=MIN_LOG_RATE) - softplus(prepared[0] + rate) - torch.lgamma(y + 1)

    def correction_grad(
        self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...], need_b: bool
    ) -> tuple[Tensor, Tensor | None]:
        rate = a.clamp(max=MAX_LOG_RATE).exp()
        not_zero = torch.sigmoid(prepared[0] + rate)
        return y - rate * not_zero, -not_zero if need_b else None


_KERNEL = _ZeroInflatedPoissonKernel()


def zero_inflated_poisson_log_prob(
    target: SparseTarget,
    log_rate: Tensor,
    gate_logits: Tensor,
    feature_weight: float | Tensor = 1.0,
) -> Tensor:
    """Return the zero-inflated Poisson log-probability of each cell, summed over features.

    Equal to ``ZeroInflatedPoisson(log_rate.exp(), gate_logits).log_prob(dense).sum(-1)``.

    Parameters
    ----------
    target
        Non-zero counts (or continuous values) of shape (cells, features).
    log_rate
        Natural logarithm of the Poisson rate, broadcastable to (cells, features).
    gate_logits
        Log-odds of a structural zero, broadcastable to (cells, features); cheapest as (features,).
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
    >>> from atacvi.likelihoods import SparseTarget, zero_inflated_poisson_log_prob
    >>> target = SparseTarget.from_tensor(torch.tensor([[0.0, 0.0]]))
    >>> result = zero_inflated_poisson_log_prob(target, torch.zeros(1, 2), torch.zeros(2))
    >>> round(result.item(), 4)
    -0.7598
    """
    return sparse_log_prob(_KERNEL, target, log_rate, gate_logits, feature_weight)
