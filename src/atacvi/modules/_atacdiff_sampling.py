"""What ATACDiffModule draws: z and depth, latents h by reverse diffusion, and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from atacvi.diffusion import draw_noise, guide
from atacvi.likelihoods import SparseTarget, draw_counts, draw_open

if TYPE_CHECKING:
    from collections.abc import Callable

    from atacvi.diffusion import Process
    from atacvi.modules._peak_likelihood import PeakLikelihood
    from atacvi.nn import PeakAutoencoder


class SamplerOptions(NamedTuple):
    """How to go from noise to latents.

    Parameters
    ----------
    guidance_scale
        1 for the conditional distribution, 0 for the one without conditions, above 1 to sharpen.
    sampler, n_steps, eta
        See the `sample` of the process; ``None`` takes its defaults.
    start
        Time to start from, below 1 where the noise is a noised latent.
    """

    guidance_scale: float = 1.0
    sampler: str | None = None
    n_steps: int | None = None
    eta: float = 0.0
    start: float = 1.0


class LatentPrior(NamedTuple):
    """A mixture of Gaussians over z and the log library size side by side.

    Parameters
    ----------
    means
        Shape (components, n_latent + 1).
    factors
        Lower triangular roots of the covariances, (components, n_latent + 1, n_latent + 1).
    weights
        Shape (components,).
    labels
        Label that a component belongs to, -1 for none, shape (components,).
    batches
        Shares of the batches in each component, shape (components, n_batch).
    """

    means: Tensor
    factors: Tensor
    weights: Tensor
    labels: Tensor
    batches: Tensor


class CellConditions(NamedTuple):
    """What is known of cells before their latents h are drawn.

    Parameters
    ----------
    z
        Semantic latents, shape (cells, n_latent).
    label
        Codes; `n_labels`, the null label, for cells without one, shape (cells,).
    batch
        Codes, shape (cells,).
    depth
        Library sizes, shape (cells,).
    """

    z: Tensor
    label: Tensor
    batch: Tensor
    depth: Tensor


class ATACDiffSamplingMixin:
    """Sampling, on tensors."""

    n_latent: int
    n_latent_ae: int
    n_labels: int
    n_batch: int
    covariate_mean: Tensor
    likelihood: PeakLikelihood
    process: Process
    predict_target: Callable[..., Tensor]
    latent_mean: Tensor
    latent_scale: Tensor
    latent_prior_means: Tensor
    latent_prior_factors: Tensor
    latent_prior_weights: Tensor
    latent_prior_labels: Tensor
    latent_prior_batches: Tensor
    spread_centre: Tensor
    spread_matrix: Tensor
    autoencoder: PeakAutoencoder
    gate_logits: nn.Parameter
    conditions: Callable[..., dict[str, Any]]
    standard_log_depth: Callable[[Tensor], Tensor]
    peak_log_rates: Callable[..., Tensor]

    def average_covariates(self, batch: Tensor) -> Tensor:
        """Return covariates of cells of given batches, all others at their mean, (cells, n)."""
        covariates = self.covariate_mean.expand(len(batch), -1).clone()
        if self.n_batch > 1:
            one_hot = nn.functional.one_hot(batch, self.n_batch)
            covariates[:, : self.n_batch] = one_hot.to(covariates)
        return covariates

    def set_latent_prior(self, prior: LatentPrior) -> None:
        """Keep a prior of z and log depth that was fitted to the aggregate posterior."""
        device = self.latent_mean.device
        for name, value in prior._asdict().items():
            setattr(self, f"latent_prior_{name}", value.to(device))

    @torch.no_grad()
    def sample_latent_prior(
        self,
        labels: Tensor,
        generator: torch.Generator | None = None,
        batch: Tensor | None = None,
    ) -> CellConditions:
        """Draw z and library size, and what is not given of label and batch, as they go together.

        Parameters
        ----------
        labels
            Label of each cell, -1 to draw it, int64, shape (cells,).
        generator
            Generator on the CPU.
        batch
            Batch of each cell, -1 to draw it, as all are for ``None``, int64, shape (cells,).
        """
        asked = torch.stack([labels, torch.full_like(labels, -1) if batch is None else batch], 1)
        component = torch.empty(len(labels), dtype=torch.long)
        for pair in asked.unique(dim=0):
            cells = (asked == pair).all(1).nonzero().squeeze(1)
            component[cells] = torch.multinomial(
                self._component_weights(*pair.tolist()),
                len(cells),
                replacement=True,
                generator=generator,
            )
        device = self.latent_mean.device
        noise = draw_noise((len(labels), self.n_latent + 1), generator, device=device)
        factors = self.latent_prior_factors[component.to(device)]
        shift = torch.einsum("nij,nj->ni", factors, noise)
        drawn = self.latent_prior_means[component.to(device)] + shift
        label, batch = asked.unbind(1)
        label = torch.where(label < 0, self.latent_prior_labels.cpu()[component], label)
        label = torch.where(label < 0, self.n_labels, label)
        if self.n_batch > 1:
            shares = self.latent_prior_batches.cpu()[component]
            chosen = torch.multinomial(shares, 1, generator=generator).squeeze(1)
            batch = torch.where(batch < 0, chosen, batch)
        else:
            batch = torch.zeros_like(batch)
        depth = drawn[:, -1].exp()
        return CellConditions(drawn[:, :-1], label.to(device), batch.to(device), depth)

    def _component_weights(self, label: int, batch: int) -> Tensor:
        """Return how likely each component is, given what is not -1 of label and batch."""
        weights, own = self.latent_prior_weights.cpu(), self.latent_prior_labels.cpu()
        if label >= 0 and (own == label).any():
            weights = weights * (own == label)
        if batch < 0:
            return weights
        of_batch = weights * self.latent_prior_batches.cpu()[:, batch]
        # A label that a batch was never seen with is drawn as in the others.
        return of_batch if of_batch.sum() > 0 else weights

    @torch.no_grad()
    def sample_latents(
        self,
        z: Tensor | None,
        label: Tensor,
        batch: Tensor,
        depth: Tensor,
        noise: Tensor,
        options: SamplerOptions,
        generator: Any = None,
    ) -> Tensor:
        """Return latents h by the reverse process, not standardised, (cells, n_latent_ae).

        Parameters
        ----------
        z
            Semantic latents, (cells, n_latent); ``None`` hides them.
        label, batch
            Codes, (cells,); a label of `n_labels` or more is hidden.
        depth
            Library sizes, (cells,).
        noise
            Standard normal noise, or latents noised to ``options.start``, (cells, n_latent_ae).
        options
            How to sample.
        generator
            Of the noise of stochastic samplers.
        """
        given = self.conditions(label, batch, self.standard_log_depth(depth))
        unlabelled = label >= self.n_labels
        everything = torch.ones_like(unlabelled)

        def predict(x_t: Tensor, time: Tensor) -> Tensor:
            scale = options.guidance_scale
            conditional = self.predict_target(x_t, time, z, drop={"label": unlabelled}, **given)
            if scale == 1.0:
                return conditional
            hidden = {"z": everything, "label": everything}
            return guide(
                conditional, self.predict_target(x_t, time, z, drop=hidden, **given), scale
            )

        h = self.process.sample(
            predict,
            noise,
            n_steps=options.n_steps,
            sampler=options.sampler,
            eta=options.eta,
            start=options.start,
            generator=generator,
        )
        return h * self.latent_scale + self.latent_mean

    def set_spread(self, matrix: Tensor | None, centre: Tensor | None = None) -> None:
        """Stretch the vectors of generated cells by a matrix around a centre; ``None`` leaves them.

        Parameters
        ----------
        matrix
            Shape (n_embed, n_embed), see `atacvi.training.match_spread`.
        centre
            Mean of the vectors, shape (n_embed,).
        """
        if matrix is None:
            self.spread_matrix.copy_(torch.eye(len(self.spread_matrix)))
        else:
            self.spread_matrix.copy_(matrix)
        if centre is not None:
            self.spread_centre.copy_(centre)

    def generated_vectors(self, h: Tensor, batch: Tensor) -> Tensor:
        """Return the vectors that give log-rates of cells from drawn latents, (cells, n_embed).

        Parameters
        ----------
        h
            Latents, shape (cells, n_latent_ae).
        batch
            Codes, shape (cells,); all other covariates are at their mean.
        """
        vector = self.autoencoder.decode(h, self.average_covariates(batch))
        return self.spread_centre + (vector - self.spread_centre) @ self.spread_matrix.T

    @torch.no_grad()
    def draw_accessibility(
        self,
        peak_vector: Tensor,
        depth: Tensor,
        output: Literal["counts", "binary"],
        generator: Any = None,
    ) -> SparseTarget:
        """Draw peaks from the likelihood, given the library size of each cell.

        Parameters
        ----------
        peak_vector
            Shape (cells, n_embed).
        depth
            Number of counts, or of open peaks where the model is of open and closed, (cells,).
        output
            ``"counts"``, or ``"binary"`` for ones at the open peaks.
        generator
            Generator on the device of the module, or one on the CPU for each cell.
        """
        log_rate = self.peak_log_rates(peak_vector)
        total = depth.round().long().clamp(min=1)
        if self.likelihood == "bernoulli":
            return draw_open(log_rate, total.clamp(max=log_rate.shape[1]), generator)
        drawn = draw_counts(log_rate, total, generator)
        if self.likelihood == "zip":
            kept = torch.sigmoid(-self.gate_logits)[drawn.cols]
            keep = (self._coins(drawn, generator) < kept).nonzero().squeeze(1)
            rows, cols, values = (part[keep] for part in drawn[:3])
            drawn = SparseTarget(rows, cols, values, drawn.shape)
        if output == "binary":
            drawn = drawn._replace(values=torch.ones_like(drawn.values))
        return drawn

    @staticmethod
    def _coins(drawn: SparseTarget, generator: Any) -> Tensor:
        """Return a number in [0, 1) for each entry, from the generator of its cell."""
        n = len(drawn.rows)
        if generator is None or isinstance(generator, torch.Generator):
            return torch.rand(n, generator=generator, device=drawn.rows.device)
        counts = torch.bincount(drawn.rows, minlength=drawn.shape[0]).tolist()
        parts = [torch.rand(k, generator=own) for k, own in zip(counts, generator, strict=True)]
        return torch.cat(parts).to(drawn.rows.device)
