"""Paired RNA and ATAC counts with known truth, from SNARE-seq-like to 10x-Multiome-like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from atacvi._compat import without_pull

from . import truth
from ._arguments import PRESETS, check_arguments, default_median
from ._genome import make_genome
from ._modality import simulate_modality
from ._programs import (
    PSEUDOTIME_STEPS,
    Tree,
    factor_names,
    make_activity,
    make_effects,
    make_tree,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ._genome import Genome


def simulate_multiome(
    n_cells: int = 2000,
    n_genes: int | None = None,
    n_peaks: int | None = None,
    n_cell_types: int = 8,
    n_batches: int = 1,
    *,
    preset: Literal["snare", "10x"] | None = None,
    median_genes_per_cell: float | None = None,
    median_peaks_per_cell: float | None = None,
    depth_spread: float = 0.35,
    depth_correlation: float = 0.6,
    effect_size: float | None = None,
    batch_effect: float = 0.3,
    rna_noise: float = 0.0,
    atac_noise: float = 0.0,
    atac_dropout: float = 0.1,
    rna_hidden_types: int = 0,
    atac_hidden_types: int = 0,
    trajectory: bool = True,
    keep_empty: bool = False,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Simulate paired single-cell RNA and ATAC counts whose truth is known.

    Cell types are the leaves of a binary tree. Each node below the root has a program that opens
    or closes peaks; a cell has the programs on the path to its type. Along one type runs a
    trajectory. A gene is regulated by peaks near its TSS and changes with them; genes and peaks
    lie on the chromosomes of hg38. With activity `a_c` of the factors (programs, batches) in cell
    `c`, baseline `b_j` and effects `w_j` of feature `j`, ambient profile `q` and noise `e`,

        p_cj = (1 - e) softmax_j(b_j + w_j . a_c) + e q_j
        RNA:  x_cj ~ NegativeBinomial(mean l_c p_cj, inverse dispersion theta_j)
        ATAC: y_cj ~ ZeroInflatedPoisson(rate d_c p_cj, probability of a zero pi_j)

    Depths `l_c` and `d_c` are log-normal and correlated.

    Parameters
    ----------
    n_cells, n_genes, n_peaks
        Sizes. Genes and peaks default to 1,000 and 10,000, or to the preset's.
    n_cell_types
        Leaves of the tree.
    n_batches
        Batches; each adds its own log effect to each feature of each modality.
    preset
        Sizes and medians like those of SNARE-seq of the mouse cortex (100 genes and 80 peaks a
        cell of 1,700 and 25,000; Chen et al. 2019) or of 10x Multiome (1,700 and 7,000 of 20,000
        and 100,000). Arguments given win; with fewer features a median is at most a quarter
        of them.
    median_genes_per_cell, median_peaks_per_cell
        Median number of features with a count, to which the depths are tuned (250 and 600 by
        default, at most a quarter of the features). At most 80 % of the features.
    depth_spread, depth_correlation
        Standard deviation of the log depths, and their correlation between the modalities.
    effect_size
        Factor on the log fold changes of all programs; 0 makes all cells alike. By default 1 (types
        are easy to tell), or the preset's, 0.65 for `"snare"` (RNA tells most types, ATAC few) and
        0.8 for `"10x"`.
    batch_effect
        Standard deviation of the batches' log effects.
    rna_noise, atac_noise
        Share of each cell's profile that is replaced by the ambient mean, in [0, 1].
    atac_dropout
        Mean over peaks of the probability that an open peak is lost, in [0, 1).
    rna_hidden_types, atac_hidden_types
        Number of splits of the tree that leave no trace in the RNA (only the ATAC tells the types
        apart), or none in the ATAC. The splits nearest to the leaves are hidden first.
    trajectory
        Whether the last type is a continuum over pseudotime 0 to 1.
    keep_empty
        Keep cells and features without counts. By default each gets one count, drawn by its
        expected counts, which shows in the medians where cells are few and shallow.
    random_state
        Seed or generator.

    Returns
    -------
    MuData with int32 CSR counts in modalities `"rna"` (genes) and `"atac"` (peaks).

    - `obs` of the MuData and of both modalities: `cell_type`, `batch`, `pseudotime` (NaN off the
      trajectory); of a modality also `true_log_depth`, `true_log_norm`, `true_log_norm_batch`.
    - `var`: `chrom`, `start`, `end` (0-based, half-open), `feature_types`, `true_log_baseline`,
      `true_ambient`, `true_dropout`, `marker_of` (factor with the largest positive effect, or
      empty); genes also `strand`, `tss`, `true_dispersion`; peaks `promoter`.
    - `obsm["simulation_activity"]` and `varm["simulation_effect"]`: the low-rank truth, from
      which :func:`true_expression` and :func:`true_accessibility` give expected profiles.
    - `uns["atacvi_simulation"]`: `params`, `tree`, `factors` and `links` (peak, gene, effect,
      distance; as a table by :func:`simulated_links`).

    Raises
    ------
    ValueError
        If a size, share or median is out of range.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(100, 120, 400, 4, random_state=0)
    >>> mdata["atac"].shape
    (100, 400)
    >>> mdata.obs["cell_type"].nunique()
    4
    """
    sizes = PRESETS.get(preset)
    if sizes is None:
        msg = f"`preset` is {preset!r}; it must be None, 'snare' or '10x'."
        raise ValueError(msg)
    n_genes = sizes["n_genes"] if n_genes is None else n_genes
    n_peaks = sizes["n_peaks"] if n_peaks is None else n_peaks
    params = {
        "n_cells": n_cells,
        "n_genes": n_genes,
        "n_peaks": n_peaks,
        "n_cell_types": n_cell_types,
        "n_batches": n_batches,
        "median_genes_per_cell": default_median(median_genes_per_cell, sizes["genes"], n_genes),
        "median_peaks_per_cell": default_median(median_peaks_per_cell, sizes["peaks"], n_peaks),
        "depth_spread": depth_spread,
        "depth_correlation": depth_correlation,
        "effect_size": sizes["effect_size"] if effect_size is None else effect_size,
        "batch_effect": batch_effect,
        "rna_noise": rna_noise,
        "atac_noise": atac_noise,
        "atac_dropout": atac_dropout,
        "rna_hidden_types": rna_hidden_types,
        "atac_hidden_types": atac_hidden_types,
        "trajectory": trajectory,
    }
    check_arguments(params)
    rng = np.random.default_rng(random_state)
    return _simulate(params, keep_empty, rng)


def _simulate(params: dict, keep_empty: bool, rng: np.random.Generator) -> MuData:
    n_hidden = params["rna_hidden_types"]
    genome = make_genome(params["n_genes"], params["n_peaks"], rng)
    tree = make_tree(params["n_cell_types"])
    hidden_in_rna = tree.splits[:n_hidden]
    hidden_in_atac = tree.splits[n_hidden : n_hidden + params["atac_hidden_types"]]
    batches = [f"batch_{i + 1}" for i in range(params["n_batches"])]
    batch_factors = batches if len(batches) > 1 else []
    factors = factor_names(tree, trajectory=params["trajectory"], batches=batch_factors)
    effects = make_effects(
        genome,
        tree,
        factors,
        n_batches=len(batch_factors),
        batch_effect=params["batch_effect"],
        effect_size=params["effect_size"],
        hidden_in_rna=hidden_in_rna,
        hidden_in_atac=hidden_in_atac,
        rng=rng,
    )
    cell_type, pseudotime, batch = _draw_cells(params, rng)
    activity = make_activity(tree, factors, cell_type, pseudotime, batch, batch_factors)
    names = np.array(tree.names)[tree.leaves]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(cell_type, names.tolist()),
            "batch": pd.Categorical.from_codes(batch, batches),
            "pseudotime": pseudotime,
        },
        index=_barcodes(params["n_cells"], rng),
    )
    depths = _draw_depths(params, rng)
    is_batch = np.isin(factors, batch_factors)
    mods = {}
    for mod, effect, log_depth in zip(("rna", "atac"), effects, depths, strict=True):
        mods[mod] = simulate_modality(
            mod, genome, obs, effect, activity, is_batch, log_depth, params, keep_empty, rng
        )
        mods[mod].var["marker_of"] = _markers(effect, factors, is_batch)
        mods[mod].uns[truth.UNS_KEY] = {"is_batch_factor": is_batch}
    hidden = {"hidden_in_rna": hidden_in_rna, "hidden_in_atac": hidden_in_atac}
    return _to_mudata(mods, obs, params, genome, tree, factors, hidden)


def _draw_cells(
    params: dict, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Type, pseudotime and batch of each cell; every type and every batch has cells."""
    n_cells, n_types = params["n_cells"], params["n_cell_types"]
    sure = np.repeat(np.arange(n_types), max(1, int(0.4 * n_cells / n_types)))
    share = rng.dirichlet(np.full(n_types, 4.0))
    rest = rng.choice(n_types, n_cells - sure.size, p=share)
    cell_type = rng.permutation(np.concatenate([sure, rest]))
    batch = rng.permutation(np.arange(n_cells) % params["n_batches"])
    pseudotime = np.full(n_cells, np.nan)
    if params["trajectory"]:
        moving = np.flatnonzero(cell_type == n_types - 1)
        # A grid of states: cells of one state share a profile, which is computed once.
        step = rng.integers(0, PSEUDOTIME_STEPS, moving.size)
        pseudotime[moving] = step / (PSEUDOTIME_STEPS - 1)
    return cell_type, pseudotime, batch


def _barcodes(n_cells: int, rng: np.random.Generator) -> list[str]:
    """Distinct barcodes of 16 bases, as 10x writes them."""
    code = np.unique(rng.integers(0, 4**16, n_cells))
    while code.size < n_cells:
        code = np.union1d(code, rng.integers(0, 4**16, n_cells - code.size))
    digits = (rng.permutation(code)[:, None] >> (2 * np.arange(16))) & 3
    letters = np.array(list("ACGT"))[digits]
    return ["".join(row) + "-1" for row in letters]


def _draw_depths(
    params: dict, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log depth factors of RNA and ATAC around zero, correlated."""
    correlation = params["depth_correlation"]
    rna, own = rng.standard_normal((2, params["n_cells"]))
    atac = correlation * rna + np.sqrt(1.0 - correlation**2) * own
    return params["depth_spread"] * rna, params["depth_spread"] * atac


def _markers(
    effect: NDArray[np.float32], factors: list[str], is_batch: NDArray[np.bool_]
) -> NDArray[np.object_]:
    """Name of the program that raises a feature most, or an empty string."""
    programs = np.array(factors, dtype=object)[~is_batch]
    if not programs.size:
        return np.full(effect.shape[0], "", dtype=object)
    best = effect[:, ~is_batch].argmax(axis=1)
    raised = effect[:, ~is_batch].max(axis=1) > 0
    return np.where(raised, programs[best], "")


def _to_mudata(
    mods: dict[str, AnnData],
    obs: pd.DataFrame,
    params: dict,
    genome: Genome,
    tree: Tree,
    factors: list[str],
    hidden: dict[str, list[int]],
) -> MuData:
    """Join the modalities; the shared columns are set explicitly."""
    import mudata

    with without_pull():
        mdata = mudata.MuData(mods)
    for column in obs.columns:
        mdata.obs[column] = obs[column]
    names = np.array(tree.names, dtype=object)
    mdata.uns[truth.UNS_KEY] = {
        "params": params,
        "factors": np.array(factors, dtype=object),
        "tree": {
            "node": names,
            "parent": np.array([names[i] if i >= 0 else "" for i in tree.parent], dtype=object),
            "is_leaf": np.isin(np.arange(names.size), tree.leaves),
            **{key: np.isin(np.arange(names.size), nodes) for key, nodes in hidden.items()},
        },
        "links": {
            "peak": genome.peaks.index.to_numpy(dtype=object)[genome.link_peak],
            "gene": genome.genes.index.to_numpy(dtype=object)[genome.link_gene],
            "effect": genome.link_effect,
            "distance": genome.link_distance,
        },
    }
    return mdata
