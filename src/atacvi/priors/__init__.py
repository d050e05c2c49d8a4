"""Priors of the latent space as torch modules: a Gaussian mixture and the standard normal."""

from __future__ import annotations

from atacvi.priors._diagnostics import (
    CollapseWarning,
    EffectiveComponents,
    balance_penalty,
    effective_n_components,
    sharpness_penalty,
    warn_on_collapse,
)
from atacvi.priors._initialization import (
    MixtureFit,
    choose_n_components,
    fit_mixture,
    moments_by_label,
)
from atacvi.priors._splitting import split_to_number
from atacvi.priors.gaussian_mixture import GaussianMixturePrior
from atacvi.priors.standard_normal import PriorKL, StandardNormalPrior

__all__ = [
    "CollapseWarning",
    "EffectiveComponents",
    "GaussianMixturePrior",
    "MixtureFit",
    "PriorKL",
    "StandardNormalPrior",
    "balance_penalty",
    "choose_n_components",
    "effective_n_components",
    "fit_mixture",
    "moments_by_label",
    "sharpness_penalty",
    "split_to_number",
    "warn_on_collapse",
]
