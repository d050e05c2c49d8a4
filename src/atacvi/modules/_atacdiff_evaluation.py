"""Marginal likelihood and posterior predictive draws of ATACDiffModule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import auto_move_data
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from atacvi.modules._minibatch import PeakBatch


class ATACDiffEvaluationMixin:
    """What is estimated from a trained module."""

    read_batch: Callable[..., PeakBatch]
    inference: Callable[..., dict[str, Any]]
    generative: Callable[..., dict[str, Tensor]]
    atac_log_prob: Callable[..., Tensor]
    draw_accessibility: Callable[..., Any]

    @torch.inference_mode()
    @auto_move_data
    def marginal_ll(
        self,
        tensors: dict[str, Tensor],
        n_mc_samples: int,
        return_mean: bool = False,
        n_mc_samples_per_pass: int = 1,
    ) -> Tensor | float:
        """Estimate log p(y) of the autoencoder by importance sampling, per cell or mean."""
        inference = self.inference(self.read_batch(tensors))
        batch, qh = inference["batch"], inference["qz"]
        standard = torch.distributions.Normal(0.0, 1.0)
        terms = []
        for _ in range(n_mc_samples):
            h = qh.sample()
            log_prob = self.atac_log_prob(
                batch, self.generative(h, batch.covariates)["peak_vector"]
            )
            terms.append(log_prob + (standard.log_prob(h) - qh.log_prob(h)).sum(-1))
        value = torch.logsumexp(torch.stack(terms), dim=0) - math.log(n_mc_samples)
        return value.mean().item() if return_mean else value.cpu()

    @torch.inference_mode()
    def sample(self, tensors: dict[str, Tensor], n_samples: int = 1, **_: Any) -> Any:
        """Draw accessibility of the cells from the posterior predictive, at their depth."""
        inference = self.inference(self.read_batch(tensors))
        batch = inference["batch"]
        vector = self.generative(inference["z"], batch.covariates)["peak_vector"]
        return self.draw_accessibility(vector, batch.depth.view(-1), "counts")
