"""Settings of the simulation: presets, defaults and checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._genome import MAX_PEAKS

# Sizes and medians of a real data set of each kind; see the docstring.
PRESETS: dict[str | None, dict[str, Any]] = {
    None: {"n_genes": 1000, "n_peaks": 10_000, "genes": 250, "peaks": 600, "effect_size": 1.0},
    "snare": {"n_genes": 1700, "n_peaks": 25_000, "genes": 100, "peaks": 80, "effect_size": 0.65},
    "10x": {
        "n_genes": 20_000,
        "n_peaks": 100_000,
        "genes": 1700,
        "peaks": 7000,
        "effect_size": 0.8,
    },
}
_MAX_PRESET_SHARE = 0.25  # a preset's median is lowered to this share of few features
_MAX_SHARE = 0.8  # above, the depth that gives a median explodes


def default_median(given: float | None, usual: int, n_features: int) -> float:
    """The median asked for, or the usual one, lowered where there are few features."""
    if given is None:
        return float(min(usual, max(1.0, _MAX_PRESET_SHARE * n_features)))
    return float(given)


def check_arguments(params: dict) -> None:
    """Refuse settings that have no meaning, naming the argument and its range."""
    for name in ("n_cells", "n_genes", "n_peaks", "n_cell_types", "n_batches"):
        if params[name] != int(params[name]) or params[name] < 1:
            msg = f"`{name}` is {params[name]}; it must be a whole number of at least 1."
            raise ValueError(msg)
    for name in ("n_cell_types", "n_batches"):
        if params[name] > params["n_cells"]:
            msg = f"`{name}` is {params[name]}; it must not exceed n_cells={params['n_cells']}."
            raise ValueError(msg)
    if params["n_peaks"] > MAX_PEAKS:
        msg = f"`n_peaks` is {params['n_peaks']}; the genome has room for {MAX_PEAKS}."
        raise ValueError(msg)
    for name in ("rna_noise", "atac_noise", "depth_correlation"):
        low = -1 if name == "depth_correlation" else 0
        if not low <= params[name] <= 1:
            msg = f"`{name}` is {params[name]}; it must lie in [{low}, 1]."
            raise ValueError(msg)
    if not 0 <= params["atac_dropout"] < 0.9:
        msg = f"`atac_dropout` is {params['atac_dropout']}; it must lie in [0, 0.9)."
        raise ValueError(msg)
    for name in ("depth_spread", "effect_size", "batch_effect"):
        if not 0 <= params[name] < np.inf:
            msg = f"`{name}` is {params[name]}; it must be finite and not negative."
            raise ValueError(msg)
    for name, features in (
        ("median_genes_per_cell", "n_genes"),
        ("median_peaks_per_cell", "n_peaks"),
    ):
        top = _MAX_SHARE * params[features]
        if features == "n_peaks":
            top *= 1 - params["atac_dropout"]
        if not 0 < params[name] <= max(1.0, top):
            msg = f"`{name}` is {params[name]}; with {params[features]} features it must lie in "
            msg += f"(0, {top:g}]: simulate more features or ask for a smaller median."
            raise ValueError(msg)
    hidden = (params["rna_hidden_types"], params["atac_hidden_types"])
    n_splits = params["n_cell_types"] - 1
    if min(hidden) < 0 or sum(hidden) > n_splits:
        msg = f"`rna_hidden_types` and `atac_hidden_types` are {hidden}; they must not be negative "
        msg += f"and must sum to at most the {n_splits} splits of {n_splits + 1} types."
        raise ValueError(msg)
