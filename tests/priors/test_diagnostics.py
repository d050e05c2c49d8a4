"""Effective components, collapse warnings and the regularisers."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from atacvi.priors import (
    CollapseWarning,
    balance_penalty,
    effective_n_components,
    sharpness_penalty,
    warn_on_collapse,
)

BALANCED = torch.eye(8).repeat(5, 1)
COLLAPSED = torch.eye(8)[torch.zeros(40, dtype=torch.long)]
UNIFORM = torch.full((40, 8), 1 / 8)


def test_effective_number():
    balanced = effective_n_components(BALANCED)
    assert balanced.perplexity == pytest.approx(8, rel=1e-5)
    assert balanced.n_occupied == 8
    assert balanced.mean_entropy == 0
    collapsed = effective_n_components(COLLAPSED)
    assert collapsed.perplexity == pytest.approx(1)
    assert collapsed.n_occupied == 1
    weights = effective_n_components(torch.tensor([0.5, 0.495, 0.005]))
    assert weights.n_occupied == 2
    assert math.isnan(weights.mean_entropy)


def test_warns_with_remedies():
    with pytest.warns(CollapseWarning, match=r"collapsed: one of 8.*longer warm-up"):
        warn_on_collapse(COLLAPSED)
    with pytest.warns(CollapseWarning, match=r"uniform.*fewer components"):
        warn_on_collapse(UNIFORM)
    with pytest.warns(CollapseWarning, match="collapsed"):
        warn_on_collapse(torch.tensor([0.995, 0.005]))


@pytest.mark.parametrize("assignment", [BALANCED, torch.full((8,), 1 / 8), torch.ones(5, 1)])
def test_is_silent_on_healthy_mixtures(assignment):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_on_collapse(assignment)


def test_balance_prefers_balanced_assignments():
    assert balance_penalty(BALANCED) < balance_penalty(COLLAPSED)
    assert balance_penalty(BALANCED).item() == pytest.approx(-math.log(8))
    assert balance_penalty(COLLAPSED).item() == 0


def test_sharpness_prefers_certain_assignments():
    assert sharpness_penalty(BALANCED).item() == 0
    assert sharpness_penalty(UNIFORM).item() == pytest.approx(math.log(8))


def test_penalties_have_finite_gradients_at_certainty():
    gamma = BALANCED.clone().requires_grad_()
    (balance_penalty(gamma) + sharpness_penalty(gamma)).backward()
    assert torch.isfinite(gamma.grad).all()


def test_rejects_other_shapes():
    with pytest.raises(ValueError, match="responsibilities of shape"):
        effective_n_components(torch.ones(2, 2, 2))
