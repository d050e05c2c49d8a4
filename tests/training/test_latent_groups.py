"""Posteriors of latents under a prior of their own for each group of cells."""

from __future__ import annotations

import pytest
import torch

from atacvi.training import posteriors_within_groups

N_CELLS = 4_000
CENTRES, WIDTHS = torch.tensor([-1.5, 0.0, 2.0]).double(), torch.tensor([0.4, 0.7, 0.5]).double()
NOISE = 0.25


@pytest.fixture(scope="module")
def inferred() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Posteriors of latents of three groups under one prior: that of all cells together."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(N_CELLS) % 3
    draw = torch.randn(2, N_CELLS, generator=generator).double()
    truth = CENTRES[group] + WIDTHS[group] * draw[0]
    seen = truth + NOISE**0.5 * draw[1]
    spread = truth.var()
    variance = torch.full((N_CELLS,), float(1 / (1 / NOISE + 1 / spread))).double()
    mean = variance * (seen / NOISE + truth.mean() / spread)
    return mean[:, None], variance[:, None], group


def everything(group: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(group), dtype=torch.bool)


def spread_of(mean: torch.Tensor, variance: torch.Tensor, cells: torch.Tensor) -> float:
    return float((mean[cells].var() + variance[cells].mean()).sqrt())


def test_groups_get_their_own_centres_and_widths(inferred):
    mean, variance, group = inferred
    after_mean, after_variance = posteriors_within_groups(mean, variance, group, everything(group))
    for k in range(3):
        own = group == k
        assert float(after_mean[own].mean()) == pytest.approx(float(CENTRES[k]), abs=0.1)
        width = spread_of(after_mean, after_variance, own)
        assert width == pytest.approx(float(WIDTHS[k]), abs=0.1)
        # samples of the posteriors as they came mix the groups
        assert spread_of(mean, variance, own) > width + 0.05


def test_one_group_leaves_posteriors_as_they_were(inferred):
    mean, variance, group = inferred
    after = posteriors_within_groups(mean, variance, torch.zeros_like(group), everything(group))
    torch.testing.assert_close(after[0], mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after[1], variance, rtol=1e-6, atol=1e-6)


def test_held_out_cells_teach_nothing(inferred):
    mean, variance, group = inferred
    train = torch.arange(N_CELLS) < N_CELLS // 2
    other = torch.where(train[:, None], mean, mean + 5.0)
    one = posteriors_within_groups(mean, variance, group, train)
    two = posteriors_within_groups(other, variance, group, train)
    torch.testing.assert_close(one[0][train], two[0][train])
    torch.testing.assert_close(one[1], two[1])  # and know what the others taught


def test_a_group_without_training_cells_keeps_its_posteriors(inferred):
    mean, variance, group = inferred
    after = posteriors_within_groups(mean, variance, group, group < 2)
    torch.testing.assert_close(after[0][group == 2], mean[group == 2])
    torch.testing.assert_close(after[1][group == 2], variance[group == 2])


@pytest.mark.parametrize("least", [1e-8, 1e-3, 10.0])
def test_few_cells_and_odd_widths_stay_finite(least):
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(9, 4, generator=generator)
    variance = least * (1.0 + torch.rand(9, 4, generator=generator))
    group = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2, 2])
    after = posteriors_within_groups(mean, variance, group, everything(group))
    assert all(part.isfinite().all() and part.dtype == torch.float32 for part in after)
    assert (after[1] > 0).all()
    assert (after[1] <= variance.max() * 1.5).all()
