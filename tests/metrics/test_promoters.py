from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kstest

from atacvi.metrics import (
    benjamini_hochberg,
    matched_enrichment,
    matched_pvalues,
    matched_regions,
    tss_score,
)


def test_tss_score_is_one_when_monotone_and_zero_when_shuffled(rng):
    tss = rng.lognormal(9, 2, 400)
    assert tss_score(np.sqrt(tss), tss) == pytest.approx(1.0)
    shuffled = [tss_score(rng.permutation(tss), tss) for _ in range(40)]
    assert abs(np.mean(shuffled)) < 0.03


def test_tss_score_leaves_out_what_is_not_finite():
    assert tss_score([0, 1, 2, np.nan], [5, 6, 7, 1]) == 1.0
    with pytest.raises(ValueError, match="at least three"):
        tss_score([0, 1, np.nan], [5, 6, 7])
    with pytest.raises(ValueError, match="at least three"):
        tss_score([1, 1, 1], [5, 6, 7])
    with pytest.raises(ValueError, match="must be equal"):
        tss_score([1, 2], [1, 2, 3])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_pvalues_agree_with_scipy(pvalues):
    np.testing.assert_allclose(benjamini_hochberg(pvalues), false_discovery_control(pvalues))


def test_adjusted_pvalues_keep_missing_ones():
    adjusted = benjamini_hochberg([0.01, np.nan, 0.5])
    assert np.isnan(adjusted[1])
    np.testing.assert_allclose(adjusted[[0, 2]], [0.02, 0.5])
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([1.2])


def test_matches_are_alike_and_never_the_region_itself(rng):
    covariates = np.column_stack([rng.lognormal(0, 3, 500), rng.normal(size=500)])
    chosen = np.arange(50)
    matches = matched_regions(covariates, chosen, np.arange(500), n_matches=20)
    assert matches.shape == (50, 20)
    assert not (matches == chosen[:, None]).any()
    ranks = covariates.argsort(0).argsort(0) / 500
    apart = np.abs(ranks[matches] - ranks[chosen][:, None]).mean((0, 1))
    at_random = np.abs(ranks[rng.integers(0, 500, (50, 20))] - ranks[chosen][:, None]).mean((0, 1))
    assert (apart < 0.5 * at_random).all()


def test_a_pool_without_the_region_gives_as_many_matches():
    matches = matched_regions(np.arange(6.0), [0, 5], [1, 2, 3], n_matches=10)
    assert matches.tolist() == [[1, 2], [3, 2]]
    with pytest.raises(ValueError, match="at least two"):
        matched_regions(np.arange(6.0), [0], [1])
    with pytest.raises(ValueError, match="not finite"):
        matched_regions([np.nan, 1.0], [0], [0, 1])


def test_pvalues_of_the_null_are_uniform_and_confounding_is_removed(rng):
    """The score follows the covariate alone: no region stands out among its matches."""
    covariate = rng.normal(size=3000)
    score = 5 * covariate + rng.normal(size=3000)
    chosen = np.flatnonzero(covariate > 1)
    matches = matched_regions(covariate, chosen, np.arange(3000), n_matches=100)
    pvalues = matched_pvalues(score, chosen, matches)
    assert kstest(pvalues, "uniform").statistic < 0.08
    unmatched = np.array([(1 + (score >= score[i]).sum()) / 3001 for i in chosen])
    assert kstest(unmatched, "uniform").statistic > 0.5


def test_enrichment(rng):
    hits = np.zeros(1000, dtype=bool)
    hits[:60] = True
    matches = np.tile(np.arange(1000), (50, 1))
    found = matched_enrichment(hits, np.arange(30, 80), matches)
    assert found.observed == 0.6
    assert found.expected == pytest.approx(0.06, abs=0.005)
    assert found.low < found.ratio < found.high
    assert found.low > 3
    assert found.pvalue == pytest.approx(1 / 1001)
    none = matched_enrichment(hits, rng.permutation(1000)[:50], matches)
    assert none.low < 1 < none.high
    with pytest.raises(ValueError, match="No region"):
        matched_enrichment(hits, [], matches)
