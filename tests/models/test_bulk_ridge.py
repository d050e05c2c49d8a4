from __future__ import annotations

import numpy as np
import pytest

from atacvi.models._bulk_ridge import fit_ridge_classifier
from atacvi.models._token_embedding import directions


def planted(rng, n=40, noise=0.3):
    labels = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    centres = {"a": [1, 0, 0, 0], "b": [0, 1, 0, 0], "c": [0, 0, 1, 0]}
    return np.array([centres[x] for x in labels]) + noise * rng.normal(size=(n, 4)), labels


def test_it_is_the_ridge_regression_with_a_penalised_offset(rng):
    vectors, labels = planted(rng)
    fit = fit_ridge_classifier(vectors, labels, penalty=0.5)
    x = np.column_stack([directions(vectors, vectors.mean(0)), np.ones(40)])
    target = (labels[:, None] == fit.classes).astype(float)
    wanted = np.linalg.solve(x.T @ x + 0.5 * np.eye(5), x.T @ target).T
    found = np.column_stack([fit.weight, fit.offset])
    # up to the temperature
    np.testing.assert_allclose(found / found[0, 0], wanted / wanted[0, 0], rtol=1e-8)


def test_the_penalty_is_that_of_the_least_residuals_of_samples_left_out(rng):
    vectors, labels = planted(rng, noise=0.8)
    mean = vectors.mean(0)
    x = np.column_stack([directions(vectors, mean), np.ones(40)])
    classes = np.unique(labels)
    target = (labels[:, None] == classes).astype(float)

    def left_out(penalty):
        loss = 0.0
        for i in range(40):
            kept = np.arange(40) != i
            gram = x[kept].T @ x[kept] + penalty * np.eye(5)
            weight = np.linalg.solve(gram, x[kept].T @ target[kept])
            loss += ((target[i] - x[i] @ weight) ** 2).sum()
        return loss

    best = min(np.logspace(-2, 1, 13), key=left_out)
    chosen, fixed = (fit_ridge_classifier(vectors, labels, p) for p in (None, float(best)))
    np.testing.assert_allclose(chosen.weight, fixed.weight, rtol=1e-6)


def test_classes_of_one_sample_do_not_choose_the_penalty(rng):
    vectors, labels = planted(rng, noise=0.8)
    more = np.vstack([vectors, 5 * rng.normal(size=(3, 4))])
    found = fit_ridge_classifier(more, np.append(labels, ["x", "y", "z"]))
    x = directions(more, more.mean(0))
    target = (np.append(labels, ["x", "y", "z"])[:, None] == found.classes).astype(float)
    losses = []
    for penalty in np.logspace(-2, 1, 13):
        inverse = np.linalg.inv(x @ x.T + 1.0 + penalty * np.eye(43))
        residual = inverse @ target / np.diag(inverse)[:, None]
        losses.append((residual[:40] ** 2).sum())
    best = float(np.logspace(-2, 1, 13)[np.argmin(losses)])
    fixed = fit_ridge_classifier(more, np.append(labels, ["x", "y", "z"]), best)
    np.testing.assert_allclose(found.weight, fixed.weight, rtol=1e-6)


def test_probabilities(rng):
    vectors, labels = planted(rng, 120)
    fit = fit_ridge_classifier(vectors[:80], labels[:80])
    found = fit.probabilities(vectors[80:])
    np.testing.assert_allclose(found.sum(1), 1.0)
    right = fit.classes[found.argmax(1)] == labels[80:]
    assert right.mean() > 0.85
    assert found.max(1).mean() == pytest.approx(right.mean(), abs=0.15)


def test_classes_of_one_sample_are_fitted(rng):
    fit = fit_ridge_classifier(rng.normal(size=(3, 4)), np.array(["a", "b", "c"]))
    assert np.isfinite(fit.probabilities(rng.normal(size=(5, 4)))).all()
