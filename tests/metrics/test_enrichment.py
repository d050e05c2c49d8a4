"""Odds ratios, intervals and p values against scipy."""

from __future__ import annotations

import pytest
from scipy.stats import fisher_exact
from scipy.stats.contingency import odds_ratio

from atacvi.metrics import overlap_enrichment


@pytest.mark.parametrize("sizes", [(8, 10, 20, 100), (0, 5, 7, 30), (50, 60, 400, 1000)])
def test_p_value_is_that_of_fisher(sizes):
    both, first, second, total = sizes
    table = [[both, first - both], [second - both, total - first - second + both]]
    assert overlap_enrichment(*sizes).p_value == pytest.approx(
        fisher_exact(table, alternative="greater").pvalue
    )


def test_interval_is_near_that_of_scipy_for_large_counts():
    sizes = (300, 1000, 2000, 10_000)
    table = [[300, 700], [1700, 7300]]
    found = overlap_enrichment(*sizes)
    expected = odds_ratio(table, kind="sample")
    low, high = expected.confidence_interval(0.95)
    assert found.odds_ratio == pytest.approx(expected.statistic, rel=0.01)
    assert (found.lower, found.upper) == pytest.approx((low, high), rel=0.01)
    wide = overlap_enrichment(*sizes, confidence=0.99)
    assert wide.lower < found.lower < found.upper < wide.upper


def test_empty_overlaps_are_finite_and_impossible_ones_refused():
    assert 0 < overlap_enrichment(0, 10, 10, 100).odds_ratio < 1
    with pytest.raises(ValueError, match="no sets of 5 and 5 of 8 items share 1"):
        overlap_enrichment(1, 5, 5, 8)
    with pytest.raises(ValueError, match="confidence=1"):
        overlap_enrichment(1, 2, 2, 8, confidence=1)
