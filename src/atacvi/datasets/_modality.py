"""Draw one modality of the simulation and store the truth behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import truth
from ._sampling import Model, draw_fragments, draw_negative_binomial, find_depth, softmax

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._genome import Genome

_GENE_SPREAD, _PEAK_SPREAD = (
    1.2,
    0.9,
)  # standard deviations of the log baselines  # standard deviations of the log baselines


def simulate_modality(
    mod: str,
    genome: Genome,
    obs: pd.DataFrame,
    effect: NDArray[np.float32],
    activity: NDArray[np.float32],
    is_batch: NDArray[np.bool_],
    log_depth: NDArray[np.float64],
    params: dict,
    keep_empty: bool,
    rng: np.random.Generator,
) -> AnnData:
    """Draw one modality and store its truth."""
    from anndata import AnnData

    var = (genome.genes if mod == "rna" else genome.peaks).copy()
    baseline = rng.normal(0.0, _GENE_SPREAD if mod == "rna" else _PEAK_SPREAD, len(var))
    if mod == "atac":
        baseline += var["promoter"].to_numpy()
        top = min(0.9, 2 * params["atac_dropout"])
        spread = min(params["atac_dropout"], top - params["atac_dropout"])
        dropout = params["atac_dropout"] + spread * rng.uniform(-1, 1, len(var))
        dispersion = np.full(len(var), np.inf)
    else:
        dropout = np.zeros(len(var))
        dispersion = rng.lognormal(np.log(3.0), 0.5, len(var))
    # float32 is what is stored: the truth must be recomputable from it.
    baseline = baseline.astype(np.float32).astype(np.float64)
    states, state = np.unique(activity * ~is_batch, axis=0, return_inverse=True)
    state = state.reshape(-1)
    ambient, log_norm = _ambient(baseline, effect, states, np.bincount(state))
    groups_activity, group = np.unique(activity, axis=0, return_inverse=True)
    model = Model(baseline, effect, groups_activity, ambient, params[f"{mod}_noise"])
    target = params["median_genes_per_cell" if mod == "rna" else "median_peaks_per_cell"]
    log_depth = log_depth + np.log(
        _tune_depth(model, group.reshape(-1), dropout, dispersion, target)
    )
    counts, log_norm_batch = _draw(
        mod, model, group.reshape(-1), np.exp(log_depth), dropout, dispersion, rng, keep_empty
    )
    var["feature_types"] = "Gene Expression" if mod == "rna" else "Peaks"
    var[truth.LOG_BASELINE] = baseline
    var[truth.AMBIENT] = ambient
    var[truth.DROPOUT] = dropout
    if mod == "rna":
        var["true_dispersion"] = dispersion
    adata = AnnData(counts, obs=obs.copy(), var=var)
    adata.obs[truth.LOG_DEPTH] = log_depth
    adata.obs[truth.LOG_NORM] = log_norm[state]
    adata.obs[truth.LOG_NORM_BATCH] = log_norm_batch
    adata.obsm[truth.ACTIVITY_KEY] = activity
    adata.varm[truth.EFFECT_KEY] = effect
    return adata


def _ambient(
    baseline: NDArray[np.float64],
    effect: NDArray[np.float32],
    states: NDArray[np.float32],
    n_cells: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean profile over the cells, and the log normaliser of each state."""
    ambient = np.zeros(baseline.size)
    log_norm = np.zeros(len(states))
    for i, activity in enumerate(states):
        profile, log_norm[i] = softmax(baseline, effect, activity)
        ambient += profile * n_cells[i]
    return ambient / ambient.sum(), log_norm


def _tune_depth(
    model: Model,
    group: NDArray[np.int64],
    dropout: NDArray[np.float64],
    dispersion: NDArray[np.float64],
    target: float,
) -> float:
    """Median depth at which a typical cell shows `target` features."""
    # The most frequent states stand for all: the tree's types, not the trajectory's steps.
    usual = np.argsort(-np.bincount(group), kind="stable")[:8]
    profiles = [model.profile(int(i))[0] for i in usual]
    is_poisson = np.isinf(dispersion).all()

    def detected(depth: float) -> float:
        total = 0.0
        for profile in profiles:
            mean = depth * profile
            log_zero = mean if is_poisson else dispersion * np.log1p(mean / dispersion)
            total += float(((1.0 - dropout) * -np.expm1(-log_zero)).sum())
        return total / len(profiles)

    return find_depth(detected, target)


def _draw(
    mod: str,
    model: Model,
    group: NDArray[np.int64],
    depth: NDArray[np.float64],
    dropout: NDArray[np.float64],
    dispersion: NDArray[np.float64],
    rng: np.random.Generator,
    keep_empty: bool,
) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
    if mod == "rna":
        return draw_negative_binomial(model, group, depth, dispersion, rng, keep_empty=keep_empty)
    return draw_fragments(model, group, depth, dropout, rng, keep_empty=keep_empty)
