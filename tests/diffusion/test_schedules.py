"""Schedules against published numbers and the identities that hold for any."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atacvi.diffusion import (
    alphas_cumprod,
    betas_of,
    cosine_schedule,
    linear_schedule,
    posterior_coefficients,
    signal_to_noise,
    terminal_kl,
)


def test_linear_schedule():
    alpha_bar = alphas_cumprod(linear_schedule(1000))
    assert alpha_bar.dtype == torch.float64
    expected = {
        0: 0.9999,
        99: 0.897018,
        249: 0.524085,
        499: 0.0785872,
        749: 0.00335055,
        999: 4.03583e-5,
    }
    for index, value in expected.items():
        assert alpha_bar[index].item() == pytest.approx(value, rel=1e-5)


def test_cosine_schedule():
    alpha_bar = alphas_cumprod(cosine_schedule(1000))
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar[0].item() == pytest.approx(0.99995872, abs=1e-8)
    assert alpha_bar[499].item() == pytest.approx(0.493844, rel=1e-5)
    assert alpha_bar[999].item() == pytest.approx(2.43e-9, rel=1e-2)


@given(n_steps=st.integers(21, 400), schedule=st.sampled_from([linear_schedule, cosine_schedule]))
def test_posterior_identities(n_steps, schedule):
    """Going from x_t to x_{t-1} keeps the mean and the variance of q(x_{t-1} | x_0)."""
    betas = schedule(n_steps)
    assert ((betas > 0) & (betas < 1)).all()
    alpha_bar = alphas_cumprod(betas)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    posterior = posterior_coefficients(betas)
    mean = posterior.x0 + posterior.x_t * alpha_bar.sqrt()
    variance = posterior.variance + posterior.x_t.square() * (1 - alpha_bar)
    torch.testing.assert_close(mean, previous.sqrt(), rtol=0, atol=1e-12)
    torch.testing.assert_close(variance, 1 - previous, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])
def test_the_last_step_backwards_returns_x0(schedule):
    posterior = posterior_coefficients(schedule(1000))
    assert [part[0].item() for part in posterior] == [1.0, 0.0, 0.0]


def test_posterior_variance():
    variance = posterior_coefficients(linear_schedule(1000)).variance
    assert variance[1].item() == pytest.approx(5.453188e-5, rel=1e-6)


@pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])
def test_betas_come_back_from_alpha_bar(schedule):
    betas = schedule(1000)
    torch.testing.assert_close(betas_of(alphas_cumprod(betas)), betas, rtol=1e-9, atol=1e-12)


def test_the_end_of_the_process_is_nearly_noise():
    end = alphas_cumprod(linear_schedule(1000))[-1].item()
    assert terminal_kl(end) == pytest.approx(2.018e-5, rel=1e-3)
    assert terminal_kl(end, 1 / 128) == pytest.approx(1.58e-7, rel=1e-2)


def test_terminal_kl_is_the_mean_divergence():
    """Against the closed form for each x_0, averaged over data of known second moment."""
    x0 = torch.tensor([-2.0, 0.5, 1.0], dtype=torch.float64)
    left = 0.3
    each = 0.5 * (left * x0**2 + (1 - left) - 1 - math.log(1 - left))
    expected = each.mean().item()
    assert terminal_kl(left, x0.square().mean().item()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("variance", "index"), [(1.0, 259), (1 / 128, 23)])
def test_where_noise_overtakes_the_signal(variance, index):
    ratio = variance * signal_to_noise(alphas_cumprod(linear_schedule(1000)))
    assert int((ratio < 1).nonzero()[0]) == index


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match=r"at least 21, found 20; the cosine schedule"):
        linear_schedule(20)
    for wrong in (0, -3, 2.5, True):
        with pytest.raises(
            ValueError, match=r"n_steps must be a whole number of at least 1, found"
        ):
            cosine_schedule(wrong)
