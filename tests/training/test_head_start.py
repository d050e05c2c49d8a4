from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from atacvi.nn import ClassificationHead
from atacvi.training import head_start, start_classification_head

WIDTH = 5


def cells(n_classes: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes of unequal size around centres of their own."""
    rng = np.random.default_rng(seed)
    centres = 2.0 * np.random.default_rng(9).normal(size=(n_classes, WIDTH))
    codes = np.minimum(rng.geometric(0.4, size=n) - 1, n_classes - 1)
    return 0.1 * (centres[codes] + rng.normal(size=(n, WIDTH))), codes


def probabilities(head: ClassificationHead, values: np.ndarray) -> np.ndarray:
    return head.eval()(torch.as_tensor(values, dtype=torch.float32)).softmax(1).detach().numpy()


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_head_is_the_regression(n_classes, power, monkeypatch):
    monkeypatch.setattr(head_start, "_WHITENING", (power,))
    training, held_out = cells(n_classes, 400), cells(n_classes, 100, seed=1)
    head = ClassificationHead(WIDTH, n_classes)
    penalty = start_classification_head(head, training, held_out)
    values, codes = training
    variance, basis = np.linalg.eigh(np.cov(values.T))
    turn = basis * variance ** (-power / 2) / (variance ** (1 - power)).mean() ** 0.5
    weights = (len(codes) / n_classes / np.bincount(codes))[codes] ** 0.5
    fit = LogisticRegression(C=penalty, max_iter=1000)
    fit.fit(values @ turn, codes, sample_weight=weights)
    expected = fit.predict_proba(held_out[0] @ turn)
    np.testing.assert_allclose(probabilities(head, held_out[0]), expected, atol=2e-3)
    assert (expected.argmax(1) == held_out[1]).mean() > 0.8


def test_weak_directions_are_used_where_they_tell_classes_apart(rng):
    def draw(n):
        codes = rng.integers(0, 2, n)
        values = rng.normal(size=(n, WIDTH)) * np.array([1, 1, 1, 1, 0.02])
        values[:, 4] += 0.04 * codes
        return values, codes

    head = ClassificationHead(WIDTH, 2)
    start_classification_head(head, draw(400), draw(200))
    test, codes = draw(500)
    assert (probabilities(head, test).argmax(1) == codes).mean() > 0.75


def test_cells_without_a_label_take_no_part():
    values, codes = cells(3, 300)
    padded = np.concatenate([values, np.full((50, WIDTH), 100.0)])
    first, second = ClassificationHead(WIDTH, 3), ClassificationHead(WIDTH, 3)
    none = (np.zeros((0, WIDTH)), np.zeros(0, dtype=np.int64))
    start_classification_head(first, (values, codes), none)
    start_classification_head(second, (padded, np.concatenate([codes, np.full(50, -1)])), none)
    torch.testing.assert_close(first.classifier.weight, second.classifier.weight)


def test_a_class_without_cells_is_never_the_best():
    values, codes = cells(3, 300)
    head = ClassificationHead(WIDTH, 4)
    start_classification_head(head, (values, codes), cells(3, 60, seed=1))
    assert probabilities(head, values)[:, 3].max() < 0.05


def test_what_it_cannot_start_it_leaves_alone():
    values, codes = cells(3, 100)
    deep = ClassificationHead(WIDTH, 3, n_hidden=4)
    before = deep.classifier.weight.detach().clone()
    assert start_classification_head(deep, (values, codes), (values, codes)) is None
    assert torch.equal(deep.classifier.weight, before)
    one = ClassificationHead(WIDTH, 3)
    assert start_classification_head(one, (values, np.zeros(100, int)), (values, codes)) is None
