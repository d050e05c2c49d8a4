"""Values and limits of the Bernoulli density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from atacvi.likelihoods import Bernoulli


def test_equals_scipy():
    logits = np.array([-4.0, 0.0, 0.5, 3.0])
    x = np.array([0.0, 1.0, 0.0, 1.0])
    result = Bernoulli(torch.as_tensor(logits)).log_prob(torch.as_tensor(x))
    expected = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize("logits", [-1e4, -50.0, 50.0, 1e4])
def test_finite_at_the_edges(x, logits):
    tensor = torch.tensor(logits, requires_grad=True)
    value = Bernoulli(tensor).log_prob(torch.tensor(x))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(tensor.grad)


def test_takes_a_float_and_expands_a_subclass():
    class Child(Bernoulli):
        pass

    assert isinstance(Child(0.3).expand((2,)), Child)
