"""Gaussian mixture prior over the latent space, in log space throughout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from atacvi.priors._initialization import FitMethod, MixtureFit, fit_mixture, moments_by_label
from atacvi.priors.standard_normal import PriorKL

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# A weight of zero has no logit; 1e-6 of the cells is as good as none.
_MIN_WEIGHT = 1e-6


class GaussianMixturePrior(nn.Module):
    r"""Mixture of diagonal Gaussians, :math:`p(z) = \sum_k \pi_k N(z; \mu_k, \mathrm{diag}(v_k))`.

    Weights are a softmax of logits and variances a softplus with a floor, so that neither can
    leave its domain; responsibilities are computed in log space, so that they do not underflow
    (Jiang et al., VaDE, IJCAI 2017; Li et al., scMVP, Genome Biology 23:20, 2022).

    Parameters
    ----------
    n_components
        Number of mixture components.
    n_latent
        Number of latent dimensions.
    min_variance
        Floor of every variance, in squared units of the latents.

    Raises
    ------
    ValueError
        If a number is not positive.

    Notes
    -----
    The means start at fixed, spread points with unit variances and equal weights; call `fit`,
    `initialize_from_labels` or `initialize` once latents are known. Equal means would give every
    component the same gradient for ever.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import GaussianMixturePrior
    >>> prior = GaussianMixturePrior(n_components=2, n_latent=3)
    >>> prior.initialize(
    ...     torch.tensor([[0.0, 0, 0], [1, -1, 1]]),
    ...     torch.tensor([[1.0, 1, 1], [0.5, 2, 1]]),
    ...     torch.tensor([0.3, 0.7]),
    ... )
    >>> kl = prior.kl(torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[0.5, 1.0, 2.0]]))
    >>> round(kl.total.item(), 4)
    1.293
    """

    def __init__(self, n_components: int, n_latent: int, min_variance: float = 1e-4) -> None:
        super().__init__()
        if n_components < 1 or n_latent < 1 or min_variance <= 0:
            msg = (
                f"Found n_components={n_components}, n_latent={n_latent}, "
                f"min_variance={min_variance}; all must be positive."
            )
            raise ValueError(msg)
        self.n_components, self.n_latent, self.min_variance = n_components, n_latent, min_variance
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.means = nn.Parameter(_spread_means(n_components, n_latent))
        self.unconstrained_variances = nn.Parameter(torch.empty(n_components, n_latent))
        self._set_variances(torch.ones(n_components, n_latent))

    @property
    def log_weights(self) -> Tensor:
        """Log mixture weights, shape (components,)."""
        return torch.log_softmax(self.logits, dim=-1)

    @property
    def weights(self) -> Tensor:
        """Mixture weights, shape (components,)."""
        return torch.softmax(self.logits, dim=-1)

    @property
    def variances(self) -> Tensor:
        """Component variances, at least `min_variance`, shape (components, n_latent)."""
        return nn.functional.softplus(self.unconstrained_variances) + self.min_variance

    def component_log_prob(self, z: Tensor) -> Tensor:
        """Return log N(z; mean_k, variance_k) of `z` (..., n_latent), shape (..., components)."""
        variances = self.variances
        distance = ((z.unsqueeze(-2) - self.means).square() / variances).sum(-1)
        constant = (variances.log() + math.log(2 * math.pi)).sum(-1)
        return -0.5 * (distance + constant)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of `z` (..., n_latent), shape (...)."""
        return torch.logsumexp(self.log_weights + self.component_log_prob(z), dim=-1)

    def log_responsibilities(self, z: Tensor, variance: Tensor | None = None) -> Tensor:
        r"""Return log p(c = k | z), shape (..., components).

        Parameters
        ----------
        z
            A latent, or the mean of a cell's posterior, shape (..., n_latent).
        variance
            The posterior's variance. When given, the component densities are averaged over the
            posterior, :math:`\gamma_k \propto \pi_k \exp E_q \log N(z; \mu_k, v_k)`, which is the
            assignment of lowest `kl`.
        """
        scores = self.log_weights + self.component_log_prob(z)
        if variance is not None:
            scores = scores - 0.5 * (variance.unsqueeze(-2) / self.variances).sum(-1)
        return torch.log_softmax(scores, dim=-1)

    def responsibilities(self, z: Tensor, variance: Tensor | None = None) -> Tensor:
        """Return p(c = k | z), rows summing to one; see `log_responsibilities`."""
        return self.log_responsibilities(z, variance).exp()

    def component_kl(self, q_mean: Tensor, q_var: Tensor) -> Tensor:
        """Return KL(N(q_mean, q_var) || component k), shape (..., components)."""
        variances = self.variances
        difference = (q_mean.unsqueeze(-2) - self.means).square()
        q_var = q_var.unsqueeze(-2)
        terms = (variances / q_var).log() + (q_var + difference) / variances - 1
        return 0.5 * terms.sum(-1)

    def kl(
        self, q_mean: Tensor, q_var: Tensor, log_responsibilities: Tensor | None = None
    ) -> PriorKL:
        r"""Return the divergence of q(z) q(c) from p(z, c), an upper bound of KL(q(z) || p(z)).

        .. math::

            \sum_k \gamma_k \mathrm{KL}(N(m, v) \,\|\, N(\mu_k, v_k))
            + \mathrm{KL}(\gamma \,\|\, \pi)

        Parameters
        ----------
        q_mean
            Posterior mean, shape (..., n_latent).
        q_var
            Posterior variance (not its logarithm), shape (..., n_latent).
        log_responsibilities
            log γ, shape (..., components): of a sample, or averaged over the posterior. Taken at
            the posterior mean when ``None``.

        Returns
        -------
        The parts ``z`` and ``c``, each of shape (...), in nats; their sum is ``total``.
        """
        if log_responsibilities is None:
            log_responsibilities = self.log_responsibilities(q_mean)
        responsibilities = log_responsibilities.exp()
        continuous = (responsibilities * self.component_kl(q_mean, q_var)).sum(-1)
        # A component without mass adds nothing, also where its log-weight is -inf.
        ratio = torch.where(responsibilities > 0, log_responsibilities - self.log_weights, 0.0)
        return PriorKL(z=continuous, c=(responsibilities * ratio).sum(-1))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` latents, shape (n, n_latent), without gradient."""
        components = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(
            n, self.n_latent, generator=generator, device=self.means.device, dtype=self.means.dtype
        )
        return self.means[components] + self.variances[components].sqrt() * noise

    @torch.no_grad()
    def initialize(
        self, means: ArrayLike | Tensor, variances: ArrayLike | Tensor, weights: ArrayLike | Tensor
    ) -> None:
        """Set the mixture; variances are floored and weights normalised.

        Parameters
        ----------
        means
            Shape (components, n_latent).
        variances
            Shape (components, n_latent).
        weights
            Not negative, shape (components,).

        Raises
        ------
        ValueError
            If a shape is not that of this prior, or a value is not finite or negative.
        """
        shape = (self.n_components, self.n_latent)
        means = self._checked("means", means, shape)
        variances = self._checked("variances", variances, shape)
        weights = self._checked("weights", weights, shape[:1])
        if (variances < 0).any() or (weights < 0).any() or weights.sum() <= 0:
            msg = "Variances and weights must not be negative, and some weight must be positive."
            raise ValueError(msg)
        self.means.copy_(means)
        self._set_variances(variances)
        self.logits.copy_((weights / weights.sum()).clamp(min=_MIN_WEIGHT).log())

    def initialize_from_labels(self, z: ArrayLike | Tensor, labels: ArrayLike) -> MixtureFit:
        """Set each component to the moments of one label, labels in sorted order.

        Parameters
        ----------
        z
            Latents, shape (cells, n_latent).
        labels
            One label per cell, as many different ones as there are components.

        Raises
        ------
        ValueError
            If the number of labels is not the number of components.
        """
        fit = moments_by_label(z, labels)
        if len(fit.weights) != self.n_components:
            msg = (
                f"Found {len(fit.weights)} different labels for {self.n_components} components. "
                f"Build the prior with n_components={len(fit.weights)}."
            )
            raise ValueError(msg)
        self.initialize(fit.means, fit.variances, fit.weights)
        return fit

    def fit(
        self,
        z: ArrayLike | Tensor,
        method: FitMethod = "gmm",
        *,
        random_state: int = 0,
        **kwargs: Any,
    ) -> MixtureFit:
        """Set the mixture by fitting it to latents, with as many components as it has.

        Parameters
        ----------
        z
            Latents, shape (cells, n_latent).
        method
            ``"kmeans"``, ``"gmm"`` or ``"leiden"``, see `fit_mixture`.
        random_state
            Seed.
        **kwargs
            Further arguments of `fit_mixture`.

        Returns
        -------
        The fit, with each cell's component in ``labels``.
        """
        fit = fit_mixture(z, method, self.n_components, random_state=random_state, **kwargs)
        self.initialize(fit.means, fit.variances, fit.weights)
        return fit

    @classmethod
    def from_data(
        cls,
        z: ArrayLike | Tensor,
        method: FitMethod = "gmm",
        n_components: int | None = None,
        *,
        min_variance: float = 1e-4,
        random_state: int = 0,
        **kwargs: Any,
    ) -> GaussianMixturePrior:
        """Build a prior from latents, choosing the number of components when it is ``None``.

        Parameters
        ----------
        z
            Latents, shape (cells, n_latent).
        method
            ``"kmeans"``, ``"gmm"`` or ``"leiden"``, see `fit_mixture`.
        n_components
            Number of components, or ``None``.
        min_variance
            Floor of every variance.
        random_state
            Seed.
        **kwargs
            Further arguments of `fit_mixture`.
        """
        fit = fit_mixture(z, method, n_components, random_state=random_state, **kwargs)
        prior = cls(len(fit.means), fit.means.shape[1], min_variance)
        prior.initialize(fit.means, fit.variances, fit.weights)
        return prior

    def _checked(self, name: str, value: ArrayLike | Tensor, shape: tuple[int, ...]) -> Tensor:
        value = torch.as_tensor(value, dtype=self.means.dtype, device=self.means.device)
        if tuple(value.shape) != shape:
            msg = f"Found {name} of shape {tuple(value.shape)}; this prior needs {shape}."
            raise ValueError(msg)
        if not torch.isfinite(value).all():
            msg = f"Found {name} that are not finite; check the latents they were fitted to."
            raise ValueError(msg)
        return value

    @torch.no_grad()
    def _set_variances(self, variances: Tensor) -> None:
        # softplus(-20) = 2e-9 is nothing beside the floor, and its gradient is not yet zero.
        excess = (variances - self.min_variance).clamp(min=2e-9)
        self.unconstrained_variances.copy_(excess + torch.log(-torch.expm1(-excess)))


def _spread_means(n_components: int, n_latent: int) -> Tensor:
    """Return distinct means of unit scale that do not depend on the global random state."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_components, n_latent, generator=generator)
