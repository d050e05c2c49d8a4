"""Random numbers of single cells and of times."""

from __future__ import annotations

import pytest
import torch

from atacvi.diffusion import cell_generators, draw_noise, uniform_times


def test_noise_of_a_cell_is_its_own():
    whole = draw_noise((20, 5), cell_generators(3, range(20)))
    part = draw_noise((2, 5), cell_generators(3, [17, 4]))
    assert torch.equal(part, whole[[17, 4]])
    assert not torch.equal(whole, draw_noise((20, 5), cell_generators(4, range(20))))


def test_noise_of_cells_is_standard_normal_and_unrelated():
    noise = draw_noise((400, 50), cell_generators(0, range(400)))
    assert noise.mean().item() == pytest.approx(0.0, abs=0.03)
    assert noise.var().item() == pytest.approx(1.0, abs=0.04)
    between = torch.corrcoef(noise) - torch.eye(400)
    assert between.abs().max() < 0.75
    assert between.std().item() == pytest.approx(50**-0.5, rel=0.1)


def test_generators_go_on():
    """A second draw differs from the first and does not depend on the other cells."""
    generators = cell_generators(0, range(3))
    first, second = draw_noise((3, 2), generators), draw_noise((3, 2), generators)
    assert not torch.equal(first, second)
    alone = cell_generators(0, [1])
    draw_noise((1, 2), alone)
    assert torch.equal(draw_noise((1, 2), alone), second[1:2])


def test_as_many_generators_as_cells():
    with pytest.raises(ValueError, match=r"found 2 generators for 3 cells"):
        draw_noise((3, 2), cell_generators(0, range(2)))
    assert draw_noise((0, 2), []).shape == (0, 2)


def test_type_of_the_noise():
    for generator in (None, torch.Generator(), cell_generators(0, range(2))):
        assert draw_noise((2, 3), generator, dtype=torch.float64).dtype == torch.float64


def test_stratified_times_cover_evenly_and_are_shuffled():
    times = uniform_times(1000, torch.Generator().manual_seed(0))
    assert ((times >= 0) & (times < 1)).all()
    assert (times.sort().values - torch.arange(1000) / 1000).max() < 1.01e-3
    rank = torch.corrcoef(torch.stack([times, torch.arange(1000.0)]))[0, 1]
    assert rank.abs() < 0.15


def test_stratified_times_lower_the_variance_of_a_mean():
    generator = torch.Generator().manual_seed(0)
    spread = {
        stratified: torch.stack(
            [
                uniform_times(32, generator, stratified=stratified).square().mean()
                for _ in range(200)
            ]
        ).std()
        for stratified in (True, False)
    }
    assert spread[True] < 0.1 * spread[False]


def test_each_stratified_time_is_uniform():
    generator = torch.Generator().manual_seed(0)
    first = torch.stack([uniform_times(8, generator)[0] for _ in range(2000)])
    counts = torch.histc(first, bins=8, min=0, max=1)
    # 250 expected; five standard deviations
    assert (counts - 250).abs().max() < 75


def test_no_times_are_refused():
    with pytest.raises(ValueError, match=r"n must be a whole number of at least 1, found 0"):
        uniform_times(0)
