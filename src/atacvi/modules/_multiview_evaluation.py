"""Marginal likelihood and posterior predictive draws of MultiViewModule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import auto_move_data
from torch import Tensor, nn

from atacvi.likelihoods import NegativeBinomial, ZeroInflatedPoisson

if TYPE_CHECKING:
    from collections.abc import Callable

    from atacvi.modules._minibatch import PairedBatch
    from atacvi.modules._multiview_loss import AtacTarget
    from atacvi.priors import GaussianMixturePrior, StandardNormalPrior


class MultiViewEvaluationMixin:
    """What is estimated or drawn from a trained module."""

    atac_target: AtacTarget
    mixture_active: Tensor
    prior: GaussianMixturePrior
    standard_prior: StandardNormalPrior
    gate_logits: nn.Parameter
    log_inverse_dispersion: nn.Parameter
    read_batch: Callable[..., PairedBatch]
    inference: Callable[..., dict[str, Any]]
    generative: Callable[..., dict[str, Tensor]]
    log_responsibilities: Callable[..., Tensor]
    rna_log_prob: Callable[..., Tensor]
    atac_log_prob: Callable[..., Tensor]
    peak_log_rates: Callable[..., Tensor]

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
        mean = batch.rna_depth * out["log_expression"].exp()
        expression = NegativeBinomial(mean, self.log_inverse_dispersion.exp()).sample()
        rate = batch.atac_depth * self.peak_log_rates(out["peak_vector"]).exp()
        if self.atac_target == "binary":
            return expression, torch.bernoulli(-torch.expm1(-rate))
        return expression, ZeroInflatedPoisson(rate, self.gate_logits).sample()
