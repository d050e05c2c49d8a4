"""The module of MultiViewModel: paired RNA and ATAC with a Gaussian-mixture latent (scMVP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from atacvi.likelihoods import (
    SparseTarget,
    bernoulli_log_prob,
    negative_binomial_log_prob,
    zero_inflated_poisson_log_prob,
)
from atacvi.modules._minibatch import (
    PairedBatch,
    encode_covariates,
    read_counts,
    rna_library_size,
    row_sums,
    split_counts,
)
from atacvi.nn import (
    AtacEncoder,
    ClusterGatedTrunk,
    ConcatFusion,
    ExpertFusion,
    ExpressionHead,
    PeakHead,
    Posterior,
    RnaEncoder,
)
from atacvi.priors import GaussianMixturePrior, StandardNormalPrior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atacvi.nn.encoders import Attention

AtacTarget = Literal["counts", "binary", "tfidf"]
Fusion = Literal["experts", "concat"]
Modality = Literal["joint", "rna", "atac"]

# Below this number of peaks all are decoded at each step; above, a sample of this size.
PEAKS_PER_STEP = 16_384
# The cycle term takes one in so many cells of a minibatch.
_CYCLE_SHARE = 4


class MultiViewModule(BaseModuleClass):
    r"""Generative model of paired expression and accessibility.

    .. math::

        c \sim \mathrm{Cat}(\pi), \quad z \mid c \sim N(\mu_c, \mathrm{diag}(v_c)), \quad
        x_g \sim \mathrm{NB}(l_x \rho_g(z), \theta_g), \quad
        y_p \sim \mathrm{ZIP}(l_y \exp(b_p + e_p^\top u(z)), \tau_p)

    Parameters
    ----------
    n_genes, n_peaks
        Numbers of features.
    n_batch, n_cats_per_cov, n_continuous_cov
        Batches, categories of each categorical covariate, continuous covariates.
    n_clusters
        Number of mixture components.
    n_latent, n_hidden, n_embed
        Widths of the latent, of the hidden layers and of a peak's embedding.
    n_heads
        Number of attention heads.
    peak_block
        Genome block of each peak, int64, shape (peaks,).
    attention
        ``"tokens"``, ``"feature"`` or ``"none"``, see `AtacEncoder`.
    fusion
        ``"experts"`` or ``"concat"``, see `ExpertFusion` and `ConcatFusion`.
    atac_target
        What the accessibility likelihood sees: counts, open or closed, or TF-IDF.
    linear_decoder
        Whether the decoders have their linear part.
    separate_gate
        Whether the RNA gate has a first layer of its own.
    encode_covariates
        Whether the encoders see the covariates.
    dropout_rate
        Dropout of the encoders.
    modality_dropout
        Fraction of training cells of which one modality is hidden from the encoder, so that each
        alone learns to stand for both.
    held_out_fraction
        Fraction of a cell's counts that the encoder does not see in a training step and that the
        decoder must predict, so that the latent keeps what generalises; 0 shows and predicts all.
    loading_precision
        Precision of the zero-mean Gaussian prior on what z adds to the log-rate of a feature. It
        shrinks the features of which few counts were seen.
    peaks_per_step
        Number of peaks decoded at each training step; ``None`` chooses.
    rna_weight, atac_weight
        Weights of the two reconstruction terms.
    detach_cycle
        Hold the joint posterior fixed in the cycle terms.
    gene_columns, peak_columns
        Columns of the two modalities where one matrix holds both.
    """

    gene_columns: Tensor | None
    peak_columns: Tensor
    mixture_active: Tensor
    atac_median_depth: Tensor
    n_train: Tensor

    def __init__(
        self,
        n_genes: int,
        n_peaks: int,
        *,
        n_batch: int = 1,
        n_cats_per_cov: Sequence[int] | None = None,
        n_continuous_cov: int = 0,
        n_clusters: int = 10,
        n_latent: int = 20,
        n_hidden: int = 128,
        n_embed: int = 64,
        n_heads: int = 8,
        peak_block: Tensor | None = None,
        attention: Attention = "tokens",
        fusion: Fusion = "experts",
        atac_target: AtacTarget = "counts",
        linear_decoder: bool = True,
        separate_gate: bool = False,
        encode_covariates: bool = False,
        dropout_rate: float = 0.1,
        modality_dropout: float = 0.2,
        held_out_fraction: float = 0.3,
        loading_precision: float = 100.0,
        peaks_per_step: int | None = None,
        rna_weight: float = 1.0,
        atac_weight: float = 1.0,
        detach_cycle: bool = False,
        gene_columns: Tensor | None = None,
        peak_columns: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.n_genes, self.n_peaks = n_genes, n_peaks
        self.n_batch, self.n_continuous_cov = n_batch, n_continuous_cov
        self.n_cats_per_cov = tuple(n_cats_per_cov or ())
        self.n_latent, self.n_hidden, self.n_clusters = n_latent, n_hidden, n_clusters
        self.atac_target, self.modality_dropout = atac_target, modality_dropout
        self.held_out_fraction = held_out_fraction
        self.rna_weight, self.atac_weight = rna_weight, atac_weight
        self.detach_cycle, self.loading_precision = detach_cycle, loading_precision
        self.peaks_per_step = min(n_peaks, peaks_per_step or PEAKS_PER_STEP)
        self.cycle_weight = 0.0

        n_cov = (n_batch if n_batch > 1 else 0) + sum(self.n_cats_per_cov) + n_continuous_cov
        n_seen = n_cov if encode_covariates else 0
        self.n_covariates = n_cov
        self.peak_table = nn.Parameter(torch.randn(n_peaks, n_embed) / n_embed**0.5)
        self.rna_encoder = RnaEncoder(
            n_genes, n_hidden, n_seen, dropout_rate, separate_gate=separate_gate
        )
        self.atac_encoder = AtacEncoder(
            n_peaks,
            n_embed,
            n_hidden,
            n_seen,
            attention=attention,
            n_heads=n_heads,
            block=peak_block,
            dropout_rate=dropout_rate,
        )
        fuse = ExpertFusion if fusion == "experts" else ConcatFusion
        self.fusion = fuse(n_hidden, n_latent)
        self.trunk = ClusterGatedTrunk(n_latent, n_cov, n_hidden, n_clusters)
        self.rna_head = ExpressionHead(n_latent, n_cov, n_hidden, n_genes, linear=linear_decoder)
        self.atac_head = PeakHead(
            n_latent, n_cov, n_hidden, n_embed, n_peaks, linear=linear_decoder
        )
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_genes))
        self.gate_logits = nn.Parameter(torch.full((n_peaks,), -3.0))
        self.prior = GaussianMixturePrior(n_clusters, n_latent)
        self.standard_prior = StandardNormalPrior(n_latent)
        self.register_buffer("mixture_active", torch.tensor(False))
        self.register_buffer("atac_median_depth", torch.tensor(1e4))
        self.register_buffer("n_train", torch.tensor(1e4))
        self.register_buffer("gene_columns", gene_columns)
        columns = torch.empty(0, dtype=torch.long) if peak_columns is None else peak_columns
        self.register_buffer("peak_columns", columns)

    # ---- the mixture ----------------------------------------------------------------------

    def resize_mixture(self, n_clusters: int) -> None:
        """Give the prior and the decoders' gate another number of components."""
        device = self.peak_table.device
        self.n_clusters = n_clusters
        self.prior = GaussianMixturePrior(n_clusters, self.n_latent).to(device)
        gate = nn.Linear(n_clusters, self.n_hidden).to(device)
        nn.init.constant_(gate.bias, 1.0)
        self.trunk.gate = gate

    def log_responsibilities(self, posterior: Posterior) -> Tensor:
        """Return log p(c | cell), uniform before the mixture is set, (cells, clusters)."""
        if not self.mixture_active:
            shape = (*posterior.mean.shape[:-1], self.n_clusters)
            return posterior.mean.new_full(shape, 1.0 / self.n_clusters).log()
        return self.prior.log_responsibilities(posterior.mean, posterior.variance)

    def prior_kl(self, posterior: Posterior, log_responsibilities: Tensor) -> dict[str, Tensor]:
        """Return the divergence from the prior in its two parts, each (cells,)."""
        if self.mixture_active:
            kl = self.prior.kl(posterior.mean, posterior.variance, log_responsibilities)
        else:
            kl = self.standard_prior.kl(posterior.mean, posterior.variance)
        return {"kl_z": kl.z, "kl_c": kl.c}

    # ---- inference ------------------------------------------------------------------------

    def read_batch(
        self, tensors: dict[str, Tensor], transform_batch: int | None = None
    ) -> PairedBatch:
        """Return the minibatch as sparse counts and covariates."""
        rna, atac = read_counts(tensors, self.n_genes, self.gene_columns, self.peak_columns)
        rna_total, atac_total = row_sums(rna), row_sums(atac)
        covariates = encode_covariates(
            tensors, self.n_batch, self.n_cats_per_cov, self.n_continuous_cov, transform_batch
        )
        return PairedBatch(
            rna=rna,
            atac=atac,
            rna_depth=rna_library_size(tensors, rna_total),
            atac_depth=atac_total.clamp(min=1.0),
            has_rna=rna_total > 0,
            has_atac=atac_total > 0,
            covariates=covariates,
        )

    def _get_inference_input(
        self, tensors: dict[str, Tensor], modality: Modality = "joint", **_: Any
    ) -> dict[str, Any]:
        batch = self.read_batch(tensors)
        if not (self.training and self.held_out_fraction > 0):
            return {"batch": batch, "modality": modality}
        seen = 1.0 - self.held_out_fraction
        (rna, rna_rest), (atac, atac_rest) = (
            split_counts(batch.rna, seen),
            split_counts(batch.atac, seen),
        )
        return {
            "batch": batch._replace(rna=rna, atac=atac),
            "modality": modality,
            "target": batch._replace(
                rna=rna_rest,
                atac=atac_rest,
                rna_depth=batch.rna_depth * self.held_out_fraction,
                atac_depth=batch.atac_depth * self.held_out_fraction,
            ),
        }

    def hidden_layers(self, batch: PairedBatch) -> tuple[Tensor, Tensor]:
        """Return the hidden vectors of both modalities, each (cells, n_hidden)."""
        rna = self.rna_encoder(batch.rna, row_sums(batch.rna), batch.covariates)
        atac = self.atac_encoder(batch.atac, self.peak_table, batch.covariates)
        return rna, atac

    @auto_move_data
    def inference(
        self,
        batch: PairedBatch,
        modality: Modality = "joint",
        n_samples: int = 1,
        target: PairedBatch | None = None,
    ) -> dict[str, Any]:
        """Return the posterior of z, a sample of it and the responsibilities.

        Parameters
        ----------
        batch
            Minibatch.
        modality
            Which modalities the encoder may see.
        n_samples
            Number of samples of z; they form a leading axis when more than one.
        target
            Counts to be explained where they are not those that are encoded.
        """
        has_rna, has_atac = self._visible(batch, modality)
        posterior = self.fusion(*self.hidden_layers(batch), has_rna, has_atac)
        qz = Normal(posterior.mean.float(), posterior.variance.float().sqrt())
        z = qz.rsample() if n_samples == 1 else qz.rsample((n_samples,))
        posterior = Posterior(qz.loc, qz.variance)
        return {
            "z": z,
            "qz": qz,
            "posterior": posterior,
            "log_responsibilities": self.log_responsibilities(posterior),
            "batch": batch,
            "target": batch if target is None else target,
        }

    def _visible(self, batch: PairedBatch, modality: Modality) -> tuple[Tensor, Tensor]:
        """Return which modality of each cell the encoder sees, each (cells, 1)."""
        has_rna, has_atac = batch.has_rna, batch.has_atac
        if modality == "rna":
            return has_rna, torch.zeros_like(has_atac)
        if modality == "atac":
            return torch.zeros_like(has_rna), has_atac
        if self.training and self.modality_dropout > 0:
            draw = torch.rand_like(has_rna, dtype=torch.float)
            paired = has_rna & has_atac
            has_rna = has_rna & ~(paired & (draw < self.modality_dropout / 2))
            has_atac = has_atac & ~(paired & (draw > 1 - self.modality_dropout / 2))
        return has_rna, has_atac

    # ---- generation -----------------------------------------------------------------------

    def _get_generative_input(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        transform_batch: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        batch = inference_outputs["batch"]
        covariates = batch.covariates
        if transform_batch is not None:
            covariates = self.read_covariates(tensors, transform_batch)
        return {
            "z": inference_outputs["z"],
            "responsibilities": inference_outputs["log_responsibilities"].exp(),
            "covariates": covariates,
        }

    def read_covariates(self, tensors: dict[str, Tensor], transform_batch: int | None) -> Tensor:
        """Return the covariates, of another batch if asked, shape (cells, covariates)."""
        return encode_covariates(
            tensors, self.n_batch, self.n_cats_per_cov, self.n_continuous_cov, transform_batch
        )

    @auto_move_data
    def generative(
        self, z: Tensor, responsibilities: Tensor, covariates: Tensor
    ) -> dict[str, Tensor]:
        """Return log fractions of expression and the vector that gives rates of peaks.

        Peaks are not multiplied out here: the caller takes those it needs by `peak_log_rates`.
        """
        if z.ndim == 3:
            responsibilities = responsibilities.expand(z.shape[0], -1, -1)
            covariates = covariates.expand(z.shape[0], -1, -1)
        trunk = self.trunk(z, covariates, responsibilities)
        return {
            "log_expression": self.rna_head(z, covariates, trunk),
            "peak_vector": self.atac_head.cell_vector(z, covariates, trunk),
        }

    def peak_log_rates(self, peak_vector: Tensor, peaks: Tensor | None = None) -> Tensor:
        """Return log-rates at unit library size, shape (cells, peaks)."""
        return self.atac_head.log_rates(peak_vector, self.peak_table, peaks).float()

    # ---- loss -----------------------------------------------------------------------------

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
        reconstruction = {
            "reconstruction_rna": -self.rna_log_prob(target, generative_outputs["log_expression"]),
            "reconstruction_atac": -self.atac_log_prob(target, generative_outputs["peak_vector"]),
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
            per_cell = per_cell + self.loading_penalty(generative_outputs)
        extra = {name: value.mean().detach() for name, value in (reconstruction | kl).items()}
        loss = per_cell.mean()
        if self.cycle_weight > 0 and self.training:
            # Of a part of the minibatch: the same gradient on average, at a fraction of the cost.
            n_cells = max(1, len(per_cell) // _CYCLE_SHARE)
            cycle = self.cycle_loss(target, posterior, generative_outputs, n_cells).mean()
            loss = loss + self.cycle_weight * cycle
            extra["cycle"] = cycle.detach()
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=kl,
            extra_metrics=extra,
        )

    def loading_penalty(self, generative_outputs: dict[str, Tensor]) -> Tensor:
        """Return the share of a cell in the negative log-prior of the loadings, (cells,)."""
        vector = generative_outputs["peak_vector"].float()
        gram = self.peak_table.T @ self.peak_table
        # sum over peaks of (e_p . u)^2, without multiplying out the peaks
        squares = ((vector @ gram) * vector).sum(-1)
        return 0.5 * self.loading_precision / self.n_train * squares

    def rna_log_prob(self, batch: PairedBatch, log_expression: Tensor) -> Tensor:
        """Return log p(x | z) of each cell, zero where the cell has no RNA, (cells,)."""
        value = negative_binomial_log_prob(
            batch.rna,
            batch.rna_depth.log() + log_expression,
            self.log_inverse_dispersion.clamp(-10, 12).exp(),
        )
        return value * batch.has_rna.squeeze(1)

    def atac_log_prob(self, batch: PairedBatch, peak_vector: Tensor) -> Tensor:
        """Return log p(y | z) of each cell, zero where the cell has no ATAC, (cells,).

        While training on many peaks it is estimated, without bias, from a sample of peaks.
        """
        target, peaks, weight = self._atac_target(batch.atac), None, 1.0
        if self.training and self.peaks_per_step < self.n_peaks:
            peaks = self._sample_peaks(peak_vector.device)
            target, weight = target.select_features(peaks), self.n_peaks / len(peaks)
        log_rate = batch.atac_depth.log() + self.peak_log_rates(peak_vector, peaks)
        if self.atac_target == "binary":
            # P(at least one Poisson event) as a logit: log(expm1(rate))
            rate = log_rate.clamp(max=4.0).exp()
            value = bernoulli_log_prob(target, rate + torch.log(-torch.expm1(-rate)), weight)
        else:
            gate = self.gate_logits if peaks is None else self.gate_logits[peaks]
            value = zero_inflated_poisson_log_prob(target, log_rate, gate, weight)
        return value * batch.has_atac.squeeze(1)

    def _sample_peaks(self, device: torch.device) -> Tensor:
        return torch.randperm(self.n_peaks, device=device)[: self.peaks_per_step].sort().values

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
        n_cells: int | None = None,
    ) -> Tensor:
        r"""Return the paper's cycle term of each cell, (cells,).

        .. math::

            KL(q(z|x, y) \,\|\, q(z|\hat x)) + KL(q(z|x, y) \,\|\, q(z|\hat y))

        The imputed profiles are the means of the likelihoods at the observed depth; of peaks a
        sample where they are many. `n_cells` takes the first cells of the minibatch only.
        """
        cells = slice(n_cells)
        peaks = self._sample_peaks(posterior.mean.device)
        depth, covariates = batch.rna_depth[cells], batch.covariates[cells]
        expression = generative_outputs["log_expression"][cells].exp() * depth
        vector = generative_outputs["peak_vector"][cells]
        rates = self.peak_log_rates(vector, peaks).clamp(max=0).exp()
        rna = self.rna_encoder(expression, depth, covariates)
        atac = self.atac_encoder(rates, self.peak_table, covariates, peaks)
        yes = torch.ones_like(batch.has_rna[cells])
        from_rna = self.fusion(rna, atac, yes, ~yes)
        from_atac = self.fusion(rna, atac, ~yes, yes)
        mean, variance = posterior.mean[cells], posterior.variance[cells]
        if self.detach_cycle:
            mean, variance = mean.detach(), variance.detach()
        joint = Normal(mean, variance.sqrt())
        total = torch.zeros_like(mean[:, 0])
        for single in (from_rna, from_atac):
            other = Normal(single.mean.float(), single.variance.float().sqrt())
            total = total + kl_divergence(joint, other).sum(-1)
        return total

    # ---- evaluation -----------------------------------------------------------------------

    @torch.inference_mode()
    @auto_move_data
    def marginal_ll(
        self,
        tensors: dict[str, Tensor],
        n_mc_samples: int,
        return_mean: bool = False,
        n_mc_samples_per_pass: int = 1,
    ) -> Tensor | float:
        """Estimate log p(x, y) by importance sampling from the posterior, per cell or mean."""
        inference = self.inference(self.read_batch(tensors))
        batch, qz = inference["batch"], inference["qz"]
        terms = []
        for _ in range(n_mc_samples):
            z = qz.sample()
            log_resp = self.log_responsibilities(inference["posterior"])
            out = self.generative(z, log_resp.exp(), batch.covariates)
            log_prior = (
                self.prior.log_prob(z) if self.mixture_active else self.standard_prior.log_prob(z)
            )
            terms.append(
                self.rna_log_prob(batch, out["log_expression"])
                + self.atac_log_prob(batch, out["peak_vector"])
                + log_prior
                - qz.log_prob(z).sum(-1)
            )
        value = torch.logsumexp(torch.stack(terms), dim=0) - torch.tensor(
            float(n_mc_samples)
        ).log().to(qz.loc)
        return value.mean().item() if return_mean else value.cpu()

    @torch.inference_mode()
    def sample(
        self, tensors: dict[str, Tensor], n_samples: int = 1, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Draw counts from the posterior predictive; see the model's method."""
        inference = self.inference(self.read_batch(tensors))
        out = self.generative(
            inference["z"], inference["log_responsibilities"].exp(), inference["batch"].covariates
        )
        return self.draw(inference["batch"], out)

    def draw(self, batch: PairedBatch, out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Draw counts of all features from the likelihoods, (cells, genes) and (cells, peaks)."""
        from atacvi.likelihoods import NegativeBinomial, ZeroInflatedPoisson

        mean = batch.rna_depth * out["log_expression"].exp()
        expression = NegativeBinomial(mean, self.log_inverse_dispersion.exp()).sample()
        rate = batch.atac_depth * self.peak_log_rates(out["peak_vector"]).exp()
        if self.atac_target == "binary":
            return expression, torch.bernoulli(-torch.expm1(-rate))
        return expression, ZeroInflatedPoisson(rate, self.gate_logits).sample()
