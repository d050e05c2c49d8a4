"""All scores of generated cells on sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.metrics import generation_scores

N_TYPES, N_PEAKS = 4, 300
WITHOUT_LABELS = {
    "scc", "pcc", "mmd", "wasserstein", "ilisi", "rf_auc", "knn_auc", "depth_ks",
    "peak_frequency_ks", "coaccessibility", "precision", "recall", "density", "coverage",
    "nearest_train_ratio",
}  # fmt: skip
WITH_LABELS = {
    "scc_per_type", "pcc_per_type", "label_recovery", "synthetic_training", "real_training",
}  # fmt: skip


@pytest.fixture(scope="module")
def cells():
    """Three sets of cells of four types with their own programs and log-normal depth."""
    rng = np.random.default_rng(1)
    common = rng.gamma(0.6, 0.3, N_PEAKS)
    programs = common * rng.choice([0.3, 1.0, 3.0], size=(N_TYPES, N_PEAKS), p=[0.3, 0.4, 0.3])
    types = np.tile(np.arange(N_TYPES), 60)

    def draw():
        depth = rng.lognormal(0, 0.4, types.size)[:, None]
        return sp.csr_matrix(rng.poisson(programs[types] * depth))

    return {"train": draw(), "test": draw(), "other": draw(), "types": types, "rng": rng}


def _scores(cells, drawn, labels=True, **options):
    types = [cells["types"]] * 3 if labels else [None] * 3
    return generation_scores(
        cells["test"], drawn, cells["train"], *types, n_components=10, n_trees=40, **options
    )


@pytest.fixture(scope="module")
def real(cells):
    """Scores of real cells in place of generated ones."""
    return _scores(cells, cells["other"])


def test_a_second_real_set_scores_as_real(real):
    found = real
    assert set(found) == WITHOUT_LABELS | WITH_LABELS
    assert all(isinstance(value, float) for value in found.values())
    assert found["scc"] > 0.95
    assert found["pcc"] > 0.95
    assert abs(found["mmd"]) < 0.02
    assert found["ilisi"] > 0.85
    assert found["rf_auc"] == pytest.approx(0.5, abs=0.08)
    assert found["knn_auc"] == pytest.approx(0.5, abs=0.08)
    assert found["depth_ks"] < 0.15
    assert found["coverage"] > 0.85
    assert found["density"] == pytest.approx(1, abs=0.2)
    assert found["nearest_train_ratio"] == pytest.approx(1, abs=0.1)
    assert found["label_recovery"] == pytest.approx(found["real_training"], abs=0.1)


def test_product_of_marginals_has_the_means_but_is_told_apart(cells):
    share = np.asarray((cells["train"] > 0).mean(axis=0)).ravel()
    drawn = cells["rng"].random((240, N_PEAKS)) < share
    found = _scores(cells, drawn.astype(int), labels=False)
    assert set(found) == WITHOUT_LABELS
    assert found["scc"] > 0.95
    assert found["rf_auc"] > 0.85
    assert found["depth_ks"] > 0.2
    assert abs(found["coaccessibility"]) < 0.2


def test_training_cells_are_found_to_be_copies(cells):
    found = _scores(cells, cells["train"], labels=False)
    assert found["nearest_train_ratio"] == pytest.approx(0, abs=1e-3)
    assert found["scc"] > 0.95


def test_shuffled_peaks_are_rejected_by_all_but_the_distributions(cells, real):
    order = np.random.default_rng(3).permutation(N_PEAKS)
    found = _scores(cells, cells["other"][:, order])
    assert abs(found["scc"]) < 0.3
    assert found["mmd"] > 10 * abs(real["mmd"])
    assert found["wasserstein"] > real["wasserstein"]
    assert found["rf_auc"] > 0.95
    assert found["ilisi"] < real["ilisi"] - 0.2
    assert found["coverage"] < 0.7 * real["coverage"]
    assert found["label_recovery"] < 0.6
    assert abs(found["coaccessibility"]) < 0.2
    for blind in ("depth_ks", "peak_frequency_ks"):
        assert found[blind] == real[blind]


def test_thresholded_probabilities_are_caught(cells):
    rate = np.asarray((cells["train"] > 0).mean(axis=0)).ravel()
    thresholded = np.tile(rate > 0.5, (240, 1)).astype(int)
    found = _scores(cells, thresholded, labels=False)
    assert found["depth_ks"] > 0.7
    assert found["recall"] == 0


def test_the_seed_decides(cells, real):
    assert _scores(cells, cells["other"]) == real


def test_what_does_not_fit_is_refused(cells):
    with pytest.raises(ValueError, match="give all or none"):
        generation_scores(cells["test"], cells["other"], cells["train"], cells["types"])
    with pytest.raises(ValueError, match="240 real and 5 generated"):
        _scores(cells, cells["other"][:5], labels=False)
