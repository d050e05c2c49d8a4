"""Likelihoods and loss of MultiViewModule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from scvi.module.base import LossOutput
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from atacvi.likelihoods import SparseTarget, negative_binomial_log_prob
from atacvi.modules._minibatch import PairedBatch, row_sums
from atacvi.modules._peak_likelihood import (
    PeakDraw,
    draw_peaks,
    loading_penalty,
    peak_log_prob,
)
from atacvi.nn import LearntRows, take_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from atacvi.nn import AtacEncoder, PeakHead, Posterior, RnaEncoder

AtacTarget = Literal["counts", "binary", "tfidf"]

# The cycle term takes one in so many cells of a minibatch.
_CYCLE_SHARE = 4


class PeakSample(NamedTuple):
    """Peaks of a step: their indices (``None`` for all), their embeddings, and what each counts."""

    peaks: Tensor | None
    rows: Tensor
    weight: float


class MultiViewLossMixin:
    """Reconstruction, cycle term and shrinkage of the loadings, on the parts of the module."""

    #: Whether the optimiser takes sparse gradients of the table
    row_gradients = False

    training: bool
    n_peaks: int
    peaks_per_step: int
    atac_target: AtacTarget
    rna_weight: float
    atac_weight: float
    cycle_weight: float
    held_out_fraction: float
    loading_precision: float
    detach_cycle: bool
    n_train: Tensor
    peak_table: nn.Parameter
    gate_logits: nn.Parameter
    log_inverse_dispersion: nn.Parameter
    rna_encoder: RnaEncoder
    atac_encoder: AtacEncoder
    atac_head: PeakHead
    fusion: Callable[..., Posterior]
    prior_kl: Callable[..., dict[str, Tensor]]

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Tensor],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the negative ELBO per cell, plus the cycle term once its stage has begun."""
        target: PairedBatch = inference_outputs["target"]
        posterior: Posterior = inference_outputs["posterior"]
        vector = generative_outputs["peak_vector"]
        sample = self.sample_peaks()
        reconstruction = {
            "reconstruction_rna": -self.rna_log_prob(target, generative_outputs["log_expression"]),
            "reconstruction_atac": -self.atac_log_prob(target, vector, sample),
        }
        if self.training and self.held_out_fraction > 0:
            # Each count is held out in this fraction of the steps: the terms stand for all counts.
            scale = 1.0 / self.held_out_fraction
            reconstruction = {name: scale * value for name, value in reconstruction.items()}
        kl = self.prior_kl(posterior, inference_outputs["log_responsibilities"])
        per_cell = (
            self.rna_weight * reconstruction["reconstruction_rna"]
            + self.atac_weight * reconstruction["reconstruction_atac"]
            + kl_weight * (kl["kl_z"] + kl["kl_c"])
        )
        if self.training and self.loading_precision > 0:
            per_cell = per_cell + self.loading_penalty(vector, sample)
        extra = {name: value.mean().detach() for name, value in (reconstruction | kl).items()}
        loss = per_cell.mean()
        if self.cycle_weight > 0 and self.training:
            # Of a part of the minibatch: the same gradient on average, at a fraction of the cost.
            n_cells = max(1, len(per_cell) // _CYCLE_SHARE)
            cycle = self.cycle_loss(target, posterior, generative_outputs, sample, n_cells).mean()
            loss = loss + self.cycle_weight * cycle
            extra["cycle"] = cycle.detach()
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=kl,
            extra_metrics=extra,
        )

    def learnt_rows(self, y: SparseTarget) -> LearntRows | None:
        """Return the rows of the table that the encoder learns in a step, ``None`` for all.

        They are drawn by themselves, not those that the step decodes: else each peak would be
        learnt from just when it is to be explained, and cells be learnt by heart.
        """
        peaks, rows, weight = self.sample_peaks()
        if peaks is None:
            return None
        return LearntRows(peaks, rows, y.select_features(peaks), weight)

    def sample_peaks(self) -> PeakSample:
        """Return the peaks that this step decodes: all, or a part of many while training."""
        if not self.training:
            return PeakSample(None, self.peak_table, 1.0)
        peaks, weight = draw_peaks(self.n_peaks, self.peaks_per_step, self.peak_table.device)
        rows = take_rows(self.peak_table, peaks, sparse=self.row_gradients)
        return PeakSample(peaks, rows, weight)

    def loading_penalty(self, peak_vector: Tensor, sample: PeakSample) -> Tensor:
        """Return the share of a cell in the negative log-prior of the loadings, (cells,)."""
        return loading_penalty(
            peak_vector, sample.rows, self.loading_precision, self.n_train, sample.weight
        )

    def rna_log_prob(self, batch: PairedBatch, log_expression: Tensor) -> Tensor:
        """Return log p(x | z) of each cell, zero where the cell has no RNA, (cells,)."""
        value = negative_binomial_log_prob(
            batch.rna,
            batch.rna_depth.log() + log_expression,
            self.log_inverse_dispersion.clamp(-10, 12).exp(),
        )
        return value * batch.has_rna.squeeze(1)

    def atac_log_prob(
        self, batch: PairedBatch, peak_vector: Tensor, sample: PeakSample | None = None
    ) -> Tensor:
        """Return log p(y | z) of each cell, zero where the cell has no ATAC, (cells,).

        While training on many peaks it is estimated, without bias, from a sample of peaks.
        """
        peaks, rows, weight = self.sample_peaks() if sample is None else sample
        log_rate = self.atac_head.log_rates_of(peak_vector, rows, peaks).float()
        value = peak_log_prob(
            self._atac_target(batch.atac),
            batch.atac_depth.log() + log_rate,
            "bernoulli" if self.atac_target == "binary" else "zip",
            self.gate_logits if peaks is None else self.gate_logits[peaks],
            PeakDraw(peaks, weight),
        )
        return value * batch.has_atac.squeeze(1)

    def _atac_target(self, y: SparseTarget) -> SparseTarget:
        if self.atac_target == "binary":
            return y._replace(values=torch.ones_like(y.values))
        if self.atac_target == "tfidf":
            frequency = y.values / row_sums(y)[y.rows, 0]
            return y._replace(values=torch.log1p(frequency * self.atac_encoder.idf[y.cols] * 1e4))
        return y

    def cycle_loss(
        self,
        batch: PairedBatch,
        posterior: Posterior,
        generative_outputs: dict[str, Tensor],
        sample: PeakSample | None = None,
        n_cells: int | None = None,
    ) -> Tensor:
        r"""Return the paper's cycle term of each cell, (cells,).

        .. math::

            KL(q(z|x, y) \,\|\, q(z|\hat x)) + KL(q(z|x, y) \,\|\, q(z|\hat y))

        The imputed profiles are the means of the likelihoods at the observed depth; of peaks a
        sample where they are many, that of the reconstruction. `n_cells` takes the first cells of
        the minibatch only.
        """
        cells = slice(n_cells)
        peaks, rows, _ = self.sample_peaks() if sample is None else sample
        depth, covariates = batch.rna_depth[cells], batch.covariates[cells]
        expression = generative_outputs["log_expression"][cells].exp() * depth
        vector = generative_outputs["peak_vector"][cells]
        log_rates = self.atac_head.log_rates_of(vector, rows, peaks).float()
        rates = log_rates.clamp(max=0).exp()
        rna = self.rna_encoder(expression, depth, covariates)
        atac = self.atac_encoder(rates, rows, covariates, peaks)
        yes = torch.ones_like(batch.has_rna[cells])
        from_rna = self.fusion(rna, atac, yes, ~yes)
        from_atac = self.fusion(rna, atac, ~yes, yes)
        mean, variance = posterior.mean[cells], posterior.variance[cells]
        if self.detach_cycle:
            mean, variance = mean.detach(), variance.detach()
        joint = Normal(mean, variance.sqrt(), validate_args=False)
        total = torch.zeros_like(mean[:, 0])
        for single in (from_rna, from_atac):
            scale = single.variance.float().sqrt()
            other = Normal(single.mean.float(), scale, validate_args=False)
            total = total + kl_divergence(joint, other).sum(-1)
        return total
