"""Clustering scores against scikit-learn and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from atacvi.metrics import (
    RESOLUTIONS,
    clustering_scores,
    kmeans_ari_nmi,
    leiden_ari_nmi,
    leiden_scan,
)


def blobs(n_groups: int = 4, n_cells: int = 50, spread: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_groups), n_cells)
    centres = rng.normal(scale=8, size=(n_groups, 5))
    return centres[labels] + rng.normal(scale=spread, size=(labels.size, 5)), labels


def test_separated_groups_score_one():
    cells, labels = blobs()
    names = np.array(["astro", "oligo", "micro", "neuron"])[labels]
    scores = leiden_ari_nmi(cells, names, resolutions=[0.05, 0.1, 0.5])
    assert scores["leiden_ari"] == pytest.approx(1)
    assert scores["leiden_nmi"] == pytest.approx(1)
    assert scores["leiden_n_clusters"] == 4
    assert kmeans_ari_nmi(cells, names) == pytest.approx({"kmeans_ari": 1, "kmeans_nmi": 1})


def test_noise_scores_zero():
    _, labels = blobs()
    noise = np.random.default_rng(1).normal(size=(labels.size, 5))
    scores = leiden_ari_nmi(noise, labels, resolutions=[0.5, 1.0])
    assert abs(scores["best_ari"]) < 0.05
    assert abs(kmeans_ari_nmi(noise, labels)["kmeans_ari"]) < 0.05


def test_readings_of_a_scan_match_scikit_learn():
    cells, labels = blobs(spread=5.0)
    scan = leiden_scan(cells)
    scores = leiden_ari_nmi(cells, labels)
    ari = [adjusted_rand_score(labels, row) for row in scan.clusters]
    assert scan.resolutions.tolist() == list(RESOLUTIONS)
    assert scan.n_clusters.tolist() == [len(set(row)) for row in scan.clusters.tolist()]
    assert scores["best_ari"] == pytest.approx(max(ari))
    row = int(np.flatnonzero(scan.resolutions == scores["leiden_resolution"])[0])
    assert abs(scan.n_clusters[row] - 4) == np.abs(scan.n_clusters - 4).min()
    assert scores["leiden_ari"] == pytest.approx(ari[row])
    expected = normalized_mutual_info_score(labels, scan.clusters[row])
    assert scores["leiden_nmi"] == pytest.approx(expected)


def test_kmeans_is_the_mean_of_its_runs():
    cells, labels = blobs(spread=6.0)
    matrix = cells.astype(np.float32)
    runs = [KMeans(4, n_init=10, random_state=s).fit_predict(matrix) for s in (7, 8, 9)]
    expected = np.mean([adjusted_rand_score(labels, run) for run in runs])
    assert kmeans_ari_nmi(cells, labels, random_state=7)["kmeans_ari"] == pytest.approx(expected)


def test_all_scores_are_reproducible_and_plain_numbers():
    cells, labels = blobs(n_groups=3, n_cells=30, spread=4.0)
    scores = clustering_scores(cells, labels, random_state=3)
    assert scores == clustering_scores(cells, labels, random_state=3)
    assert {"leiden_ari", "leiden_nmi", "best_ari", "kmeans_ari", "knn_accuracy"} <= set(scores)
    assert all(type(value) in (int, float) for value in scores.values())


@pytest.mark.parametrize(
    ("cells", "labels", "message"),
    [
        (np.zeros(6), np.arange(6), "shape"),
        (np.zeros((6, 2)), np.arange(5), "5 labels were given for 6 cells"),
        (np.full((6, 2), np.nan), np.arange(6), "6 cells have NaN"),
        (np.zeros((6, 2)), np.array(["a", None, "b", "a", "a", "b"], object), "1 cells have no"),
        (np.zeros((6, 2)), np.repeat("a", 6), "One group was found"),
    ],
)
def test_wrong_input_is_named(cells, labels, message):
    with pytest.raises(ValueError, match=message):
        kmeans_ari_nmi(cells, labels)


def test_a_scan_needs_a_resolution():
    with pytest.raises(ValueError, match="No resolution"):
        leiden_scan(np.zeros((5, 2)), resolutions=[])
