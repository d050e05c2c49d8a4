"""Means, depth and co-accessibility of generated cells against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from atacvi.metrics import (
    coaccessibility_correlation,
    depth_ks,
    peak_frequency_ks,
    peak_mean_correlation,
)


@pytest.fixture
def pair(rng):
    rate = rng.gamma(0.5, 1.0, 40)
    return rng.poisson(rate, (60, 40)), rng.poisson(rate, (50, 40))


def test_means_correlate_as_numpy_says(pair):
    real, drawn = pair
    found = peak_mean_correlation(real, drawn, binary=False)
    assert found.pcc == pytest.approx(np.corrcoef(real.mean(0), drawn.mean(0))[0, 1])
    assert found.scc == pytest.approx(spearmanr(real.mean(0), drawn.mean(0)).statistic)
    assert found.per_type.empty
    as_open = peak_mean_correlation(real, drawn)
    assert as_open.pcc == pytest.approx(np.corrcoef((real > 0).mean(0), (drawn > 0).mean(0))[0, 1])
    assert as_open.pcc != pytest.approx(found.pcc, abs=1e-6)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.coo_array, np.asarray])
def test_all_kinds_of_matrices_give_the_same_and_are_left_alone(kind, pair):
    real, drawn = pair
    given = kind(real)
    assert peak_mean_correlation(given, kind(drawn))[:2] == peak_mean_correlation(real, drawn)[:2]
    assert depth_ks(given, kind(drawn)) == depth_ks(real, drawn)
    left = given.toarray() if sp.issparse(given) else given
    np.testing.assert_array_equal(left, real)


def test_explicit_zeros_are_closed():
    zeros = sp.csr_matrix((np.array([1.0, 0.0]), ([0, 1], [0, 1])), shape=(2, 2))
    assert depth_ks(zeros, [[1, 0], [0, 0]]) == 0
    assert peak_frequency_ks(zeros, [[1, 0], [0, 0]]) == 0


def test_types_are_correlated_one_by_one(pair):
    real, drawn = pair
    labels, drawn_labels = np.repeat(["a", "b", "c"], 20), np.repeat(["b", "a"], 25)
    table = peak_mean_correlation(real, drawn, labels, drawn_labels, binary=False).per_type
    expected = np.corrcoef(real[:20].mean(0), drawn[25:].mean(0))[0, 1]
    assert table.loc["a", "pcc"] == pytest.approx(expected)
    assert table.loc["b", ["n_real", "n_generated"]].tolist() == [20, 25]
    # A type that was not generated is shown, without a number.
    assert table.loc["c", "n_generated"] == 0
    assert np.isnan(table.loc["c", "scc"])


def test_shuffled_peaks_are_rejected(pair, rng):
    real, drawn = pair
    shuffled = drawn[:, rng.permutation(40)]
    assert peak_mean_correlation(real, drawn).pcc > 0.9
    assert abs(peak_mean_correlation(real, shuffled).pcc) < 0.5
    # ... but the distribution of frequencies does not see it.
    assert peak_frequency_ks(real, shuffled) == peak_frequency_ks(real, drawn)


def test_ks_distances_of_hand_made_cells():
    real = np.triu(np.ones((4, 4)))  # depths 4, 3, 2, 1; frequencies 1/4 ... 1
    assert depth_ks(real, real[::-1]) == 0
    assert depth_ks(real, np.ones((3, 4))) == 0.75
    assert depth_ks(real, np.zeros((3, 4))) == 1
    assert peak_frequency_ks(real, np.ones((3, 4))) == 0.75


def test_coaccessibility_matches_numpy(rng):
    program = rng.random((300, 1)) < 0.5
    rate = np.where(program, rng.uniform(0.1, 0.9, 30), rng.uniform(0.1, 0.9, 30))
    real, drawn = ((rng.random((300, 30)) < rate).astype(float) for _ in range(2))
    share = real.mean(axis=0)
    chosen = np.argsort(-share * (1 - share), kind="stable")[:12]
    upper = np.triu_indices(12, 1)
    first, second = (np.corrcoef(x[:, chosen].T)[upper] for x in (real, drawn))
    expected = np.corrcoef(first, second)[0, 1]
    found = coaccessibility_correlation(sp.csr_matrix(real * 3), drawn, n_peaks=12)
    assert found == pytest.approx(expected, abs=1e-10)
    # The same frequencies without the program have no co-accessibility left.
    marginal = (rng.random((300, 30)) < real.mean(axis=0)).astype(float)
    assert found > 0.8
    assert abs(coaccessibility_correlation(real, marginal)) < 0.2


def test_a_peak_that_never_varies_counts_as_uncorrelated(rng):
    real = (rng.random((100, 5)) < 0.5).astype(float)
    assert coaccessibility_correlation(real, np.ones_like(real)) == 0
    with pytest.raises(ValueError, match="0 peaks vary in `real`"):
        coaccessibility_correlation(np.ones_like(real), real)


def test_what_does_not_fit_is_refused(pair):
    real, drawn = pair
    with pytest.raises(ValueError, match="40 peaks and `generated` 39"):
        depth_ks(real, drawn[:, 1:])
    with pytest.raises(ValueError, match="`generated` holds negative"):
        peak_frequency_ks(real, -drawn)
    with pytest.raises(ValueError, match="`real` has 1 dimensions"):
        depth_ks(real[0], drawn)
    with pytest.raises(ValueError, match="give both or neither"):
        peak_mean_correlation(real, drawn, np.repeat("a", 60))
    with pytest.raises(ValueError, match="`generated_labels` holds 3 labels for 50 cells"):
        peak_mean_correlation(real, drawn, np.repeat("a", 60), ["a"] * 3)
    with pytest.raises(ValueError, match="lacks the label of 30 cells"):
        peak_mean_correlation(real, drawn, ["a", None] * 30, ["a"] * 50)
