"""Rectified flow with ideal velocities."""

from __future__ import annotations

import pytest
import torch

from atacvi.diffusion import FlowMatching


@pytest.fixture
def flow() -> FlowMatching:
    return FlowMatching()


def test_time_runs_from_data_to_noise(flow):
    x0, noise = torch.randn(2, 5, 3)
    assert torch.equal(flow.corrupt(x0, noise, torch.zeros(5)), x0)
    assert torch.equal(flow.corrupt(x0, noise, torch.ones(5)), noise)
    assert torch.equal(flow.target(x0, noise, torch.rand(5)), x0 - noise)
    assert torch.equal(flow.weight(torch.rand(5)), torch.ones(5))


def test_the_velocity_gives_the_data_back(flow):
    x0, noise = torch.randn(2, 5, 3)
    time = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    x_t = flow.corrupt(x0, noise, time)
    found = flow.to_x0(flow.target(x0, noise, time), x_t, time)
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-6)


def test_one_euler_step_to_a_point_is_exact(flow):
    point, noise = torch.randn(1, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    found = flow.sample(
        lambda x, time: (point - x) / time[:, None], noise, n_steps=1, sampler="euler"
    )
    torch.testing.assert_close(found, point.expand(6, 3), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("variance", "sampler", "expected"),
    [
        (1.0, "euler", (0.773, 0.879, 0.950, 0.975)),
        (1.0, "heun", (0.999, 1.000, 1.000, 1.000)),
        (1 / 128, "euler", (0.337, 0.600, 0.819, 0.905)),
        (1 / 128, "heun", (1.225, 1.063, 1.012, 1.003)),
    ],
)
def test_moments_of_gaussian_data(flow, gaussian_data, variance, sampler, expected):
    """The way is linear in the noise: two points give the mean and the variance exactly."""
    data = gaussian_data(variance)
    start = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for n_steps, ratio in zip((10, 20, 50, 100), expected, strict=True):
        mean, one = flow.sample(
            lambda x, time: data.velocity(x, time[0].item()),
            start,
            n_steps=n_steps,
            sampler=sampler,
        )
        assert mean.item() == pytest.approx(data.mean, abs=1e-12)
        assert (one - mean).square().item() / variance == pytest.approx(ratio, abs=6e-4)


def test_evaluations(flow):
    for kwargs, expected in (
        ({}, 40),
        ({"sampler": "euler"}, 20),
        ({"n_steps": 3}, 6),
        ({"n_steps": 4, "sampler": "euler", "start": 0.5}, 4),
    ):
        seen = []

        def predict(x, time, seen=seen):
            assert time.shape == (2,)
            seen.append(time[0].item())
            return x

        flow.sample(predict, torch.zeros(2, 1), **kwargs)
        assert len(seen) == expected
        assert seen[0] == kwargs.get("start", 1.0)
        assert all(0.0 <= time <= 1.0 for time in seen)


def test_partial_diffusion(flow, gaussian_data):
    """From any time on, the ideal flow leads to the data's distribution; from 0 nowhere."""
    data = gaussian_data(1.0)
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4000, 1, generator=generator, dtype=torch.float64)
    x0 = x0 + data.mean
    correlations = []
    for start in (0.0, 0.2, 0.5, 1.0):
        x_start = flow.corrupt(x0, noise, torch.full((4000,), start))
        found = flow.sample(lambda x, time: data.velocity(x, time[0].item()), x_start, start=start)
        if start == 0.0:
            assert torch.equal(found, x0)
        assert found.var().item() == pytest.approx(1.0, abs=0.06)
        correlations.append(torch.corrcoef(torch.cat([found, x0], 1).T)[0, 1].item())
    assert correlations == sorted(correlations, reverse=True)
    assert correlations[1] > 0.9
    assert abs(correlations[3]) < 0.05


def test_minibatches_do_not_matter(flow, gaussian_data):
    data = gaussian_data(0.5)
    noise = torch.randn(9, 2)
    run = lambda part: flow.sample(lambda x, time: data.velocity(x, time[0].item()), part)
    assert torch.equal(run(noise), torch.cat([run(noise[:4]), run(noise[4:])]))


def test_times(flow):
    time = flow.sample_time(1000, torch.Generator().manual_seed(0))
    assert ((time > 0) & (time <= 1)).all()
    strata = ((1 - time) * 1000).floor().long().sort().values
    # a number at the edge of its interval may round over it
    assert (strata - torch.arange(1000)).abs().max() <= 1
    grid = flow.time_grid(4)
    assert grid.tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_steps": 0}, r"n_steps must be a whole number of at least 1, found 0"),
        ({"sampler": "ddim"}, r"sampler must be one of 'heun', 'euler', found 'ddim'"),
        ({"eta": 0.5}, r"eta must be 0 for flow matching.*found 0.5"),
        ({"eta": -1.0}, r"eta must be 0 for flow matching.*found -1.0"),
        ({"start": -0.1}, r"start must be from 0 to 1, found -0.1"),
    ],
)
def test_wrong_arguments_are_refused(flow, kwargs, message):
    with pytest.raises(ValueError, match=message):
        flow.sample(lambda x, time: x, torch.zeros(2, 2), **kwargs)
