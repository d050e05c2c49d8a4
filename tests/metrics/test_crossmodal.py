"""Scores of two modalities in one space against brute force and closed cases."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from atacvi import metrics


def brute_foscttm(one, two, metric):
    distance = cdist(one, two, metric)
    shares = []
    for matrix in (distance, distance.T):
        for i in range(len(matrix)):
            others = np.delete(matrix[i], i)
            shares.append((others < matrix[i, i]).mean())
    return np.mean(shares)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_foscttm_and_recall_equal_brute_force(rng, metric):
    one = rng.normal(size=(700, 3))  # more cells than a block
    two = one + rng.normal(size=(700, 3))
    assert metrics.foscttm(one, two, metric) == pytest.approx(brute_foscttm(one, two, metric))
    distance = cdist(one, two, metric)
    rank = (distance < np.diag(distance)[:, None]).sum(axis=1)
    found = metrics.recall_at_k(one, two, [1, 10], metric)
    assert found == {1: (rank < 1).mean(), 10: (rank < 10).mean()}


@given(seed=st.integers(0, 1000), n=st.integers(4, 30), scale=st.floats(0.1, 100))
def test_foscttm_is_symmetric_and_knows_no_scale(seed, n, scale):
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(2, n, 3))
    found = metrics.foscttm(one, two)
    assert 0 <= found <= 1
    assert metrics.foscttm(two, one) == pytest.approx(found)
    assert metrics.foscttm(scale * one, two) == pytest.approx(found)


def test_closed_cases(rng):
    cells = rng.normal(size=(60, 5))
    assert metrics.foscttm(cells, cells) == 0
    assert metrics.foscttm(cells, np.ones_like(cells)) == 0.5
    assert metrics.foscttm(cells, -cells) > 0.98
    assert metrics.recall_at_k(cells, cells, [1]) == {1: 1.0}
    assert metrics.recall_at_k(cells, rng.normal(size=(60, 5)), [60]) == {60: 1.0}
    assert metrics.modality_gap(cells, 3 * cells) == pytest.approx(0, abs=1e-6)
    ones = np.tile([1.0, 0.0], (5, 1))
    assert metrics.modality_gap(ones, -ones) == pytest.approx(2)


def test_random_embeddings_are_at_chance(rng):
    one, two = rng.normal(size=(2, 1000, 8))
    assert metrics.foscttm(one, two) == pytest.approx(0.5, abs=0.02)
    assert metrics.recall_at_k(one, two, [100])[100] == pytest.approx(0.1, abs=0.03)


def test_label_transfer_is_a_vote(rng):
    labels = np.repeat(["a", "b", "c"], 20)
    rna = np.eye(3)[np.repeat([0, 1, 2], 20)] + 0.01 * rng.normal(size=(60, 3))
    wrong = np.where(np.arange(60) < 6, "c", labels)
    assert metrics.label_transfer_accuracy(rna, labels, 5 * rna, labels) == 1.0
    assert metrics.label_transfer_accuracy(rna, labels, rna, wrong) == pytest.approx(0.9)


def test_crossmodal_scores_reuse_the_single_ones(rng):
    truth = rng.poisson(0.8, size=(50, 9)).astype(float)
    truth[:, 0] = 0
    prediction = truth + rng.normal(size=truth.shape)
    found = metrics.crossmodal_scores(sp.csr_matrix(truth), prediction)
    seen = truth[:, 1:]
    by_hand = [np.corrcoef(seen[:, j], prediction[:, j + 1])[0, 1] for j in range(8)]
    assert found["feature_pearson"] == pytest.approx(np.mean(by_hand))
    cells = [np.corrcoef(truth[i], prediction[i])[0, 1] for i in range(50) if truth[i].any()]
    assert found["cell_pearson"] == pytest.approx(np.mean(cells))
    assert metrics.crossmodal_scores(truth, 3 * truth)["feature_auroc"] == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.foscttm(np.ones((4, 2)), np.ones((5, 2))), "Shapes disagree"),
        (lambda: metrics.foscttm(np.full((4, 2), np.nan), np.ones((4, 2))), "NaN"),
        (lambda: metrics.foscttm(np.ones((4, 2)), np.ones((4, 2)), "l1"), "metric='l1'"),
        (lambda: metrics.recall_at_k(np.ones((4, 2)), np.ones((4, 2)), [0]), "at least 1"),
        (lambda: metrics.modality_gap(np.ones((4, 2)), np.ones((4, 3))), "Dimensions disagree"),
        (
            lambda: metrics.label_transfer_accuracy(
                np.eye(4), list("aabb"), np.eye(4), list("aab")
            ),
            "n_neighbors=15",
        ),
        (lambda: metrics.crossmodal_scores(np.zeros((9, 2)), np.zeros((9, 2))), "No feature"),
    ],
)
def test_what_cannot_be_scored(call, message):
    with pytest.raises(ValueError, match=message):
        call()
