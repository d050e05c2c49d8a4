"""Correlations and areas against scipy and scikit-learn, dense and sparse, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from atacvi.metrics import (
    agreement,
    per_cell_auroc,
    per_cell_correlation,
    per_feature_auroc,
    per_feature_correlation,
)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.poisson(0.4, size=(30, 23)).astype(float)
    prediction = np.round(truth * 0.3 + rng.random(truth.shape), 1)
    return truth, prediction


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(agreement, "_BLOCK", 7)


@pytest.mark.parametrize(("method", "reference"), [("pearson", pearsonr), ("spearman", spearmanr)])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_correlations_match_scipy(pair, method, reference, form):
    truth, prediction = pair
    cells = [reference(x, y)[0] for x, y in zip(truth, prediction, strict=True)]
    features = [reference(x, y)[0] for x, y in zip(truth.T, prediction.T, strict=True)]
    found = per_cell_correlation(form(truth), form(prediction), method)
    np.testing.assert_allclose(found, cells, atol=1e-12)
    found = per_feature_correlation(form(truth), prediction, method)
    np.testing.assert_allclose(found, features, atol=1e-12)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.coo_array])
def test_areas_match_scikit_learn(pair, form):
    truth, prediction = pair
    cells = [roc_auc_score(x > 0, y) for x, y in zip(truth, prediction, strict=True)]
    features = [roc_auc_score(x > 0, y) for x, y in zip(truth.T, prediction.T, strict=True)]
    np.testing.assert_allclose(per_cell_auroc(form(truth), prediction), cells, atol=1e-12)
    np.testing.assert_allclose(per_feature_auroc(form(truth), prediction), features, atol=1e-12)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_constant_profiles(method):
    truth = np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    prediction = np.array([[1.0, 2.0, 3.0], [0.3, 0.3, 0.3], [4.0, 2.0, 1.0]])
    found = per_cell_correlation(truth, prediction, method)
    assert np.isnan(found[0])
    assert found[1] == 0
    assert found[2] < 0
    np.testing.assert_array_equal(found, per_feature_correlation(truth.T, prediction.T, method))


def test_areas_without_two_classes_are_nan():
    truth = np.array([[0, 0, 0], [1, 2, 1], [1, 0, 0]])
    found = per_cell_auroc(truth, np.tile([3.0, 2.0, 1.0], (3, 1)))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.0])


@pytest.mark.parametrize("function", [per_cell_correlation, per_feature_auroc])
def test_wrong_input_is_named(function):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and `prediction` \(3, 2\)"):
        function(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="`prediction` holds NaN"):
        function(np.ones((2, 3)), np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="1 dimensions"):
        function(np.ones(3), np.ones(3))


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match="'kendall' was found"):
        per_cell_correlation(np.ones((2, 2)), np.ones((2, 2)), "kendall")
