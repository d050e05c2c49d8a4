from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, spearmanr

from atacvi.metrics import bulk_correlation, peak_recovery


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize(("method", "direct"), [("pearson", pearsonr), ("spearman", spearmanr)])
def test_correlations_are_those_of_scipy(rng, monkeypatch, kind, method, direct):
    monkeypatch.setattr("atacvi.metrics.bulk._BLOCK", 3)
    values, bulk = rng.poisson(1.0, (8, 30)), rng.gamma(1.0, size=30)
    expected = [direct(row, bulk).statistic for row in values]
    np.testing.assert_allclose(bulk_correlation(kind(values), bulk, method), expected)


def test_recovery_is_counted(rng):
    called, truth = rng.random((6, 40)) < 0.3, rng.random(40) < 0.4
    called[0] = False
    for kind in (np.asarray, sp.csr_matrix):
        found = peak_recovery(kind(called.astype(float)), truth)
        assert found.n_called.tolist() == called.sum(1).tolist()
        assert found.n_confirmed.tolist() == (called & truth).sum(1).tolist()
        assert np.isnan(found.precision[0])
        np.testing.assert_allclose(
            found.precision[1:], (called & truth).sum(1)[1:] / called.sum(1)[1:]
        )
        np.testing.assert_allclose(found.recall, (called & truth).sum(1) / truth.sum())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) do not fit a bulk profile of 4"):
        bulk_correlation(np.zeros((2, 3)), np.arange(4))
    with pytest.raises(ValueError, match="constant over the features"):
        bulk_correlation(np.zeros((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="no peak is open in bulk"):
        peak_recovery(np.ones((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="calls of 3 peaks do not fit 2"):
        peak_recovery(np.ones((2, 3)), np.ones(2))
