"""The module of ATACDiffModel: peaks, a semantic latent with a mixture prior, latent diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.module.base import BaseModuleClass, auto_move_data
from torch import Tensor, nn
from torch.distributions import Normal

from atacvi._constants import BATCH_KEY, CONDITION_KEY, LABELS_KEY, SIZE_FACTOR_KEY, X_KEY
from atacvi.diffusion import FlowMatching, GaussianDiffusion
from atacvi.likelihoods import SparseTarget
from atacvi.modules._atacdiff_evaluation import ATACDiffEvaluationMixin
from atacvi.modules._atacdiff_loss import ATACDiffLossMixin
from atacvi.modules._atacdiff_sampling import ATACDiffSamplingMixin, LatentPrior
from atacvi.modules._minibatch import PeakBatch, encode_covariates, row_sums
from atacvi.modules._peak_likelihood import PEAK_LIKELIHOODS
from atacvi.nn import (
    AuxiliaryDecoder,
    AuxiliaryEncoder,
    GaussianDenoiser,
    PeakAutoencoder,
    Posterior,
    ResidualDenoiser,
    TransformerDenoiser,
)
from atacvi.priors import GaussianMixturePrior, StandardNormalPrior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atacvi.modules._atacdiff_loss import Information
    from atacvi.modules._peak_likelihood import PeakLikelihood

Stage = Literal["autoencoder", "auxiliary", "diffusion", "prior"]
STAGES: tuple[Stage, ...] = ("autoencoder", "auxiliary", "diffusion", "prior")
Objective = Literal["flow", "v", "x0", "eps"]

# Below this number of peaks all are decoded at each step; above, a sample of this size.
PEAKS_PER_STEP = 16_384

# Cells from which a network adds to the spectral embedding. With fewer, what it learns raises the
# likelihood of held-out cells and blurs their types all the same.
MIN_CELLS_REFINEMENT = 5_000


def _check_choices(**given: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, allowed) in given.items():
        if value not in allowed:
            msg = f"{name}={value!r} is unknown; choose one of {', '.join(allowed)}."
            raise ValueError(msg)


class ATACDiffModule(
    ATACDiffLossMixin, ATACDiffSamplingMixin, ATACDiffEvaluationMixin, BaseModuleClass
):
    r"""Latent diffusion of accessibility, conditioned on a semantic latent (ATAC-Diff).

    .. math::

        c \sim \mathrm{Cat}(\pi), \quad z \mid c \sim N(\mu_c, \mathrm{diag}(v_c)), \quad
        h \mid z \sim \text{diffusion}, \quad y_p \sim \mathrm{Poisson}(l \rho_p(h))

    An autoencoder gives h, an auxiliary autoencoder z; a denoiser learns h given z, label, batch
    and depth (Huang et al., NeurIPS 2024, Eq. 10-18).

    Parameters
    ----------
    n_peaks
        Number of peaks.
    n_batch, n_cats_per_cov, n_continuous_cov
        Batches, categories of each categorical covariate, continuous covariates.
    n_labels
        Labels, without the unlabelled category; 0 for none.
    n_condition
        Width of the further view of a cell that the auxiliary encoder sees.
    n_clusters
        Number of mixture components.
    n_latent, n_latent_ae
        Dimensions of z and of h.
    n_hidden, n_embed
        Widths of the hidden layers and of a peak's row.
    n_hidden_denoiser, n_blocks
        Width and depth of the denoiser.
    likelihood
        ``"poisson"``, ``"bernoulli"`` (open or closed) or ``"zip"``.
    insertions
        Whether counts are Tn5 insertions, of which a fragment has two; they are then halved,
        rounded up.
    objective
        ``"flow"`` (flow matching), or ``"v"``, ``"x0"``, ``"eps"`` of a Gaussian diffusion.
    schedule, n_diffusion_steps, sampling_variance
        Noise schedule, levels and variance of the reverse steps of a Gaussian diffusion.
    denoiser
        ``"residual"`` or ``"transformer"`` (the paper's).
    n_spectral
        Spectral components that both encoders see, and from which z starts; 0 for encoders of open
        peaks.
    refine
        Whether a network adds to the spectral embedding of z; ``None`` does so from 5,000 training
        cells on.
    unit_sphere
        Whether h is scaled to unit length, as in the paper, and not standardised.
    prior_weight
        Weight of KL(q(z|x) || p(z)); λ - α - 1 of the paper.
    information, information_weight
        Term that keeps information in z: ``"infonce"`` between random halves of a cell's open
        peaks, ``"mmd"`` to the mixture, or ``"none"``; and its weight α.
    kernel
        ``"imq"`` or ``"rbf"``, of the MMD.
    condition_dropout
        Probability of hiding z, and of hiding the label, from the denoiser while training; 1 hides
        them always, also when cells are drawn.
    joint
        Train the denoiser together with the auxiliary branch, its gradient entering z.
    loading_precision
        Precision of the Gaussian prior on what the latents add to log-rates.
    calibrate
        Whether training ends by setting the guidance of cells of a label, and how far generated
        cells lie apart, by real cells.
    dropout_rate
        Dropout of the encoders.
    peaks_per_step
        Peaks decoded at each training step; ``None`` chooses.

    Raises
    ------
    ValueError
        If an argument is none of its choices.
    """

    latent_mean: Tensor
    latent_scale: Tensor
    depth_statistics: Tensor
    atac_median_depth: Tensor
    mixture_active: Tensor
    n_train: Tensor
    label_guidance: Tensor
    spread_centre: Tensor
    spread_matrix: Tensor

    def __init__(
        self,
        n_peaks: int,
        *,
        n_batch: int = 1,
        n_cats_per_cov: Sequence[int] | None = None,
        n_continuous_cov: int = 0,
        n_labels: int = 0,
        n_condition: int = 0,
        n_clusters: int = 10,
        n_latent: int = 30,
        n_latent_ae: int = 50,
        n_hidden: int = 128,
        n_embed: int = 64,
        n_hidden_denoiser: int = 256,
        n_blocks: int = 3,
        likelihood: PeakLikelihood = "bernoulli",
        insertions: bool = False,
        objective: Objective = "flow",
        schedule: Literal["linear", "cosine"] = "cosine",
        n_diffusion_steps: int = 1000,
        sampling_variance: Literal["fixed_small", "fixed_large"] = "fixed_small",
        denoiser: Literal["residual", "transformer"] = "residual",
        n_spectral: int = 64,
        refine: bool | None = None,
        unit_sphere: bool = False,
        prior_weight: float = 1.0,
        information: Information = "infonce",
        information_weight: float = 10.0,
        kernel: Literal["imq", "rbf"] = "imq",
        condition_dropout: float = 0.1,
        joint: bool = False,
        loading_precision: float = 10.0,
        calibrate: bool = True,
        dropout_rate: float = 0.1,
        peaks_per_step: int | None = None,
    ) -> None:
        super().__init__()
        _check_choices(
            likelihood=(likelihood, PEAK_LIKELIHOODS),
            objective=(objective, ("flow", "v", "x0", "eps")),
            denoiser=(denoiser, ("residual", "transformer")),
            information=(information, ("infonce", "mmd", "none")),
            kernel=(kernel, ("imq", "rbf")),
        )
        self.n_peaks, self.n_latent, self.n_latent_ae = n_peaks, n_latent, n_latent_ae
        self.n_batch, self.n_labels, self.n_clusters = n_batch, n_labels, n_clusters
        self.n_cats_per_cov = tuple(n_cats_per_cov or ())
        self.n_continuous_cov, self.n_condition = n_continuous_cov, n_condition
        self.likelihood, self.insertions = likelihood, insertions
        self.prior_weight, self.kernel = prior_weight, kernel
        self.information, self.information_weight = information, information_weight
        self.condition_dropout, self.joint = condition_dropout, joint
        self.loading_precision, self.unit_sphere = loading_precision, unit_sphere
        self.calibrate = calibrate
        self.peaks_per_step = min(n_peaks, peaks_per_step or PEAKS_PER_STEP)
        self.refine = refine
        self.stage: Stage = "autoencoder"
        self.process: FlowMatching | GaussianDiffusion = (
            FlowMatching()
            if objective == "flow"
            else GaussianDiffusion(n_diffusion_steps, schedule, objective, sampling_variance)
        )
        n_cov = (n_batch if n_batch > 1 else 0) + sum(self.n_cats_per_cov) + n_continuous_cov
        self.n_covariates = n_cov
        self.autoencoder = PeakAutoencoder(
            n_peaks,
            n_latent_ae,
            n_hidden,
            n_embed,
            n_spectral,
            n_cov,
            dropout_rate,
            unit_sphere=unit_sphere,
        )
        self.auxiliary_encoder = AuxiliaryEncoder(
            n_peaks, n_latent, n_hidden, n_embed, n_spectral, n_condition, dropout_rate
        )
        self.auxiliary_decoder = AuxiliaryDecoder(n_peaks, n_latent, n_cov)
        self.gate_logits = nn.Parameter(torch.full((n_peaks,), -3.0))
        make = ResidualDenoiser if denoiser == "residual" else TransformerDenoiser
        self.denoiser = make(
            n_latent_ae,
            n_latent,
            n_hidden_denoiser,
            n_blocks,
            n_labels,
            n_batch if n_batch > 1 else 0,
            use_log_depth=True,
        )
        # What the denoiser adds to once `training.start_denoiser` has fitted it
        self.gaussian_denoiser = GaussianDenoiser(
            n_latent_ae, n_latent, n_labels, n_batch if n_batch > 1 else 0
        )
        self.prior = GaussianMixturePrior(n_clusters, n_latent)
        self.standard_prior = StandardNormalPrior(n_latent)
        self._register_buffers()

    def _register_buffers(self) -> None:
        """Add what is saved with the weights but not learnt by gradient."""
        self.register_buffer("latent_mean", torch.zeros(self.n_latent_ae))
        self.register_buffer("latent_scale", torch.ones(self.n_latent_ae))
        self.register_buffer("depth_statistics", torch.tensor([0.0, 1.0]))
        self.register_buffer("atac_median_depth", torch.tensor(1e3))
        self.register_buffer("mixture_active", torch.tensor(False))
        self.register_buffer("n_train", torch.tensor(1e4))
        self.register_buffer("covariate_mean", torch.zeros(self.n_covariates))
        # The prior of z and log depth that generation draws from, see `set_latent_prior`
        self.register_buffer("latent_prior_means", torch.zeros(0, self.n_latent + 1))
        self.register_buffer(
            "latent_prior_factors", torch.zeros(0, self.n_latent + 1, self.n_latent + 1)
        )
        self.register_buffer("latent_prior_weights", torch.zeros(0))
        self.register_buffer("latent_prior_labels", torch.zeros(0, dtype=torch.long))
        self.register_buffer("latent_prior_batches", torch.zeros(0, self.n_batch))
        # Guidance of cells of a label, see `atacvi.training.calibrate_guidance`
        self.register_buffer("label_guidance", torch.tensor(1.0))
        # How far generated cells lie apart, see `atacvi.training.match_spread`
        width = self.autoencoder.table.shape[1]
        self.register_buffer("spread_centre", torch.zeros(width))
        self.register_buffer("spread_matrix", torch.eye(width))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take over the number of components of the latent prior, which training chooses."""
        weights = state_dict.get(prefix + "latent_prior_weights")
        if weights is not None:  # Models saved before batches were drawn with z have none of it.
            shares = torch.ones(1) if self.n_batch == 1 else state_dict[prefix + "covariate_mean"]
            shares = shares[: self.n_batch].expand(len(weights), -1)
            state_dict.setdefault(prefix + "latent_prior_batches", shares)
        for name in LatentPrior._fields:
            key = f"latent_prior_{name}"
            if prefix + key in state_dict:
                setattr(self, key, torch.empty_like(state_dict[prefix + key]).to(self.device))
        # Models saved before guidance and spread were calibrated were drawn from without.
        for name in ("label_guidance", "spread_centre", "spread_matrix"):
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def resize_mixture(self, n_clusters: int) -> None:
        """Give the prior another number of components."""
        self.n_clusters = n_clusters
        self.prior = GaussianMixturePrior(n_clusters, self.n_latent).to(self.latent_mean.device)

    @property
    def refines(self) -> bool:
        """Whether a network adds to the spectral embedding."""
        if self.refine is not None:
            return self.refine
        return bool(self.n_train >= MIN_CELLS_REFINEMENT)

    def begin(self, stage: Stage) -> None:
        """Begin a stage of training: only its parts learn."""
        self.stage = stage
        parts = {
            "autoencoder": (self.autoencoder,),
            "auxiliary": (self.auxiliary_encoder, self.auxiliary_decoder, self.prior),
            "diffusion": (self.denoiser,),
            "prior": (),
        }[stage]
        if stage == "auxiliary" and self.joint:
            parts = (*parts, self.denoiser)
        self.requires_grad_(False)
        for part in parts:
            part.requires_grad_(True)
        if self.auxiliary_encoder.spectral is not None and not self.refines:
            self.auxiliary_encoder.mean.requires_grad_(False)
        self.gate_logits.requires_grad_(stage == "autoencoder" and self.likelihood == "zip")

    # ---- reading ----------------------------------------------------------------------------

    def read_batch(
        self, tensors: dict[str, Tensor], transform_batch: int | None = None
    ) -> PeakBatch:
        """Return the minibatch as sparse counts and covariates."""
        atac = SparseTarget.from_tensor(tensors[X_KEY])
        if self.insertions:
            atac = atac._replace(values=torch.ceil(atac.values / 2))
        if self.likelihood == "bernoulli":
            atac = atac._replace(values=torch.ones_like(atac.values))
        spectral = self.auxiliary_encoder.spectral
        given = tensors.get(SIZE_FACTOR_KEY)
        depth = row_sums(atac) if given is None else given.float().view(-1, 1)
        return PeakBatch(
            atac=atac,
            depth=depth.clamp(min=1e-6 if given is not None else 1.0),
            covariates=self.read_covariates(tensors, transform_batch),
            label=tensors[LABELS_KEY].long().view(-1),
            batch=tensors[BATCH_KEY].long().view(-1),
            condition=tensors[CONDITION_KEY].float() if CONDITION_KEY in tensors else None,
            components=None if spectral is None else spectral.components(atac),
        )

    def read_covariates(self, tensors: dict[str, Tensor], transform_batch: int | None) -> Tensor:
        """Return the covariates, of another batch if asked, shape (cells, covariates)."""
        return encode_covariates(
            tensors, self.n_batch, self.n_cats_per_cov, self.n_continuous_cov, transform_batch
        )

    # ---- inference --------------------------------------------------------------------------

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        return {"batch": self.read_batch(tensors)}

    @auto_move_data
    def inference(self, batch: PeakBatch, n_samples: int = 1) -> dict[str, Any]:
        """Return the posteriors of h and of z, a sample of h and the responsibilities.

        Parameters
        ----------
        batch
            Minibatch.
        n_samples
            Samples of h; they form a leading axis when more than one.
        """
        posterior = self.latent_posterior(batch)
        qh = Normal(posterior.mean.float(), posterior.variance.float().sqrt())
        auxiliary = self.auxiliary_posterior(batch)
        return {
            "z": qh.rsample() if n_samples == 1 else qh.rsample((n_samples,)),
            "qz": qh,
            "posterior": Posterior(qh.loc, qh.variance),
            "auxiliary": auxiliary,
            "log_responsibilities": self.log_responsibilities(auxiliary),
            "batch": batch,
        }

    def latent_posterior(self, batch: PeakBatch) -> Posterior:
        """Return mean and variance of h, each (cells, n_latent_ae)."""
        spectral = self.auxiliary_encoder.spectral
        return self.autoencoder.encode(batch.atac, spectral, batch.components)

    def auxiliary_posterior(self, batch: PeakBatch) -> Posterior:
        """Return mean and variance of z, each (cells, n_latent)."""
        posterior = self.auxiliary_encoder(batch.atac, batch.condition, batch.components)
        return Posterior(posterior.mean.float(), posterior.variance.float())

    def log_responsibilities(self, posterior: Posterior) -> Tensor:
        """Return log p(c | cell), uniform before the mixture is set, (cells, clusters)."""
        if not self.mixture_active:
            shape = (*posterior.mean.shape[:-1], self.n_clusters)
            return posterior.mean.new_full(shape, 1.0 / self.n_clusters).log()
        return self.prior.log_responsibilities(posterior.mean, posterior.variance)

    # ---- generation -------------------------------------------------------------------------

    def _get_generative_input(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        transform_batch: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        covariates = inference_outputs["batch"].covariates
        if transform_batch is not None:
            covariates = self.read_covariates(tensors, transform_batch)
        return {"z": inference_outputs["z"], "covariates": covariates}

    @auto_move_data
    def generative(self, z: Tensor, covariates: Tensor) -> dict[str, Tensor]:
        """Return the vector that gives log-rates of peaks by `peak_log_rates`."""
        if z.ndim == 3:
            covariates = covariates.expand(z.shape[0], -1, -1)
        return {"peak_vector": self.autoencoder.decode(z, covariates)}

    def peak_vectors(self, z: Tensor, covariates: Tensor, responsibilities: Tensor) -> Tensor:
        """Return the vectors of latents h; the clusters take no part."""
        return self.autoencoder.decode(z, covariates)

    def auxiliary_log_rates(
        self, z: Tensor, covariates: Tensor, peaks: Tensor | None = None
    ) -> Tensor:
        """Return log-rates of the auxiliary decoder at unit library size, (cells, peaks)."""
        decoder = self.auxiliary_decoder
        rows = decoder.loadings if peaks is None else decoder.loadings[peaks]
        offset = decoder.offset if peaks is None else decoder.offset[peaks]
        return torch.addmm(offset, decoder.cell_vector(z, covariates), rows.T).float()

    def peak_log_rates(self, peak_vector: Tensor, peaks: Tensor | None = None) -> Tensor:
        """Return log-rates at unit library size, shape (cells, peaks)."""
        head, table = self.autoencoder.head, self.autoencoder.table
        return head.log_rates(peak_vector, table, peaks).float()
