"""What the presets of ATACDiffModel mean."""

from __future__ import annotations

from typing import Any

_MODULE: dict[str, dict[str, Any]] = {
    "default": {},
    # Huang et al. 2024; where the text is silent, the authors' code without its defects.
    "paper": {
        "n_latent": 32,
        "n_latent_ae": 128,
        "n_clusters": 30,
        "objective": "x0",
        "schedule": "linear",
        "n_diffusion_steps": 1000,
        "sampling_variance": "fixed_large",
        "denoiser": "transformer",
        "n_hidden_denoiser": 128,
        "n_blocks": 6,
        "n_spectral": 0,
        "unit_sphere": True,
        # λ = 1.1001 and α = 0.1: λ - α - 1 = 1e-4
        "prior_weight": 1e-4,
        "information": "mmd",
        "information_weight": 0.1,
        "joint": True,
        "loading_precision": 0.0,
        "calibrate": False,
    },
}


def atacdiff_defaults(preset: str) -> dict[str, Any]:
    """Return the model's and the module's arguments of a preset.

    Raises
    ------
    ValueError
        If the preset is unknown.
    """
    if preset not in _MODULE:
        msg = f"preset={preset!r} is unknown; choose one of {', '.join(_MODULE)}."
        raise ValueError(msg)
    return dict(_MODULE[preset])
