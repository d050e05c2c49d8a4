"""Samplers with ideal denoisers of Gaussian data, whose exact result is known."""

from __future__ import annotations

import pytest
import torch

from atacvi.diffusion import (
    alphas_cumprod,
    betas_of,
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    euler_sample,
    heun_sample,
    linear_schedule,
    posterior_coefficients,
    respace,
    respace_by_log_snr,
)

ALPHA_BAR = alphas_cumprod(linear_schedule(1000))
STEPS = (1000, 250, 100, 50, 20, 10)
DIFFUSION_SAMPLERS = [ddpm_sample, ddim_sample, dpm_solver_sample]


def exact_end(data, x: torch.Tensor) -> torch.Tensor:
    """Solve the probability flow from the last level to the data: it is linear."""
    left = ALPHA_BAR[-1]
    total = left * data.variance + 1 - left
    return data.mean + (data.variance / total).sqrt() * (x - left.sqrt() * data.mean)


@pytest.mark.parametrize("sampler", DIFFUSION_SAMPLERS)
@pytest.mark.parametrize("n_steps", [1, 2, 3, 50])
def test_knowing_the_data_gives_the_data(sampler, n_steps):
    x0, noise = torch.randn(2, 5, 3, dtype=torch.float64)
    alpha_bar = ALPHA_BAR[respace(1000, n_steps)]
    found = sampler(lambda x, step: x0, noise, alpha_bar)
    torch.testing.assert_close(found, x0, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("variance", "kind", "expected"),
    [
        (1.0, "fixed_large", (0.9999, 0.9999, 0.9999, 0.9999, 0.9999, 0.9999)),
        (1.0, "fixed_small", (0.991, 0.966, 0.921, 0.855, 0.701, 0.521)),
        (1 / 128, "fixed_large", (1.011, 1.114, 1.318, 1.779, 4.62, 15.9)),
    ],
)
def test_moments_of_ddpm(gaussian_data, linear_noise, variance, kind, expected):
    """Mean and variance after 1,000 to 10 steps; exact, not sampled."""
    data = gaussian_data(variance)
    for n_steps, ratio in zip(STEPS, expected, strict=True):
        noise = linear_noise(n_steps)
        alpha_bar = ALPHA_BAR[respace(1000, n_steps)]
        x = ddpm_sample(data.denoise(alpha_bar), noise.start(), alpha_bar, variance=kind)
        mean, found = noise.moments(x)
        assert noise.drawn == n_steps - 1  # none at the last step
        assert mean == pytest.approx(1.0, abs=1e-4)
        # the figures for 1/128 were themselves sampled
        tolerance = 1e-2 if variance < 1 else 1e-3
        assert found / variance == pytest.approx(ratio, rel=tolerance)


def test_moments_of_ddim(gaussian_data, linear_noise):
    data = gaussian_data(1.0)
    for n_steps, ratio in zip(STEPS, (0.996, 0.985, 0.964, 0.928, 0.825, 0.664), strict=True):
        noise = linear_noise(n_steps)
        alpha_bar = ALPHA_BAR[respace(1000, n_steps)]
        x = ddim_sample(data.denoise(alpha_bar), noise.start(), alpha_bar)
        mean, found = noise.moments(x)
        assert noise.drawn == 0
        assert found == pytest.approx(ratio, abs=1e-3)
        assert mean == pytest.approx(0.9937, abs=1.2e-3)


@pytest.mark.parametrize("n_steps", [100, 10])
@pytest.mark.parametrize("variance", [1.0, 1 / 128])
def test_ddim_with_all_noise_is_ddpm_of_small_variance(
    gaussian_data, linear_noise, n_steps, variance
):
    data = gaussian_data(variance)
    alpha_bar = ALPHA_BAR[respace(1000, n_steps)]
    noise = linear_noise(n_steps)
    ddim = ddim_sample(data.denoise(alpha_bar), noise.start(), alpha_bar, eta=1.0)
    noise = linear_noise(n_steps)
    ddpm = ddpm_sample(data.denoise(alpha_bar), noise.start(), alpha_bar)
    torch.testing.assert_close(ddim, ddpm, rtol=1e-10, atol=1e-10)


def test_eta_adds_noise(gaussian_data, linear_noise):
    """The variance that arrives grows short of the data's; part of it was drawn on the way."""
    data, alpha_bar = gaussian_data(1.0), ALPHA_BAR[respace(1000, 20)]
    from_start = []
    for eta in (0.0, 0.5, 1.0):
        noise = linear_noise(20)
        x = ddim_sample(data.denoise(alpha_bar), noise.start(), alpha_bar, eta=eta)
        from_start.append((x[1] - x[0]).item() ** 2 / noise.moments(x)[1])
    assert from_start[0] == 1.0
    assert 1.0 > from_start[1] > from_start[2] > 0.0


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_eta_scales_the_deviation_of_the_added_noise(linear_noise, eta):
    alpha_bar = ALPHA_BAR[respace(1000, 2)]
    noise = linear_noise(2)
    x = ddim_sample(lambda x, step: x, noise.start(), alpha_bar, eta=eta)
    small = posterior_coefficients(betas_of(alpha_bar)).variance[1].item()
    assert noise.drawn == 1
    assert (x[2] - x[0]).item() == pytest.approx(eta * small**0.5, rel=1e-12)


@pytest.mark.parametrize("variance", [1.0, 1 / 128])
def test_dpm_solver_converges_at_second_order(gaussian_data, variance):
    data = gaussian_data(variance)
    x = torch.tensor([[-2.0], [0.0], [1.5]], dtype=torch.float64)
    deviation = variance**0.5
    errors = []
    for n_steps in (10, 20, 50, 200):
        alpha_bar = ALPHA_BAR[respace_by_log_snr(ALPHA_BAR, n_steps)]
        found = dpm_solver_sample(data.denoise(alpha_bar), x, alpha_bar)
        errors.append(((found - exact_end(data, x)).abs().max() / deviation).item())
    assert errors[1] < 0.04
    # The last level still hides this share of the deviation, whatever the steps.
    hidden = 0.5 * ((1 - ALPHA_BAR[0]) / variance).item()
    assert errors[3] < 0.002 + 1.1 * hidden
    if variance == 1.0:  # it is less than the steps err
        assert errors[1] / errors[2] == pytest.approx(2.5**2, rel=0.3)


def test_dpm_solver_of_twenty_steps_beats_ddim_of_a_hundred(gaussian_data):
    data = gaussian_data(1.0)
    x = torch.tensor([[-2.0], [0.0], [1.5]], dtype=torch.float64)
    few = ALPHA_BAR[respace_by_log_snr(ALPHA_BAR, 20)]
    many = ALPHA_BAR[respace(1000, 100)]
    solver = dpm_solver_sample(data.denoise(few), x, few) - exact_end(data, x)
    ddim = ddim_sample(data.denoise(many), x, many) - exact_end(data, x)
    assert solver.abs().max() < ddim.abs().max()


def test_heun_and_euler_have_their_orders():
    """dx/ds = x from s = 0 to 1 gives e; halving the step divides the error by 2 and by 4."""
    start = torch.ones(1, 1, dtype=torch.float64)
    for sampler, order in ((euler_sample, 1), (heun_sample, 2)):
        coarse, fine = (
            sampler(lambda x, time: x, start, torch.linspace(1, 0, n + 1).double().tolist())
            for n in (50, 100)
        )
        ratio = (coarse - torch.e) / (fine - torch.e)
        assert ratio.item() == pytest.approx(2**order, rel=0.05)


def test_unknown_variance_and_eta_are_refused():
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"one of 'fixed_small', 'fixed_large', found 'learned'"):
        ddpm_sample(lambda x, step: x, x, ALPHA_BAR, variance="learned")
    for eta in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"eta must be from 0 to 1, found"):
            ddim_sample(lambda x, step: x, x, ALPHA_BAR, eta=eta)
