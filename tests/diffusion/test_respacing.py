"""Kept noise levels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atacvi.diffusion import (
    alphas_cumprod,
    betas_of,
    cosine_schedule,
    linear_schedule,
    respace,
    respace_by_log_snr,
)


def test_published_spacings():
    assert respace(1000, 50, "stride").tolist() == list(range(0, 1000, 20))
    even = respace(1000, 50).tolist()
    assert (even[0], even[-1], len(even)) == (0, 999, 50)


@pytest.mark.parametrize("spacing", ["even", "stride"])
@pytest.mark.parametrize("n_steps", [1, 7, 50, 999])
def test_respacing_keeps_alpha_bar(spacing, n_steps):
    alpha_bar = alphas_cumprod(linear_schedule(1000))
    kept = respace(1000, n_steps, spacing)
    spaced = alphas_cumprod(betas_of(alpha_bar[kept]))
    torch.testing.assert_close(spaced, alpha_bar[kept], rtol=1e-10, atol=0)


def test_all_levels_are_the_process_itself():
    assert respace(1000, 1000).tolist() == list(range(1000))
    assert respace(1000, 1000, "stride").tolist() == list(range(1000))


@given(data=st.data(), n_levels=st.integers(1, 300))
def test_levels_rise_and_hold_the_ends(data, n_levels):
    n_steps = data.draw(st.integers(1, n_levels))
    alpha_bar = alphas_cumprod(cosine_schedule(300))[:n_levels]
    for kept in (respace(n_levels, n_steps), respace_by_log_snr(alpha_bar, n_steps)):
        assert len(kept) == n_steps
        assert (kept.diff() > 0).all()
        assert kept[-1] == n_levels - 1
        assert kept[0] == (0 if n_steps > 1 else n_levels - 1)


@given(n_levels=st.integers(2, 60), seed=st.integers(0, 1000), data=st.data())
def test_no_level_comes_twice_whatever_the_schedule(n_levels, seed, data):
    """Levels that are sparse anywhere, also in the middle."""
    n_steps = data.draw(st.integers(2, n_levels))
    falls = torch.rand(n_levels, generator=torch.Generator().manual_seed(seed)).double() ** 8
    alpha_bar = torch.sigmoid(5 - 10 * (falls + 1e-4).cumsum(0) / (falls + 1e-4).sum())
    kept = respace_by_log_snr(alpha_bar, n_steps)
    assert (kept.diff() > 0).all()
    assert (kept[0], kept[-1]) == (0, n_levels - 1)


def test_log_snr_is_even_where_the_levels_allow():
    alpha_bar = alphas_cumprod(linear_schedule(1000))
    log_snr = (alpha_bar / (1 - alpha_bar)).log()
    gaps = -log_snr[respace_by_log_snr(alpha_bar, 10)].diff()
    assert gaps.max() / gaps.min() < 1.3
    even = -log_snr[respace(1000, 10)].diff()
    assert even.max() / even.min() > 5


@pytest.mark.parametrize("n_steps", [0, -1, 11, 2.0])
def test_impossible_numbers_of_steps_are_refused(n_steps):
    message = r"n_steps must be a whole number from 1 to 10, .*found"
    with pytest.raises(ValueError, match=message):
        respace(10, n_steps)
    with pytest.raises(ValueError, match=message):
        respace_by_log_snr(torch.linspace(0.9, 0.1, 10), n_steps)


def test_an_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match=r"spacing must be one of 'even', 'stride', found 'odd'"):
        respace(10, 5, "odd")
