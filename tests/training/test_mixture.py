"""The mixture that the posteriors of a warm-up ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atacvi.training import mixture, mixture_of


@pytest.fixture
def posteriors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mean = np.repeat(6 * np.eye(3), 30, axis=0) + rng.normal(size=(90, 3))
    return mean, np.full((90, 3), 0.5)


def test_the_number_of_groups_is_found(posteriors):
    fit = mixture_of(*posteriors)
    np.testing.assert_allclose(fit.weights, 1 / 3, atol=0.02)


def test_components_hold_the_posteriors_not_the_means_alone(posteriors):
    labels = np.repeat([0, 1, 2], 30)
    fit = mixture_of(*posteriors, labels)
    for k in range(3):
        np.testing.assert_allclose(fit.variances[k], posteriors[0][labels == k].var(0) + 0.5)


def test_cells_of_unknown_group_are_left_out(posteriors):
    labels = np.repeat([0, 1, -1], 30)
    fit = mixture_of(*posteriors, labels)
    np.testing.assert_allclose(fit.weights, 0.5)


def test_a_given_number_is_kept_where_a_component_of_the_fit_has_no_cell(posteriors, monkeypatch):
    def fit_with_an_empty_component(z: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(labels=np.repeat([0, 2, 2], 30))

    monkeypatch.setattr(mixture, "fit_mixture", fit_with_an_empty_component)
    fit = mixture_of(*posteriors, n_clusters=4)
    assert len(fit.weights) == 4
    assert fit.weights.min() > 0
