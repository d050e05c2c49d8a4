"""Fitting mixtures and choosing their number of components."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.priors import choose_n_components, fit_mixture


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    centres = 15 * np.eye(4)
    truth = np.repeat(np.arange(4), 60)
    return centres[truth] + rng.normal(size=(240, 4)), truth


@pytest.mark.parametrize(("method", "resolution"), [("bic", 1.0), ("leiden", 0.1), ("leiden", 0.5)])
def test_chooses_the_true_number(blobs, method, resolution):
    chosen = choose_n_components(blobs[0], method, resolution=resolution, max_components=10)
    assert chosen == 4


def test_one_cloud_is_one_component():
    z = np.random.default_rng(0).normal(size=(300, 3))
    assert choose_n_components(z, "bic", max_components=6) == 1


@pytest.mark.parametrize("method", ["kmeans", "gmm", "leiden"])
def test_same_seed_same_fit(blobs, method):
    first, second = (fit_mixture(blobs[0], method, 4, n_init=2, random_state=3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_subsample_assigns_every_cell(blobs, method):
    z, truth = blobs
    fit = fit_mixture(z, method, 4, n_init=2, max_cells=100)
    assert fit.labels.shape == truth.shape
    for k in range(4):
        assert len(np.unique(fit.labels[truth == k])) == 1


@pytest.mark.parametrize("n_components", [2, 7])
def test_leiden_gives_the_number_asked_for(blobs, n_components):
    fit = fit_mixture(blobs[0], "leiden", n_components, n_init=2)
    assert len(fit.weights) == n_components
    assert fit.weights.sum() == pytest.approx(1.0)


def test_equal_cells_keep_a_floor():
    z = np.repeat([[0.0, 0.0], [5.0, 5.0]], 10, axis=0)
    assert fit_mixture(z, "kmeans", 2, n_init=1).variances.min() == pytest.approx(1e-3)


def test_errors(blobs):
    z = blobs[0]
    with pytest.raises(ValueError, match="choose one of"):
        fit_mixture(z, "louvain", 3)
    with pytest.raises(ValueError, match="n_components=0"):
        fit_mixture(z, "gmm", 0)
    with pytest.raises(ValueError, match=r"first: cell 2"):
        fit_mixture(np.where(np.arange(240)[:, None] == 2, np.nan, z), "gmm", 2)
    with pytest.raises(ValueError, match="shape"):
        fit_mixture(z[0], "gmm", 2)
    with pytest.raises(ValueError, match="'bic'"):
        choose_n_components(z, "aic")
