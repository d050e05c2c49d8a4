"""Draws of sparse counts: means, exact totals, and cells that do not depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from atacvi.likelihoods import draw_counts, draw_open


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_cells(n: int, start: int = 0) -> list[torch.Generator]:
    return [seeded(1000 + cell) for cell in range(start, start + n)]


def rates(n_features: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_features, generator=seeded(seed))


# ---- counts ---------------------------------------------------------------------------------


def test_counts_are_multinomial():
    """Means, variances and covariances of the draws are those of the multinomial."""
    n, total = 20_000, 12
    log_rate = rates(5)
    p = torch.softmax(log_rate.double(), 0).numpy()  # scipy wants a sum of one
    drawn = draw_counts(log_rate.expand(n, -1), torch.full((n,), total), seeded()).to_dense()
    drawn = drawn.double().numpy()
    law = scipy.stats.multinomial(total, p)
    error = 4 * np.sqrt(total * p * (1 - p) / n)
    assert (np.abs(drawn.mean(0) - law.mean()) < error).all()
    np.testing.assert_allclose(np.cov(drawn.T), law.cov(), atol=0.1)


def test_each_outcome_as_often_as_scipy_says():
    n, p = 30_000, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    drawn = draw_counts(p.log().expand(n, -1), torch.full((n,), 3), seeded()).to_dense().numpy()
    outcomes, counts = np.unique(drawn, axis=0, return_counts=True)
    expected = n * scipy.stats.multinomial(3, p.numpy()).pmf(outcomes)
    assert len(outcomes) == 10
    assert scipy.stats.chisquare(counts, expected * n / expected.sum()).pvalue > 1e-3


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.integers(1, 12),
    st.floats(-80, 80),
    st.integers(0, 99),
)
def test_totals_are_exact_and_constants_do_not_matter(totals, n_features, constant, seed):
    log_rate = 5 * torch.randn(len(totals), n_features, generator=seeded(seed))
    total = torch.tensor(totals)
    drawn = draw_counts(log_rate, total, seeded(seed))
    dense = drawn.to_dense()
    assert dense.sum(1).long().tolist() == totals
    assert drawn.shape == (len(totals), n_features)
    assert (drawn.values > 0).all()
    assert len(torch.unique(drawn.rows * n_features + drawn.cols)) == len(drawn.rows)
    # Rounding of the shifted rates may move single events, no more
    shifted = draw_counts(log_rate + constant, total, seeded(seed)).to_dense()
    assert float((shifted - dense).abs().sum()) <= 0.1 * sum(totals) + 2


def test_features_without_rate_get_nothing():
    log_rate = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]])
    drawn = draw_counts(log_rate, torch.tensor([500]), seeded()).to_dense()
    assert drawn[0, [1, 3]].sum() == 0
    opened = draw_open(log_rate, torch.tensor([2]), seeded()).to_dense()
    assert opened.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_rare_features_are_not_lost_beside_common_ones():
    """A thousand features of 1e-6 of the events each, behind one that has nearly all."""
    log_rate = torch.cat([torch.zeros(1), torch.full((1000,), float(np.log(1e-6)))])
    n = 2_000_000
    drawn = draw_counts(log_rate[None], torch.tensor([n]), seeded())
    rare = n - int(drawn.to_dense()[0, 0])
    expected = n * 1e-3 / (1 + 1e-3)
    assert abs(rare - expected) < 4 * expected**0.5


# ---- open features --------------------------------------------------------------------------


def test_frequency_of_open_features_for_one_event_is_the_share_of_the_rate():
    n, log_rate = 40_000, rates(6)
    p = torch.softmax(log_rate, 0)
    found = draw_open(log_rate.expand(n, -1), torch.ones(n, dtype=torch.long), seeded())
    mean = found.to_dense().mean(0)
    assert ((mean - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()


def test_frequency_of_two_open_features_is_that_of_draws_one_after_the_other():
    n, p = 40_000, torch.tensor([0.6, 0.3, 0.1])
    found = draw_open(p.log().expand(n, -1), torch.full((n,), 2), seeded()).to_dense()
    both = {
        pair: p[pair[0]] * p[pair[1]] / (1 - p[pair[0]])
        + p[pair[0]] * p[pair[1]] / (1 - p[pair[1]])
        for pair in ((0, 1), (0, 2), (1, 2))
    }
    for (i, j), expected in both.items():
        mean = float((found[:, i] * found[:, j]).mean())
        assert abs(mean - float(expected)) < 4 * float((expected * (1 - expected) / n).sqrt())


def test_frequencies_are_those_of_a_poisson_process():
    """Open in a cell whose number of open peaks follows the process: p = 1 - exp(-rate)."""
    n, n_features, depth = 4_000, 400, 60.0
    log_rate = rates(n_features) - rates(n_features).logsumexp(0)
    p = -torch.expm1(-depth * log_rate.exp())
    n_open = (torch.rand(n, n_features, generator=seeded(1)) < p).sum(1)
    mean = draw_open(log_rate.expand(n, -1), n_open, seeded(2)).to_dense().mean(0)
    assert ((mean - p).abs() < 4.5 * (p * (1 - p) / n).sqrt() + 0.01 * p).all()
    assert float(mean.sum() / p.sum()) == pytest.approx(1.0, abs=0.01)
    # Thresholding, which gives no draw, leaves next to nothing
    assert float((p > 0.5).float().sum() / p.sum()) < 0.5


@given(st.integers(1, 60), st.integers(0, 99))
def test_numbers_of_open_features_are_exact(n_features, seed):
    n_open = torch.randint(0, n_features + 1, (7,), generator=seeded(seed))
    log_rate = 0.3 * torch.randn(7, n_features, generator=seeded(seed))
    found = draw_open(log_rate, n_open, seeded(seed), max_rounds=200)
    assert found.to_dense().sum(1).long().tolist() == n_open.tolist()
    assert (found.values == 1).all()
    assert (found.rows.diff() >= 0).all()


def test_a_cell_of_which_nearly_all_is_asked_ends_in_time_and_with_no_more():
    log_rate = torch.tensor([[0.0, 0.0, -60.0]])
    found = draw_open(log_rate, torch.tensor([3]), seeded())
    assert found.to_dense().tolist() == [[1.0, 1.0, 0.0]]


# ---- seeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [draw_counts, draw_open])
def test_same_seed_same_draw(draw):
    log_rate, n = rates(50).expand(4, -1), torch.tensor([5, 0, 9, 30])
    one, again = draw(log_rate, n, seeded()), draw(log_rate, n, seeded())
    other = draw(log_rate, n, seeded(1))
    assert torch.equal(one.to_dense(), again.to_dense())
    assert not torch.equal(one.to_dense(), other.to_dense())


@pytest.mark.parametrize("draw", [draw_counts, draw_open])
def test_a_cell_with_its_own_generator_does_not_depend_on_the_others(draw):
    log_rate = torch.randn(6, 50, generator=seeded())
    n = torch.tensor([5, 0, 9, 45, 1, 20])
    together = draw(log_rate, n, of_cells(6)).to_dense()
    for cell in range(6):
        alone = draw(log_rate[cell : cell + 1], n[cell : cell + 1], of_cells(1, cell)).to_dense()
        assert torch.equal(together[cell : cell + 1], alone)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    generators = of_cells(6)
    shuffled = draw(log_rate[order], n[order], [generators[i] for i in order]).to_dense()
    assert torch.equal(shuffled, together[order])


@pytest.mark.parametrize("draw", [draw_counts, draw_open])
def test_the_rates_are_left_alone(draw):
    log_rate = rates(20).repeat(3, 1)
    before = log_rate.clone()
    draw(log_rate, torch.tensor([2, 3, 4]), seeded())
    assert torch.equal(log_rate, before)


def test_no_event_at_all():
    for draw in (draw_counts, draw_open):
        found = draw(rates(5).expand(2, -1), torch.zeros(2, dtype=torch.long), seeded())
        assert found.to_dense().sum() == 0
        assert found.shape == (2, 5)
