"""Values and limits of the Poisson density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from atacvi.likelihoods import Poisson


def test_equals_scipy():
    rate = np.array([0.01, 0.5, 2.0, 30.0])
    x = np.array([0.0, 1.0, 5.0, 25.0])
    result = Poisson(torch.as_tensor(rate)).log_prob(torch.as_tensor(x))
    np.testing.assert_allclose(result.numpy(), stats.poisson.logpmf(x, rate), rtol=1e-12)


@pytest.mark.parametrize("x", [0.0, 0.7, 1000.0])
@pytest.mark.parametrize("rate", [0.0, 1e-8, 1e15])
def test_finite_at_the_edges(x, rate):
    rate_tensor = torch.tensor(rate, requires_grad=True)
    value = Poisson(rate_tensor).log_prob(torch.tensor(x))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(rate_tensor.grad)
