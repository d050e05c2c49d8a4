"""The losses of the stages of ATACDiffModule, per cell and summed over features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.module.base import LossOutput
from torch import Tensor, nn
from torch.distributions import Normal

from atacvi.modules._minibatch import PeakBatch, split_counts
from atacvi.modules._peak_likelihood import (
    PeakDraw,
    PeakLikelihood,
    draw_peaks,
    loading_penalty,
    peak_log_prob,
)
from atacvi.nn import info_nce, squared_mmd, take_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from atacvi.diffusion import Process
    from atacvi.modules.atacdiff import Stage
    from atacvi.nn import (
        AuxiliaryDecoder,
        AuxiliaryEncoder,
        GaussianDenoiser,
        PeakAutoencoder,
        Posterior,
    )
    from atacvi.priors import GaussianMixturePrior, StandardNormalPrior

Information = Literal["infonce", "mmd", "none"]

# The halves are compared over this many cells at most.
_MIN_CELLS_FOR_INFORMATION = 2


class ATACDiffLossMixin:
    """What each stage minimises."""

    #: Whether the optimiser takes sparse gradients of the tables
    row_gradients = False

    training: bool
    stage: Stage
    joint: bool
    n_peaks: int
    n_labels: int
    n_batch: int
    peaks_per_step: int
    likelihood: PeakLikelihood
    loading_precision: float
    prior_weight: float
    information: Information
    information_weight: float
    kernel: Literal["imq", "rbf"]
    condition_dropout: float
    unit_sphere: bool
    n_train: Tensor
    latent_mean: Tensor
    latent_scale: Tensor
    depth_statistics: Tensor
    mixture_active: Tensor
    gate_logits: nn.Parameter
    autoencoder: PeakAutoencoder
    auxiliary_encoder: AuxiliaryEncoder
    auxiliary_decoder: AuxiliaryDecoder
    auxiliary_posterior: Callable[[PeakBatch], Posterior]
    latent_posterior: Callable[[PeakBatch], Posterior]
    denoiser: nn.Module
    gaussian_denoiser: GaussianDenoiser
    process: Process
    prior: GaussianMixturePrior
    standard_prior: StandardNormalPrior

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Tensor],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the loss of the stage; outside of training the negative ELBO of the autoencoder.

        Parameters
        ----------
        kl_weight
            Weight of the divergences from the priors, which warms up.
        """
        if self.training and self.stage == "auxiliary":
            return self.auxiliary_loss(inference_outputs["batch"], kl_weight)
        return self.autoencoder_loss(inference_outputs, generative_outputs, kl_weight)

    # ---- the autoencoder --------------------------------------------------------------------

    def autoencoder_loss(
        self,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Tensor],
        kl_weight: float | Tensor,
    ) -> LossOutput:
        """Return the negative ELBO of the autoencoder and the prior of its loadings."""
        batch: PeakBatch = inference_outputs["batch"]
        posterior: Posterior = inference_outputs["posterior"]
        vector, draw = generative_outputs["peak_vector"], self._draw_peaks(batch)
        rows = take_rows(self.autoencoder.table, draw.peaks, sparse=self.row_gradients)
        reconstruction = -self.atac_log_prob(batch, vector, draw, rows)
        kl = self.standard_latent_kl(posterior)
        per_cell = reconstruction + kl_weight * kl
        if self.training and self.loading_precision > 0:
            per_cell = per_cell + loading_penalty(
                vector, rows, self.loading_precision, self.n_train, draw.weight
            )
        return LossOutput(
            loss=per_cell.mean(),
            reconstruction_loss={"reconstruction_atac": reconstruction},
            kl_local={"kl_z": kl},
        )

    def standard_latent_kl(self, posterior: Posterior) -> Tensor:
        """Return KL(q(h | x) || N(0, I)), zero for latents on the unit sphere, (cells,)."""
        if self.unit_sphere:
            return torch.zeros_like(posterior.mean[:, 0])
        mean, variance = posterior
        return 0.5 * (mean.square() + variance - variance.log() - 1).sum(-1)

    def atac_log_prob(
        self,
        batch: PeakBatch,
        peak_vector: Tensor,
        draw: PeakDraw | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return log p(y | h) of each cell, (cells,); unbiased from a sample of peaks.

        `rows` are the rows of the table of the peaks drawn, where they are at hand.
        """
        draw = PeakDraw(None, 1.0) if draw is None else draw
        if rows is None:
            rows = take_rows(self.autoencoder.table, draw.peaks, sparse=self.row_gradients)
        head = self.autoencoder.head
        log_rate = batch.depth.log() + head.log_rates_of(peak_vector, rows, draw.peaks).float()
        gate = self.gate_logits if draw.peaks is None else self.gate_logits[draw.peaks]
        return peak_log_prob(batch.atac, log_rate, self.likelihood, gate, draw)

    def _draw_peaks(self, batch: PeakBatch) -> PeakDraw:
        if not self.training:
            return PeakDraw(None, 1.0)
        return draw_peaks(self.n_peaks, self.peaks_per_step, batch.depth.device)

    # ---- the auxiliary branch -----------------------------------------------------------------

    def auxiliary_loss(self, batch: PeakBatch, kl_weight: float | Tensor = 1.0) -> LossOutput:
        r"""Return the loss of z per cell.

        .. math::

            -\log p(x | z) + (\lambda - \alpha - 1) KL(q(z|x) \| p(z)) - \alpha I(x; z)

        (Huang et al., Appendix A.4; the information term enters so that more of it is a lower
        loss.)
        """
        posterior = self.auxiliary_posterior(batch)
        z = Normal(posterior.mean, posterior.variance.sqrt()).rsample()
        draw = self._draw_peaks(batch)
        reconstruction, penalty = self._auxiliary_reconstruction(batch, z, draw)
        kl = self.auxiliary_kl(posterior, z)
        per_cell = reconstruction + penalty + kl_weight * self.prior_weight * kl
        information = self.information_loss(batch, z)
        loss = per_cell.mean() + self.information_weight * information
        extra = {"information_loss": information.detach()}
        if self.joint:
            noising = self.denoising_loss(self.standard_latents(batch), z, batch).mean()
            loss = loss + noising
            extra["denoising"] = noising.detach()
        return LossOutput(
            loss=loss,
            reconstruction_loss={"reconstruction_auxiliary": reconstruction},
            kl_local={"kl_auxiliary": kl},
            extra_metrics=extra,
        )

    def _auxiliary_reconstruction(
        self, batch: PeakBatch, z: Tensor, draw: PeakDraw
    ) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood and the cell's share of the loadings' prior."""
        decoder = self.auxiliary_decoder
        vector = decoder.cell_vector(z, batch.covariates)
        peaks = draw.peaks
        rows = take_rows(decoder.loadings, peaks, sparse=self.row_gradients)
        offset = decoder.offset if peaks is None else decoder.offset[peaks]
        log_rate = batch.depth.log() + torch.addmm(offset, vector, rows.T).float()
        likelihood: PeakLikelihood = "bernoulli" if self.likelihood == "bernoulli" else "poisson"
        value = -peak_log_prob(batch.atac, log_rate, likelihood, None, draw)
        penalty = torch.zeros_like(value)
        if self.training and self.loading_precision > 0:
            penalty = loading_penalty(
                vector, rows, self.loading_precision, self.n_train, draw.weight
            )
        return value, penalty

    def auxiliary_kl(self, posterior: Posterior, z: Tensor) -> Tensor:
        """Return an unbiased estimate of KL(q(z|x) || p(z)) at the sample `z`, (cells,).

        It takes the log-density of the whole mixture, which is tighter than the bound with
        responsibilities.
        """
        log_q = Normal(posterior.mean, posterior.variance.sqrt()).log_prob(z).sum(-1)
        if not self.mixture_active:
            return log_q - self.standard_prior.log_prob(z)
        return log_q - self.prior.log_prob(z)

    def information_loss(self, batch: PeakBatch, z: Tensor) -> Tensor:
        """Return the term whose fall raises the information of z about the cell, a scalar."""
        if self.information == "none" or len(z) < _MIN_CELLS_FOR_INFORMATION:
            return torch.zeros((), device=z.device)
        if self.information == "mmd":
            if self.mixture_active:
                drawn = self.prior.sample(len(z))
            else:
                drawn = torch.randn_like(z)
            return squared_mmd(z, drawn, self.kernel)
        halves = split_counts(batch.atac, 0.5)
        one, two = (self.auxiliary_encoder(half, batch.condition).mean for half in halves)
        return -info_nce(one, two)

    # ---- the denoiser ---------------------------------------------------------------------------

    @torch.no_grad()
    def standard_latents(self, batch: PeakBatch) -> Tensor:
        """Return a sample of h, standardised over the training cells, (cells, n_latent_ae)."""
        mean, variance = self.latent_posterior(batch)
        h = mean + variance.sqrt() * torch.randn_like(mean)
        return (h - self.latent_mean) / self.latent_scale

    def standard_log_depth(self, depth: Tensor) -> Tensor:
        """Return log library sizes, standardised over the training cells, (cells,)."""
        mean, deviation = self.depth_statistics
        return (depth.view(-1).log() - mean) / deviation

    def conditions(self, label: Tensor, batch: Tensor, log_depth: Tensor) -> dict[str, Any]:
        """Return the conditions that the denoiser was built with, without z."""
        given: dict[str, Any] = {"log_depth": log_depth}
        if self.n_labels:
            given["label"] = label.clamp(max=self.n_labels - 1)
        if self.n_batch > 1:
            given["batch"] = batch
        return given

    def predict_target(
        self, x_t: Tensor, time: Tensor, z: Tensor | None, *, drop: dict[str, Tensor], **given: Any
    ) -> Tensor:
        """Return what the denoiser makes of noisy latents, in the terms of the process.

        The network adds to the closed form of Gaussian latents, where that has been fitted.
        """
        if self.condition_dropout >= 1:
            everything = torch.ones(len(x_t), dtype=torch.bool, device=x_t.device)
            z, drop = None, {**drop, "label": everything}
        learnt = self.denoiser(x_t, time, z, drop=drop, **given)
        if not self.gaussian_denoiser.fitted:
            return learnt
        one, zero = torch.ones_like(x_t[:, :1]), torch.zeros_like(x_t[:, :1])
        signal, noise = (self.process.corrupt(*pair, time) for pair in ((one, zero), (zero, one)))
        h, noise = self.gaussian_denoiser(x_t, signal, noise, z, drop=drop, **given)
        return learnt + self.process.target(h, noise, time)

    def denoising_loss(
        self, h: Tensor, z: Tensor, batch: PeakBatch | Any, time: Tensor | None = None
    ) -> Tensor:
        """Return the weighted squared error of each cell, summed over dimensions, (cells,).

        Conditions are hidden at random while training, each on its own, so that the network also
        learns the distribution without them (Ho and Salimans, 2022).
        """
        n = len(h)
        time = self.process.sample_time(n, device=h.device) if time is None else time
        noise = torch.randn_like(h)
        unlabelled = batch.label >= self.n_labels
        drop = {"z": torch.zeros(n, dtype=torch.bool, device=h.device), "label": unlabelled}
        if self.training and self.condition_dropout > 0:
            for name, hidden in drop.items():
                coin = torch.rand(n, device=h.device) < self.condition_dropout
                drop[name] = hidden | coin
        prediction = self.predict_target(
            self.process.corrupt(h, noise, time),
            time,
            z,
            drop=drop,
            **self.conditions(batch.label, batch.batch, self.standard_log_depth(batch.depth)),
        )
        error = (prediction - self.process.target(h, noise, time)).square().sum(-1)
        return self.process.weight(time) * error
