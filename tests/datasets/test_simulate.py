"""The simulator: reproducible, sparse, near what was asked for, and true to its truth."""

from __future__ import annotations

import resource
import sys
import time

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from atacvi.datasets import (
    simulate_multiome,
    simulated_links,
    true_accessibility,
    true_expression,
)


@pytest.fixture(scope="module")
def mdata() -> mudata.MuData:
    return simulate_multiome(600, 400, 3000, 6, 2, random_state=1)


def knn_accuracy(adata, types=None) -> float:
    """Accuracy of 10 neighbours in an embedding of log-normalised counts."""
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    used = np.ones(labels.size, dtype=bool) if types is None else np.isin(labels, types)
    depth = np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
    values = adata.X.multiply(np.median(depth) / depth).tocsr()[used]
    values.data = np.log1p(values.data)
    embedding = TruncatedSVD(15, random_state=0).fit_transform(values)
    return cross_val_score(KNeighborsClassifier(10), embedding, labels[used]).mean()


def same_cell_types(mdata, mod) -> list[list[str]]:
    """Sets of types with equal true profiles in a modality."""
    truth = true_expression if mod == "rna" else true_accessibility
    types = mdata.obs["cell_type"].to_numpy()
    names = np.unique(types)[:-1]  # the last one moves along the trajectory
    first = [int(np.flatnonzero(types == name)[0]) for name in names]
    profiles = truth(mdata, first)
    groups = {}
    for name, profile in zip(names, profiles, strict=True):
        groups.setdefault(profile.tobytes(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def test_same_seed_same_data(mdata):
    again = simulate_multiome(600, 400, 3000, 6, 2, random_state=1)
    other = simulate_multiome(600, 400, 3000, 6, 2, random_state=2)
    for mod in ("rna", "atac"):
        assert (again[mod].X != mdata[mod].X).nnz == 0
        assert (other[mod].X != mdata[mod].X).nnz > 0
        pd.testing.assert_frame_equal(again[mod].obs, mdata[mod].obs)
        pd.testing.assert_frame_equal(again[mod].var, mdata[mod].var)


def test_structure(mdata):
    assert mdata["rna"].shape == (600, 400)
    assert mdata["atac"].shape == (600, 3000)
    assert list(mdata.obs.columns) == ["cell_type", "batch", "pseudotime"]
    for adata in mdata.mod.values():
        assert isinstance(adata.X, sp.csr_matrix)
        assert adata.X.dtype == np.int32
        assert adata.X.has_canonical_format
        assert adata.X.data.min() >= 1
        assert adata.obs_names.equals(mdata.obs_names)
        assert adata.var_names.is_unique
        assert np.diff(adata.X.indptr).min() >= 1
        assert adata.X.getnnz(axis=0).min() >= 1
    assert (mdata["rna"].var["feature_types"] == "Gene Expression").all()
    assert (mdata["atac"].var["feature_types"] == "Peaks").all()


def test_every_type_and_batch_has_cells():
    mdata = simulate_multiome(40, 60, 300, 20, 3, random_state=0)
    assert mdata.obs["cell_type"].value_counts().min() >= 1
    assert mdata.obs["cell_type"].nunique() == 20
    assert set(mdata.obs["batch"]) == {"batch_1", "batch_2", "batch_3"}


def test_peaks_are_sorted_and_do_not_overlap(mdata):
    var = mdata["atac"].var
    names = var["chrom"].astype(str) + ":" + var["start"].astype(str) + "-" + var["end"].astype(str)
    assert (names == var.index).all()
    width = var["end"] - var["start"]
    assert width.between(400, 600).all()
    for _, part in var.groupby("chrom", observed=True, sort=False):
        assert (part["start"].to_numpy()[1:] >= part["end"].to_numpy()[:-1]).all()
    assert var["chrom"].drop_duplicates().tolist() == [*(f"chr{i}" for i in range(1, 23)), "chrX"]


def test_genes_lie_on_the_genome(mdata):
    var = mdata["rna"].var
    assert (var["end"] > var["start"]).all()
    assert (var["start"] >= 0).all()
    forward = (var["strand"] == "+").to_numpy()
    tss = np.where(forward, var["start"], var["end"] - 1)
    np.testing.assert_array_equal(tss, var["tss"])
    assert 0.3 < forward.mean() < 0.7


@pytest.mark.parametrize(
    ("genes", "peaks"), [(50, 80), (150, 400), (250, 1200)], ids=["shallow", "middle", "deep"]
)
def test_medians_are_near_the_request(genes, peaks):
    mdata = simulate_multiome(
        500, 500, 4000, median_genes_per_cell=genes, median_peaks_per_cell=peaks, random_state=0
    )
    assert np.median(np.diff(mdata["rna"].X.indptr)) == pytest.approx(genes, rel=0.1)
    assert np.median(np.diff(mdata["atac"].X.indptr)) == pytest.approx(peaks, rel=0.1)


def test_presets():
    snare = simulate_multiome(2000, preset="snare")
    assert snare["rna"].n_vars == 1700
    assert np.median(np.diff(snare["atac"].X.indptr)) == pytest.approx(80, rel=0.15)
    tenx = simulate_multiome(60, 2000, 40_000, preset="10x")
    assert np.median(np.diff(tenx["atac"].X.indptr)) == pytest.approx(7000, rel=0.15)
    assert np.median(np.diff(tenx["rna"].X.indptr)) == pytest.approx(500, rel=0.15)


def test_depths_are_correlated(mdata):
    depth = [mdata[mod].obs["true_log_depth"] for mod in ("rna", "atac")]
    assert 0.45 < np.corrcoef(*depth)[0, 1] < 0.75
    for mod in ("rna", "atac"):
        total = np.log(np.asarray(mdata[mod].X.sum(axis=1)).reshape(-1))
        assert np.corrcoef(total, mdata[mod].obs["true_log_depth"])[0, 1] > 0.7


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_counts_follow_the_truth(noise):
    mdata = simulate_multiome(
        800, 100, 400, 3, 2, rna_noise=noise, atac_noise=noise, atac_dropout=0.3, random_state=3
    )
    for mod, truth in (("rna", true_expression), ("atac", true_accessibility)):
        adata = mdata[mod]
        mean = truth(mdata, kind="counts").astype(float)
        extra = np.zeros(adata.n_vars)
        if mod == "rna":
            extra = 1 / adata.var["true_dispersion"].to_numpy()
        lost = adata.var["true_dropout"].to_numpy()
        rate = mean / (1 - lost)
        variance = mean + mean**2 * extra + lost / (1 - lost) * mean**2
        score = (adata.X.toarray() - mean).sum(0) / np.sqrt(variance.sum(0))
        # Standard normal over the features, were the truth the one drawn from.
        assert abs(score.mean()) < 0.35
        assert 0.75 < score.std() < 1.25
        if mod == "atac":
            zeros = (lost + (1 - lost) * np.exp(-rate)).sum()
            assert (adata.X.toarray() == 0).sum() == pytest.approx(zeros, rel=0.01)


def test_profiles_sum_to_one_and_select(mdata):
    for mod, truth in (("rna", true_expression), ("atac", true_accessibility)):
        everything = truth(mdata)
        np.testing.assert_allclose(everything.sum(1), 1, rtol=1e-4)
        names = mdata[mod].var_names[[5, 2]]
        np.testing.assert_allclose(
            truth(mdata, slice(3, 6), names), everything[3:6][:, [5, 2]], rtol=1e-6
        )
        part = mdata[mdata.obs["cell_type"] == "type_01"]
        np.testing.assert_allclose(
            truth(part), everything[(mdata.obs["cell_type"] == "type_01").to_numpy()], rtol=1e-6
        )
    with pytest.raises(KeyError, match="'nobody'"):
        true_expression(mdata, ["nobody"])
    with pytest.raises(ValueError, match="`kind`"):
        true_expression(mdata, kind="raw")


def test_no_truth_no_answer(mdata):
    bare = mudata.MuData({mod: adata.copy() for mod, adata in mdata.mod.items()})
    with pytest.raises(KeyError, match="simulate_multiome"):
        true_expression(bare)


def test_clusters_are_recoverable(mdata):
    assert knn_accuracy(mdata["rna"]) > 0.95
    assert knn_accuracy(mdata["atac"]) > 0.9


def test_noise_hides_types():
    accuracy = []
    for noise in (0.0, 0.5, 1.0):
        noisy = simulate_multiome(
            400, 200, 1500, 4, rna_noise=noise, atac_noise=noise, trajectory=False, random_state=0
        )
        accuracy.append([knn_accuracy(noisy[mod]) for mod in ("rna", "atac")])
        share = noisy.obs["cell_type"].value_counts(normalize=True).max()
    accuracy = np.array(accuracy)
    assert (accuracy[0] > 0.9).all()
    assert (accuracy[2] < share + 0.15).all()
    assert (accuracy[0] >= accuracy[1] - 0.01).all()
    assert (accuracy[1] > accuracy[2]).all()


def test_links_follow_peaks(mdata):
    links = simulated_links(mdata)
    assert links["peak"].isin(mdata["atac"].var_names).all()
    assert links["gene"].isin(mdata["rna"].var_names).all()
    assert links["distance"].abs().max() <= 100_000
    np.testing.assert_allclose(links.groupby("gene")["effect"].sum(), 1)
    strong = links[links["effect"] > 0.5]
    expression = np.log(true_expression(mdata, genes=strong["gene"].to_numpy()))
    peaks = np.log(true_accessibility(mdata, regions=strong["peak"].to_numpy()))

    def correlation(x, y):
        x, y = x - x.mean(0), y - y.mean(0)
        return (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))

    linked = correlation(expression, peaks)
    other = correlation(expression, np.roll(peaks, 1, axis=1))
    assert np.median(linked) > 0.6
    assert np.median(linked) > np.median(other) + 0.3


def test_distance_is_to_the_tss(mdata):
    links = simulated_links(mdata)
    peak = mdata["atac"].var.loc[links["peak"]]
    tss = mdata["rna"].var.loc[links["gene"], "tss"].to_numpy()
    centre = (peak["start"].to_numpy() + peak["end"].to_numpy()) // 2
    np.testing.assert_array_equal(centre - tss, links["distance"])


@pytest.mark.parametrize(("hidden", "seen"), [("rna", "atac"), ("atac", "rna")])
def test_hidden_types_show_in_one_modality_only(hidden, seen):
    mdata = simulate_multiome(600, 300, 2000, 8, **{f"{hidden}_hidden_types": 2}, random_state=0)
    assert same_cell_types(mdata, seen) == []
    pairs = same_cell_types(mdata, hidden)
    assert pairs == [["type_01", "type_02"], ["type_03", "type_04"]]
    for pair in pairs:
        counts = mdata.obs["cell_type"].value_counts()[pair]
        share = counts.max() / counts.sum()
        assert knn_accuracy(mdata[hidden], pair) < share + 0.12
        assert knn_accuracy(mdata[seen], pair) > 0.9
    tree = mdata.uns["atacvi_simulation"]["tree"]
    assert tree[f"hidden_in_{hidden}"].sum() == 2
    assert tree[f"hidden_in_{seen}"].sum() == 0


def test_trajectory_is_continuous(mdata):
    moving = mdata.obs["pseudotime"].notna().to_numpy()
    assert (mdata.obs["cell_type"][moving] == "type_06").all()
    time_ = mdata.obs["pseudotime"].to_numpy()[moving]
    assert 0 <= time_.min() < 0.1
    assert 0.9 < time_.max() <= 1
    profiles = np.log(true_accessibility(mdata, moving)[np.argsort(time_)])
    steps = np.linalg.norm(np.diff(profiles, axis=0), axis=1)
    whole = np.linalg.norm(profiles[-1] - profiles[0])
    assert steps.max() < 0.35 * whole
    assert simulate_multiome(50, 60, 200, 2, trajectory=False).obs["pseudotime"].isna().all()


def test_batches_differ_and_can_be_switched_off():
    mdata = simulate_multiome(300, 80, 500, 2, 3, batch_effect=1.0, random_state=0)
    effect = mdata["atac"].varm["simulation_effect"][:, -3:]
    assert effect.std() == pytest.approx(1, rel=0.1)
    single = simulate_multiome(50, 80, 500, 2, random_state=0)
    assert "batch_1" not in single.uns["atacvi_simulation"]["factors"]
    assert set(single.obs["batch"]) == {"batch_1"}


def test_empty_cells_and_features_only_when_asked():
    few = {"median_genes_per_cell": 2, "median_peaks_per_cell": 2, "depth_spread": 1.0}
    kept = simulate_multiome(80, 300, 900, 3, keep_empty=True, **few)
    filled = simulate_multiome(80, 300, 900, 3, **few)
    for mod in ("rna", "atac"):
        assert (np.diff(kept[mod].X.indptr) == 0).any()
        assert (kept[mod].X.getnnz(axis=0) == 0).any()
        assert (np.diff(filled[mod].X.indptr) > 0).all()
        assert (filled[mod].X.getnnz(axis=0) > 0).all()


def test_one_type_one_cell():
    mdata = simulate_multiome(1, 20, 50, 1)
    assert mdata.shape == (1, 70)
    alike = simulate_multiome(30, 40, 100, 3, effect_size=0)
    profiles = true_accessibility(alike)
    np.testing.assert_allclose(profiles, np.broadcast_to(profiles[0], profiles.shape), rtol=1e-5)
    assert (alike["rna"].var["marker_of"] == "").all()


def test_h5mu_round_trip(mdata, tmp_path):
    path = tmp_path / "simulated.h5mu"
    mdata.write(path)
    back = mudata.read_h5mu(path)
    for mod in ("rna", "atac"):
        assert (back[mod].X != mdata[mod].X).nnz == 0
    np.testing.assert_allclose(back.obs["pseudotime"], mdata.obs["pseudotime"])
    assert back.obs["cell_type"].astype(str).tolist() == mdata.obs["cell_type"].tolist()
    for kind in ("profile", "counts"):
        np.testing.assert_allclose(
            true_expression(back, kind=kind), true_expression(mdata, kind=kind), rtol=1e-6
        )
    pd.testing.assert_frame_equal(simulated_links(back), simulated_links(mdata), check_dtype=False)
    assert back.uns["atacvi_simulation"]["params"]["n_batches"] == 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_cells": 0}, "`n_cells` is 0"),
        ({"n_cells": 2.5}, "`n_cells` is 2.5"),
        ({"n_cells": 5, "n_cell_types": 6}, "must not exceed"),
        ({"n_peaks": 10**8}, "genome has room"),
        ({"rna_noise": 1.1}, "`rna_noise`"),
        ({"atac_noise": float("nan")}, "`atac_noise`"),
        ({"atac_dropout": 1.0}, "`atac_dropout`"),
        ({"effect_size": -1}, "`effect_size`"),
        ({"n_genes": 100, "median_genes_per_cell": 100}, "simulate more features"),
        ({"rna_hidden_types": 5, "atac_hidden_types": 3}, "at most the 7 splits"),
        ({"preset": "share"}, "'snare' or '10x'"),
    ],
)
def test_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        simulate_multiome(**arguments)


@pytest.mark.slow
def test_large_data_take_a_minute_at_most():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    mdata = simulate_multiome(10_000, 2000, 100_000, median_peaks_per_cell=2600)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    assert seconds < 60
    assert grown < 1.5e9  # dense float32 would be 4e9
    assert mdata["atac"].X.nnz / 1e9 == pytest.approx(0.026, rel=0.1)
