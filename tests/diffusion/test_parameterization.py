"""Conversions between x0, noise and v, and the weights of the loss."""

from __future__ import annotations

import pytest
import torch

from atacvi.diffusion import (
    alphas_cumprod,
    betas_of,
    eps_to_v,
    eps_to_x0,
    linear_schedule,
    min_snr_weight,
    posterior_coefficients,
    signal_to_noise,
    v_to_eps,
    v_to_x0,
    x0_to_eps,
    x0_to_v,
)

ALPHA_BAR = alphas_cumprod(linear_schedule(1000))


@pytest.fixture
def corrupted() -> tuple[torch.Tensor, ...]:
    """x0, noise, v and x_t at every level, and the two factors, all (1000, 3)."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1000, 3, generator=generator, dtype=torch.float64)
    signal, noise_scale = ALPHA_BAR.sqrt()[:, None], (1 - ALPHA_BAR).sqrt()[:, None]
    x_t = signal * x0 + noise_scale * eps
    return x0, eps, signal * eps - noise_scale * x0, x_t, signal, noise_scale


def test_every_conversion(corrupted):
    x0, eps, v, *at = corrupted
    for converted, expected in (
        (eps_to_x0(eps, *at), x0),
        (x0_to_eps(x0, *at), eps),
        (v_to_x0(v, *at), x0),
        (x0_to_v(x0, *at), v),
        (v_to_eps(v, *at), eps),
        (eps_to_v(eps, *at), v),
    ):
        torch.testing.assert_close(converted, expected, rtol=0, atol=1e-9)


def test_round_trips_of_any_prediction(corrupted):
    """A conversion and its inverse give back predictions that no x0 and noise made."""
    *_, x_t, signal, noise_scale = corrupted
    at = (x_t, signal, noise_scale)
    prediction = torch.randn(x_t.shape, dtype=torch.float64)
    for there, back in ((eps_to_x0, x0_to_eps), (v_to_x0, x0_to_v), (v_to_eps, eps_to_v)):
        torch.testing.assert_close(back(there(prediction, *at), *at), prediction, rtol=0, atol=1e-8)


def test_without_noise_the_data_comes_back():
    x0 = torch.randn(1000, 3, dtype=torch.float64)
    signal = ALPHA_BAR.sqrt()[:, None]
    back = eps_to_x0(torch.zeros_like(x0), signal * x0, signal, (1 - ALPHA_BAR).sqrt()[:, None])
    torch.testing.assert_close(back, x0, rtol=1e-14, atol=0)


def test_both_forms_of_the_posterior_mean_agree(corrupted):
    """Ho et al., Eq. 7 (from x0) and Eq. 11 (from the noise)."""
    x0, eps, _, x_t, _, noise_scale = corrupted
    betas = betas_of(ALPHA_BAR)[:, None]
    posterior = posterior_coefficients(betas_of(ALPHA_BAR))
    from_x0 = posterior.x0[:, None] * x0 + posterior.x_t[:, None] * x_t
    from_eps = (x_t - betas / noise_scale * eps) / (1 - betas).sqrt()
    torch.testing.assert_close(from_x0, from_eps, rtol=0, atol=1e-12)


def test_min_snr_weights_the_same_error_alike(corrupted):
    """The weighted errors of one guess are equal in all parameterisations."""
    x0, eps, v, *at = corrupted
    snr = signal_to_noise(ALPHA_BAR)
    guess = x0 + torch.randn(x0.shape, dtype=torch.float64)
    expected = snr.clamp(max=5.0) * (guess - x0).square().sum(1)
    for name, wrong, right in (
        ("x0", guess, x0),
        ("eps", x0_to_eps(guess, *at), eps),
        ("v", x0_to_v(guess, *at), v),
    ):
        weighted = min_snr_weight(snr, name) * (wrong - right).square().sum(1)
        torch.testing.assert_close(weighted, expected, rtol=1e-8, atol=0)


def test_min_snr_weights_are_finite_at_the_data():
    infinite = torch.tensor([torch.inf])
    found = [min_snr_weight(infinite, name).item() for name in ("x0", "eps", "v")]
    assert found == [5.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"one of 'x0', 'eps', 'v', found 'score'"):
        min_snr_weight(infinite, "score")
