"""Heads, and the reversed gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atacvi.nn import ClassificationHead, ProjectionHead, ReplacedTokenHead, reverse_gradient


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_replaced_token_head_by_hand():
    head, hidden = ReplacedTokenHead(192, 192), torch.randn(3, 192)
    assert n_parameters(head) == 37_633
    assert sorted(head.state_dict()) == sorted(
        f"{part}.{kind}" for part in ("classifier", "dense", "norm") for kind in ("bias", "weight")
    )
    expected = F.gelu(hidden @ head.dense.weight.T + head.dense.bias)
    expected = F.layer_norm(expected, (192,)) @ head.classifier.weight[0] + head.classifier.bias
    torch.testing.assert_close(head(hidden), expected)


@pytest.mark.parametrize(("n_hidden", "count"), [(None, 9 * 3), (5, 9 * 5 + 10 + 6 * 3)])
def test_classification_head(n_hidden, count):
    head = ClassificationHead(8, 3, n_hidden)
    assert n_parameters(head) == count
    assert head(torch.randn(4, 8)).shape == (4, 3)


def test_projections_have_unit_length():
    out = ProjectionHead(8, 8, 4)(torch.randn(5, 8))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_gradient_is_reversed(strength):
    """Forward the identity; backward minus the strength times the gradient."""
    x = torch.randn(4, 3, requires_grad=True)
    out = reverse_gradient(x, strength)
    assert torch.equal(out, x)
    upstream = torch.randn(4, 3)
    out.backward(upstream)
    torch.testing.assert_close(x.grad, -strength * upstream)


def test_head_behind_the_reversal_learns_as_usual():
    head, x = nn.Linear(3, 2), torch.randn(4, 3)
    gradients = [
        torch.autograd.grad(head(f(x)).square().sum(), head.weight)[0]
        for f in (reverse_gradient, lambda v: v)
    ]
    torch.testing.assert_close(*gradients)
