from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from atacvi.metrics import ordering_correlation


def test_correlations_are_those_of_scipy(rng):
    time = rng.integers(0, 3, 60)
    pseudotime = time + rng.normal(size=60)
    expected = spearmanr(pseudotime, time).statistic
    assert ordering_correlation(pseudotime, time) == pytest.approx(expected)
    expected = kendalltau(pseudotime, time).statistic
    assert ordering_correlation(pseudotime, time, "kendall") == pytest.approx(expected)


def test_cells_that_are_not_reached_are_left_out(rng):
    time = np.arange(20.0)
    reached = ordering_correlation(time[:18] ** 2, time[:18])
    pseudotime = np.r_[time[:18] ** 2, np.inf, np.nan]
    assert ordering_correlation(pseudotime, time) == reached == pytest.approx(1.0)
    assert np.isnan(ordering_correlation(np.ones(20), time))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 pseudotimes and 2 times"):
        ordering_correlation([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="2 cells have both"):
        ordering_correlation([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(ValueError, match="method='pearson'"):
        ordering_correlation([1, 2, 3], [1, 2, 3], "pearson")
