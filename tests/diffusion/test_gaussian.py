"""The discrete process as a whole: corrupting, targets, weights, sampling."""

from __future__ import annotations

import copy

import pytest
import torch

from atacvi.diffusion import GaussianDiffusion, cell_generators, draw_noise

PARAMETERIZATIONS = ["x0", "eps", "v"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(process: GaussianDiffusion, data):
    """Return the ideal network for Gaussian data, in the parameterisation of the process."""

    def predict(x, time):
        positions = (time * process.n_steps).round().long() - 1
        left = process.alpha_bar[positions][:, None]
        signal, noise_scale = left.sqrt().to(x), (1 - left).sqrt().to(x)
        x0 = data.x0(x, signal, noise_scale)
        if process.parameterization == "x0":
            return x0
        eps = (x - signal * x0) / noise_scale
        return eps if process.parameterization == "eps" else signal * eps - noise_scale * x0

    return predict


def every_level(process: GaussianDiffusion) -> torch.Tensor:
    return torch.arange(1, process.n_steps + 1) / process.n_steps


@pytest.mark.parametrize("n_steps", [1000, 997, 30])
def test_level_t_is_at_time_t_plus_one(n_steps):
    process = GaussianDiffusion(n_steps)
    time = every_level(process)
    x = torch.ones(n_steps, 1, dtype=torch.float64)
    signal = process.corrupt(x, torch.zeros_like(x), time)
    noise = process.corrupt(torch.zeros_like(x), x, time)
    torch.testing.assert_close(signal[:, 0], process.alpha_bar.sqrt(), rtol=0, atol=0)
    torch.testing.assert_close(noise[:, 0], (1 - process.alpha_bar).sqrt(), rtol=0, atol=0)


@pytest.mark.parametrize(("variance", "dim"), [(1.0, 2), (1 / 128, 128)])
def test_variance_of_corrupted_data(variance, dim):
    """Var(x_t) = alpha_bar Var(x0) + 1 - alpha_bar; 1 at all levels when Var(x0) is 1."""
    process = GaussianDiffusion()
    generator = seeded()
    x0, noise = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    if dim == 128:  # one coordinate of a point on the unit sphere
        x0 = torch.nn.functional.normalize(torch.randn(20_000, 128, generator=generator))
        x0, noise = x0.double()[:, :10].reshape(-1, 1), noise[:, None]
    else:
        x0, noise = x0[:, None], noise[:, None]
    for level in (0, 99, 249, 499, 999):
        time = torch.full((len(x0),), (level + 1) / 1000)
        found = process.corrupt(x0, noise, time).var().item()
        left = process.alpha_bar[level].item()
        assert found == pytest.approx(1 - left * (1 - variance), rel=0.012)


def test_time_zero_is_the_data():
    process = GaussianDiffusion(parameterization="v")
    x0, noise = torch.randn(2, 4, 3)
    zero = torch.zeros(4)
    torch.testing.assert_close(process.corrupt(x0, noise, zero), x0, rtol=0, atol=0)
    v = process.target(x0, noise, zero)
    torch.testing.assert_close(process.to_x0(v, x0, zero), x0, rtol=0, atol=0)


def test_without_noise_the_data_is_scaled():
    process = GaussianDiffusion(parameterization="eps")
    time = every_level(process)
    x0 = torch.randn(1000, 3, dtype=torch.float64)
    nothing = torch.zeros_like(x0)
    x_t = process.corrupt(x0, nothing, time)
    torch.testing.assert_close(x_t, process.alpha_bar.sqrt()[:, None] * x0, rtol=0, atol=0)
    torch.testing.assert_close(process.to_x0(nothing, x_t, time), x0, rtol=1e-14, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_the_target_gives_the_data_back(schedule, parameterization):
    process = GaussianDiffusion(schedule=schedule, parameterization=parameterization)
    time = every_level(process)
    x0, noise = torch.randn(2, 1000, 3, generator=seeded(), dtype=torch.float64)
    x_t, target = process.corrupt(x0, noise, time), process.target(x0, noise, time)
    torch.testing.assert_close(process.to_x0(target, x_t, time), x0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_schedules_take_the_type_of_the_data(dtype):
    process = GaussianDiffusion()
    x = torch.randn(3, 2, dtype=dtype)
    time = torch.tensor([0.1, 0.5, 1.0])
    assert process.corrupt(x, x, time).dtype == dtype
    assert process.sample(lambda x, time: x, x, n_steps=3).dtype == dtype
    assert process.weight(time).dtype == torch.float32


def test_weights():
    time = every_level(GaussianDiffusion())
    assert (GaussianDiffusion().weight(time) == 1).all()
    weight = GaussianDiffusion(loss_weight="min_snr").weight(time)
    assert weight[0] == 5.0
    ratio = GaussianDiffusion().alpha_bar[-1]
    assert weight[-1].item() == pytest.approx((ratio / (1 - ratio)).item(), rel=1e-5)
    assert (weight.diff() <= 0).all()


def test_times_are_levels():
    process = GaussianDiffusion(40)
    for time in (process.sample_time(40, seeded()), process.time_grid(40)):
        torch.testing.assert_close(time.sort().values, every_level(process), rtol=0, atol=1e-6)
    plain = process.sample_time(4000, seeded(), stratified=False)
    counts = torch.bincount((plain * 40).round().long(), minlength=41)
    assert counts[0] == 0
    assert counts[1:].min() > 50
    assert torch.equal(process.time_grid(7), process.time_grid(7))
    assert torch.equal(process.sample_time(9, seeded(3)), process.sample_time(9, seeded(3)))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize(
    ("sampler", "n_steps", "variance"),
    [("ddpm", 100, 0.92), ("ddim", 50, 0.93), ("dpm++", 20, 1.03)],
)
def test_samples_have_the_moments_of_the_data(
    gaussian_data, parameterization, sampler, n_steps, variance
):
    process = GaussianDiffusion(parameterization=parameterization)
    noise = torch.randn(20_000, 1, generator=seeded(), dtype=torch.float64)
    predict = network(process, gaussian_data(1.0))
    found = process.sample(predict, noise, n_steps=n_steps, sampler=sampler, generator=seeded(1))
    assert found.mean().item() == pytest.approx(1.0, abs=0.03)
    assert found.var().item() == pytest.approx(variance, abs=0.035)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_samples_do_not_depend_on_the_parameterization(gaussian_data, sampler):
    """One guess in three forms: the sampler sees the same data behind each."""
    noise = torch.randn(50, 2, generator=seeded(), dtype=torch.float64)
    found = []
    for parameterization in PARAMETERIZATIONS:
        process = GaussianDiffusion(parameterization=parameterization)
        predict = network(process, gaussian_data(0.5))
        kwargs = {"n_steps": 20, "sampler": sampler, "generator": seeded(1)}
        found.append(process.sample(predict, noise, **kwargs))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-8)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=1e-8)


def calls(process: GaussianDiffusion, **kwargs) -> list[float]:
    """Return the times at which a sampler asks the network."""
    seen = []

    def predict(x, time):
        assert time.shape == (len(x),)
        assert (time == time[0]).all()
        seen.append(time[0].item())
        return x

    process.sample(predict, torch.zeros(2, 1, dtype=torch.float64), **kwargs)
    return seen


def test_the_network_is_asked_once_a_step():
    process = GaussianDiffusion(200)
    for kwargs, expected in (
        ({}, 20),
        ({"sampler": "ddim"}, 50),
        ({"sampler": "ddpm"}, 200),
        ({"n_steps": 7}, 7),
        ({"n_steps": 1, "sampler": "ddim"}, 1),
        ({"n_steps": 50, "start": 0.1}, 20),  # there are no more levels
    ):
        times = calls(process, **kwargs)
        assert len(times) == expected
        assert times == sorted(times, reverse=True)
        assert times[0] == kwargs.get("start", 1.0)
        if expected > 1:
            assert times[-1] == pytest.approx(1 / 200)


def test_default_steps_of_a_short_process():
    assert len(calls(GaussianDiffusion(5, "cosine"))) == 5


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_partial_diffusion(gaussian_data, sampler):
    """From time 0 nothing changes; from a little noise the sample stays near its cell."""
    data = gaussian_data(1.0)
    process = GaussianDiffusion()
    x0 = data.mean + torch.randn(4000, 1, generator=seeded(), dtype=torch.float64)
    noise = torch.randn(4000, 1, generator=seeded(1), dtype=torch.float64)
    predict = network(process, data)
    correlations = []
    for start in (0.0, 0.05, 0.2, 1.0):
        x_start = process.corrupt(x0, noise, torch.full((4000,), start))
        kwargs = {"sampler": sampler, "n_steps": 50, "start": start, "generator": seeded(2)}
        found = process.sample(predict, x_start, **kwargs)
        if start == 0.0:
            assert torch.equal(found, x0)
        correlations.append(torch.corrcoef(torch.cat([found, x0], 1).T)[0, 1].item())
        assert found.mean().item() == pytest.approx(1.0, abs=0.1)
    assert correlations == sorted(correlations, reverse=True)
    assert correlations[1] > 0.9
    assert correlations[3] < 0.1


@pytest.mark.parametrize("kwargs", [{"sampler": "ddpm"}, {"sampler": "ddim", "eta": 0.7}])
def test_the_seed_decides(gaussian_data, kwargs):
    process = GaussianDiffusion(100)
    predict, noise = network(process, gaussian_data(1.0)), torch.randn(5, 2, generator=seeded())
    first, second, third = (
        process.sample(predict, noise, generator=seeded(seed), **kwargs) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.allclose(first, third)


@pytest.mark.parametrize(
    "kwargs", [{}, {"sampler": "ddim"}, {"sampler": "ddim", "eta": 1.0}, {"sampler": "ddpm"}]
)
def test_minibatches_do_not_matter(gaussian_data, kwargs):
    process = GaussianDiffusion(60)
    predict = network(process, gaussian_data(1.0))

    def run(cells):
        generators = cell_generators(7, cells)
        noise = draw_noise((len(cells), 3), generators)
        return process.sample(predict, noise, generator=generators, **kwargs)

    whole = run(range(10))
    cut = torch.cat([run(range(4)), run(range(4, 5)), run(range(5, 10))])
    assert torch.equal(whole, cut)


def test_the_process_can_be_copied_and_says_what_it_is():
    process = copy.deepcopy(GaussianDiffusion(50, "cosine", "v", "fixed_large", "min_snr"))
    text = repr(process)
    assert "n_steps=50, schedule='cosine', parameterization='v'" in text
    assert torch.equal(process.weight(torch.ones(1)), process.weight(torch.ones(1)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_steps": 0}, r"n_steps must be a whole number of at least 1, found 0"),
        ({"schedule": "quadratic"}, r"schedule must be one of 'linear', 'cosine', found"),
        ({"parameterization": "score"}, r"parameterization must be one of 'x0', 'eps', 'v'"),
        ({"variance": "learned"}, r"variance must be one of 'fixed_small', 'fixed_large'"),
        ({"loss_weight": "snr"}, r"loss_weight must be one of 'uniform', 'min_snr'"),
        ({"min_snr_gamma": -1.0}, r"min_snr_gamma must be at least 0, found -1.0"),
    ],
)
def test_wrong_processes_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GaussianDiffusion(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_steps": 101}, r"from 1 to 100, the noise levels of the process, found 101"),
        ({"n_steps": 0}, r"from 1 to 100, .*found 0"),
        ({"sampler": "heun"}, r"sampler must be one of 'dpm\+\+', 'ddim', 'ddpm', found 'heun'"),
        ({"sampler": "ddim", "eta": -0.5}, r"eta must be from 0 to 1, found -0.5"),
        ({"sampler": "ddpm", "eta": 0.5}, r"eta belongs to the sampler 'ddim'.*found 0.5"),
        ({"start": 1.5}, r"start must be from 0 to 1, found 1.5"),
    ],
)
def test_wrong_sampling_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GaussianDiffusion(100).sample(lambda x, time: x, torch.zeros(2, 2), **kwargs)


def test_indices_in_place_of_times_are_refused():
    x = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"floats in \[0, 1\].*int64"):
        GaussianDiffusion().corrupt(x, x, torch.tensor([0, 999]))


@pytest.mark.gpu
def test_a_generator_of_the_cpu_serves_the_gpu(gaussian_data):
    process = GaussianDiffusion(100, parameterization="eps")
    noise = torch.randn(5, 2, generator=seeded())

    def predict(x, time):
        return network(process, gaussian_data(1.0))(x.cpu(), time.cpu()).to(x.device)

    found = [
        process.sample(predict, noise.to(device), sampler="ddpm", generator=seeded(1)).cpu()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    times = process.sample_time(4, seeded(), "cuda")
    x = torch.ones(4, 2, device="cuda")
    assert process.corrupt(x, x, times).device == x.device
