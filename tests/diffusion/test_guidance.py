"""Classifier-free guidance."""

from __future__ import annotations

import pytest
import torch

from atacvi.diffusion import eps_to_x0, guide


def test_the_ends_are_exact():
    conditional, unconditional = torch.randn(2, 100, 3)
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)
    assert torch.equal(guide(conditional, unconditional, 1.0), conditional)


@pytest.mark.parametrize("scale", [0.3, 1.5, 4.0])
def test_it_extrapolates(scale):
    conditional, unconditional = torch.randn(2, 100, 3, dtype=torch.float64)
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(guide(conditional, unconditional, scale), expected)


def test_it_means_the_same_in_every_parameterization():
    x_t, conditional, unconditional = torch.randn(3, 100, 3, dtype=torch.float64)
    at = (x_t, 0.6, 0.8)
    guided_eps = eps_to_x0(guide(conditional, unconditional, 2.5), *at)
    guided_x0 = guide(eps_to_x0(conditional, *at), eps_to_x0(unconditional, *at), 2.5)
    torch.testing.assert_close(guided_eps, guided_x0)


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf")])
def test_wrong_scales_are_refused(scale):
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"guidance scale must be (at least 0|finite), found"):
        guide(x, x, scale)
