"""The mixture behind the probability of a link, on planted two-group data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

from atacvi.tl import _link_mixture
from atacvi.tl._link_mixture import fit_links

_NULL = 20_000


def intervals(z):
    """Place z scores among evenly spaced null scores, as the pool does."""
    null = ndtri((np.arange(_NULL) + 0.5) / _NULL)
    below = np.searchsorted(null, z)
    return ndtri(below / (_NULL + 1)), ndtri((below + 1) / (_NULL + 1))


def planted(rng, n=6000, slope=1.5, intercept=-1.5, negative=0.2):
    """Pairs of which those near the TSS are likelier to be links."""
    distance = rng.integers(-250_000, 250_000, n)
    x = np.log(1e3 + np.abs(distance))
    share = 1 / (1 + np.exp(slope * (x - x.mean()) / x.std() - intercept))
    link = rng.random(n) < share
    sign = np.where(rng.random(n) < negative, -1, 1)
    z = rng.normal(size=n) + link * sign * rng.uniform(2, 4, n)
    return z, distance, link, share


def test_objective_never_falls(rng):
    z, distance, *_ = planted(rng, 2000)
    objective = np.array(fit_links(*intervals(z), distance, rng).objective)
    assert len(objective) > 5
    assert (np.diff(objective) > -1e-9).all()


def test_probabilities_are_calibrated(rng):
    z, distance, link, share = planted(rng)
    found = fit_links(*intervals(z), distance, rng)
    order = np.argsort(found.probability)
    for part in np.array_split(order, 8):
        assert found.probability[part].mean() == pytest.approx(link[part].mean(), abs=0.06)
    np.testing.assert_allclose(found.prior, share, atol=0.15)
    assert np.abs(found.prior - share).mean() < 0.04
    # The distance adds to the score.
    assert roc_auc_score(link, found.probability) > roc_auc_score(link, np.abs(z)) + 0.015


def test_repressors_are_as_likely_as_activators_where_the_data_say_so(rng):
    z, distance, link, _ = planted(rng, negative=0.5)
    found = fit_links(*intervals(z), distance, rng).probability
    up, down = link & (z > 3), link & (z < -3)
    assert found[up].mean() == pytest.approx(found[down].mean(), abs=0.05)
    # Without any the lower tail is no evidence.
    z, distance, *_ = planted(rng, negative=0.0)
    found = fit_links(*intervals(z), distance, rng).probability
    assert found[z < -2].mean() < 0.1 < 0.8 < found[z > 3].mean()


def test_without_signal_probabilities_are_small(rng):
    distance = rng.integers(-250_000, 250_000, 8000)
    found = fit_links(*intervals(rng.normal(size=8000)), distance, rng)
    assert found.probability.mean() < 0.1
    assert (found.probability > 0.5).mean() < 0.01


def test_without_effect_of_distance_the_prior_is_flat(rng):
    z, distance, link, _ = planted(rng, slope=0.0, intercept=-1.0)
    found = fit_links(*intervals(z), distance, rng)
    assert found.prior.mean() == pytest.approx(link.mean(), abs=0.05)
    assert found.prior.std() < 0.05


def test_higher_scores_are_likelier_activators(rng):
    z, distance, *_ = planted(rng, negative=0.0)
    distance[:100], z[:100] = 5000, np.linspace(0, 5, 100)
    found = fit_links(*intervals(z), distance, rng)
    assert (np.diff(found.probability[:100]) > -1e-6).all()


def test_scores_beyond_all_null_scores_and_missing_ones(rng):
    z, distance, *_ = planted(rng, 500)
    z[:2] = 50.0, -50.0
    low, high = intervals(z)
    assert np.isinf(high[0])
    low[2] = high[2] = np.nan
    found = fit_links(low, high, distance, rng)
    assert np.isnan(found.probability[2])
    others = np.delete(found.probability, 2)
    assert ((others >= 0) & (others <= 1)).all()
    assert found.probability[0] > 0.9
    nothing = fit_links(np.full(3, np.nan), np.full(3, np.nan), distance[:3], rng)
    assert np.isnan(nothing.probability).all()


def test_ties_carry_no_signal(rng):
    # As of a lasso: most coefficients are zero, in the null as in the pairs.
    n = 4000
    low, high = intervals(rng.normal(size=n))
    zero = (low > ndtri(0.1)) & (high < ndtri(0.9))
    low[zero], high[zero] = ndtri(0.1), ndtri(0.9)
    found = fit_links(low, high, rng.integers(0, 250_000, n), rng)
    assert found.probability.mean() < 0.15
    assert np.ptp(found.probability[zero]) < 0.2


def test_a_sample_of_the_pairs_teaches_the_same(rng, monkeypatch):
    z, distance, *_ = planted(rng)
    every = fit_links(*intervals(z), distance, rng).probability
    monkeypatch.setattr(_link_mixture, "_MAX_LEARNT", 4000)
    monkeypatch.setattr(_link_mixture, "_CHUNK", 1500)
    some = fit_links(*intervals(z), distance, rng).probability
    assert np.abs(every - some).mean() < 0.03


def test_one_distance_is_no_covariate(rng):
    z, distance, *_ = planted(rng, 300)
    found = fit_links(*intervals(z), np.full_like(distance, 10), rng)
    assert found.prior.std() < 1e-9
