"""The vote of the nearest neighbours against a direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from atacvi.metrics import knn_accuracy


def test_matches_a_direct_vote():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    cells = labels[:, None] + rng.normal(size=(120, 3))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    right = []
    for train, test in folds.split(cells, labels):
        distance = np.linalg.norm(cells[test][:, None] - cells[train][None], axis=2)
        nearest = labels[train][np.argsort(distance, axis=1)[:, :10]]
        votes = np.stack([(nearest == group).sum(axis=1) for group in range(3)], axis=1)
        right.append((votes.argmax(axis=1) == labels[test]).mean())
    assert knn_accuracy(cells, labels) == pytest.approx(np.mean(right), abs=1e-6)


def test_rare_groups_are_scored_without_a_warning(recwarn):
    labels = np.array(["common"] * 30 + ["rare"] * 2)
    cells = np.random.default_rng(0).normal(size=(32, 2))
    assert knn_accuracy(cells, labels) == pytest.approx(30 / 32, abs=0.01)
    assert not [w for w in recwarn if "least populated" in str(w.message)]


def test_too_few_cells_are_named():
    with pytest.raises(ValueError, match="leave 8 to vote, but n_neighbors=10"):
        knn_accuracy(np.zeros((10, 2)), np.repeat([0, 1], 5))
