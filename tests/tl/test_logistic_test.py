"""Logistic tests on sparse columns against scikit-learn and dense Newton steps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression

from atacvi.tl._logistic_test import gauss_rule, logistic


def test_logistic_is_the_likelihood_ratio_of_scikit_learn(rng):
    n = 200
    depth = rng.normal(size=n)
    first = rng.random(n) < 1 / (1 + np.exp(-depth))
    values = rng.poisson(1.0, (n, 4)).astype(float)
    values[:, 0] += first
    values[:, 3] = 2.0  # constant
    found = logistic(sp.csc_matrix(values), first, depth)

    def log_likelihood(x):
        p = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, first).predict_proba(x)
        return np.log(p[np.arange(n), first.astype(int)]).sum()

    null = log_likelihood(depth[:, None])
    for j in range(3):
        ratio = 2 * (log_likelihood(np.c_[depth, values[:, j]]) - null)
        assert found.statistic[j] ** 2 == pytest.approx(ratio, abs=1e-3)
        assert found.p_value[j] == pytest.approx(chi2.sf(ratio, 1), abs=1e-3)
    assert found.p_value[3] == pytest.approx(1.0)
    assert found.statistic[0] > 0


def test_logistic_survives_a_feature_that_separates(rng):
    first = np.arange(100) < 50
    found = logistic(sp.csc_matrix(first[:, None].astype(float)), first, rng.normal(size=100))
    assert np.isfinite(found.statistic).all()
    assert found.p_value[0] < 1e-20


@pytest.mark.parametrize("n", [40, 700])
def test_sparse_columns_give_the_ratio_of_a_dense_fit(rng, n):
    depth = rng.normal(size=n) + 8
    first = rng.random(n) < 1 / (1 + np.exp(1.5 * (depth - 8)))
    values = rng.poisson(0.1, (n, 30)) * rng.gamma(2.0, size=(n, 30))
    found = logistic(sp.csc_matrix(values), first, depth)

    def deviance(beta, x):
        eta = x @ beta
        return 2 * (np.logaddexp(0, eta) - first * eta).sum()

    base = np.c_[np.ones(n), depth - 8]
    null = minimize(deviance, np.zeros(2), (base,)).fun
    for j in range(30):
        full = np.c_[base, values[:, j]]
        ratio = null - minimize(deviance, np.zeros(3), (full,)).fun
        assert found.statistic[j] ** 2 == pytest.approx(ratio, abs=2e-3)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.integers(1, 12))
def test_gauss_rule_sums_polynomials_exactly(points, n_nodes):
    points = np.array(points) / 50
    nodes, weights = gauss_rule(points, n_nodes)
    assert (weights >= 0).all()
    for degree in range(2 * n_nodes):
        assert (nodes**degree) @ weights == pytest.approx((points**degree).sum(), abs=1e-8)


def test_no_values_no_difference():
    first = np.arange(10) < 4
    found = logistic(sp.csc_matrix((10, 3)), first, np.linspace(0, 1, 10))
    np.testing.assert_allclose(found.p_value, 1.0, atol=1e-3)
    np.testing.assert_allclose(found.statistic, 0.0)
