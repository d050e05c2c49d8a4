"""The module of MultiViewModel: paired RNA and ATAC with a Gaussian-mixture latent (scMVP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.module.base import BaseModuleClass, auto_move_data
from torch import Tensor, nn
from torch.distributions import Normal

from atacvi.modules._minibatch import (
    PairedBatch,
    encode_covariates,
    read_counts,
    rna_library_size,
    row_sums,
    split_counts,
)
from atacvi.modules._multiview_evaluation import MultiViewEvaluationMixin
from atacvi.modules._multiview_loss import MultiViewLossMixin
from atacvi.nn import (
    AtacEncoder,
    ClusterGatedTrunk,
    ConcatFusion,
    ExpertFusion,
    ExpressionHead,
    LearntRows,
    PeakHead,
    Posterior,
    RnaEncoder,
)
from atacvi.priors import GaussianMixturePrior, StandardNormalPrior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atacvi.modules._multiview_loss import AtacTarget
    from atacvi.nn.encoders import Attention

Fusion = Literal["experts", "concat"]
Modality = Literal["joint", "rna", "atac"]

# Below this number of peaks all are decoded at each step; above, a sample of this size.
PEAKS_PER_STEP = 8_192


class MultiViewModule(MultiViewLossMixin, MultiViewEvaluationMixin, BaseModuleClass):
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
    latent_weights: Tensor

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
        held_out_fraction: float = 0.0,
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
        self.held_out_fraction, self.loading_precision = held_out_fraction, loading_precision
        self.rna_weight, self.atac_weight = rna_weight, atac_weight
        self.peaks_per_step = min(n_peaks, peaks_per_step or PEAKS_PER_STEP)
        self.detach_cycle, self.cycle_weight = detach_cycle, 0.0

        n_cov = (n_batch if n_batch > 1 else 0) + sum(self.n_cats_per_cov) + n_continuous_cov
        self.n_covariates = n_cov
        # The order in which the parts are built is that of their random draws: keep it.
        self.peak_table = nn.Parameter(torch.randn(n_peaks, n_embed) / n_embed**0.5)
        self._build_encoders(
            n_cov if encode_covariates else 0,
            dropout_rate,
            separate_gate=separate_gate,
            attention=attention,
            n_heads=n_heads,
            peak_block=peak_block,
            fusion=fusion,
        )
        self._build_decoders(linear=linear_decoder)
        self.prior = GaussianMixturePrior(n_clusters, n_latent)
        self.standard_prior = StandardNormalPrior(n_latent)
        self._register_buffers(gene_columns, peak_columns)

    # ---- the parts ------------------------------------------------------------------------

    def _build_encoders(
        self,
        n_seen: int,
        dropout_rate: float,
        *,
        separate_gate: bool,
        attention: Attention,
        n_heads: int,
        peak_block: Tensor | None,
        fusion: Fusion,
    ) -> None:
        """Set the encoders, which see `n_seen` covariates, and what joins them."""
        self.rna_encoder = RnaEncoder(
            self.n_genes, self.n_hidden, n_seen, dropout_rate, separate_gate=separate_gate
        )
        self.atac_encoder = AtacEncoder(
            self.n_peaks,
            self.peak_table.shape[1],
            self.n_hidden,
            n_seen,
            attention=attention,
            n_heads=n_heads,
            block=peak_block,
            dropout_rate=dropout_rate,
        )
        fuse = ExpertFusion if fusion == "experts" else ConcatFusion
        self.fusion = fuse(self.n_hidden, self.n_latent)

    def _build_decoders(self, *, linear: bool) -> None:
        """Set what turns z into the parameters of the likelihoods."""
        widths = (self.n_latent, self.n_covariates, self.n_hidden)
        n_embed = self.peak_table.shape[1]
        self.trunk = ClusterGatedTrunk(*widths, self.n_clusters)
        self.rna_head = ExpressionHead(*widths, self.n_genes, linear=linear)
        self.atac_head = PeakHead(*widths, n_embed, self.n_peaks, linear=linear)
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(self.n_genes))
        self.gate_logits = nn.Parameter(torch.full((self.n_peaks,), -3.0))

    def _register_buffers(self, gene_columns: Tensor | None, peak_columns: Tensor | None) -> None:
        """Add what is saved with the weights but not learnt by gradient."""
        self.register_buffer("mixture_active", torch.tensor(False))
        self.register_buffer("atac_median_depth", torch.tensor(1e4))
        self.register_buffer("n_train", torch.tensor(1e4))
        self.register_buffer("latent_weights", torch.eye(self.n_latent))
        self.register_buffer("gene_columns", gene_columns)
        columns = torch.empty(0, dtype=torch.long) if peak_columns is None else peak_columns
        self.register_buffer("peak_columns", columns)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Leave the latent as it is of models saved before its weights were chosen."""
        state_dict.pop(prefix + "latent_emphasis", None)
        state_dict.setdefault(prefix + "latent_weights", torch.eye(self.n_latent))
        super()._load_from_state_dict(state_dict, prefix, *args)

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
        seen, target = self.split_batch(batch, 1.0 - self.held_out_fraction)
        return {"batch": seen, "modality": modality, "target": target}

    def split_batch(self, batch: PairedBatch, seen: float) -> tuple[PairedBatch, PairedBatch]:
        """Split the counts at random: a fraction `seen` to be encoded, the others to be explained."""
        (rna, rna_rest), (atac, atac_rest) = (
            split_counts(batch.rna, seen),
            split_counts(batch.atac, seen),
        )
        target = batch._replace(
            rna=rna_rest,
            atac=atac_rest,
            rna_depth=batch.rna_depth * (1.0 - seen),
            atac_depth=batch.atac_depth * (1.0 - seen),
        )
        return batch._replace(rna=rna, atac=atac), target

    def hidden_layers(
        self, batch: PairedBatch, learnt: LearntRows | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden vectors of both modalities, each (cells, n_hidden).

        `learnt` are the rows of peaks that get a gradient, all when ``None``.
        """
        rna = self.rna_encoder(batch.rna, row_sums(batch.rna), batch.covariates)
        atac = self.atac_encoder(batch.atac, self.peak_table, batch.covariates, learnt=learnt)
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
        learnt = self.learnt_rows(batch.atac)
        posterior = self.fusion(*self.hidden_layers(batch, learnt), has_rna, has_atac)
        # Unchecked: a check reads the tensors, for which an accelerator would wait in each step.
        scale = posterior.variance.float().sqrt()
        qz = Normal(posterior.mean.float(), scale, validate_args=False)
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

    def peak_vectors(self, z: Tensor, covariates: Tensor, responsibilities: Tensor) -> Tensor:
        """Return what gives rates of peaks, without the genes, shape (cells, n_embed)."""
        return self.atac_head.cell_vector(
            z, covariates, self.trunk(z, covariates, responsibilities)
        )

    def peak_log_rates(self, peak_vector: Tensor, peaks: Tensor | None = None) -> Tensor:
        """Return log-rates at unit library size, shape (cells, peaks)."""
        return self.atac_head.log_rates(peak_vector, self.peak_table, peaks).float()
