"""What the presets of MultiViewModel mean."""

from __future__ import annotations

from typing import Any

_MODEL: dict[str, dict[str, Any]] = {
    "default": {},
    # Li et al. 2022, Methods; where the text is silent, the authors' code without its defects.
    "paper": {
        "attention": "feature",
        "fusion": "concat",
        "atac_target": "tfidf",
        "linear_decoder": False,
        "separate_gate": True,
        "modality_dropout": 0.0,
        "held_out_fraction": 0.0,
        "loading_precision": 0.0,
    },
}
_TRAINING: dict[str, dict[str, Any]] = {
    # Sparse counts support fewer latent
    # directions than the plain ELBO of the training cells spends, and noise fills the others; with
    # a larger weight they fall to the prior, and the ELBO of held-out cells is better for it.
    "default": {"max_kl_weight": 2.0},
    "paper": {"optimizer": "Adam", "lr": 5e-3, "eps": 0.01, "weight_decay": 1e-6},
}


def _lookup(table: dict[str, dict[str, Any]], preset: str) -> dict[str, Any]:
    if preset not in table:
        msg = f"preset={preset!r} is unknown; choose one of {', '.join(table)}."
        raise ValueError(msg)
    return dict(table[preset])


def model_defaults(preset: str) -> dict[str, Any]:
    """Return the module arguments of a preset.

    Raises
    ------
    ValueError
        If the preset is unknown.
    """
    return _lookup(_MODEL, preset)


def training_defaults(preset: str) -> dict[str, Any]:
    """Return the plan arguments of a preset.

    Raises
    ------
    ValueError
        If the preset is unknown.
    """
    return _lookup(_TRAINING, preset)
