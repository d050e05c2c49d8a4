"""Values, limits and parity of the negative binomial density."""

from __future__ import annotations

import numpy as np
import pyro.distributions as pyro_distributions
import pytest
import torch
from scipy import stats

from atacvi.likelihoods import NegativeBinomial


def log_prob(x: float, mean: float, theta: float, dtype: torch.dtype = torch.float64) -> float:
    as_tensor = [torch.tensor(v, dtype=dtype) for v in (x, mean, theta)]
    return NegativeBinomial(*as_tensor[1:]).log_prob(as_tensor[0]).item()


def test_published_values():
    assert log_prob(3, 2, 1.5) == pytest.approx(-2.167034815, abs=1e-9)
    assert log_prob(0, 2, 1.5) == pytest.approx(-1.270946791, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tends_to_poisson(dtype):
    # The direct lnΓ difference is wrong by about 1 in float32 here.
    assert log_prob(3, 2, 1e6, dtype) == pytest.approx(-1.712317928, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_scipy_and_pyro(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(40, 30, generator=generator, dtype=torch.float64) * 20 + 0.01
    theta = torch.rand(30, generator=generator, dtype=torch.float64) * 40 + 0.05
    x = torch.poisson(mean, generator=generator)
    result = NegativeBinomial(mean.to(dtype), theta.to(dtype)).log_prob(x.to(dtype))
    expected = stats.nbinom.logpmf(x.numpy(), theta.numpy(), (theta / (theta + mean)).numpy())
    np.testing.assert_allclose(result.numpy(), expected, rtol=tolerance, atol=tolerance)
    pyro_result = pyro_distributions.GammaPoisson(theta, theta / mean).log_prob(x)
    np.testing.assert_allclose(result.numpy(), pyro_result.numpy(), rtol=tolerance, atol=tolerance)


def test_moments_equal_scipy():
    counts = NegativeBinomial(torch.tensor(3.0), torch.tensor(1.5))
    mean, variance = stats.nbinom.stats(1.5, 1.5 / 4.5)
    assert counts.mean.item() == pytest.approx(mean)
    assert counts.variance.item() == pytest.approx(variance)


@pytest.mark.parametrize("x", [0.0, 0.7, 1.0, 1000.0])
@pytest.mark.parametrize("mean", [0.0, 1e-8, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("theta", [1e-8, 1.0, 30.0, 1e8, 1e30])
def test_finite_at_the_edges(x, mean, theta):
    mean_tensor = torch.tensor(mean, requires_grad=True)
    theta_tensor = torch.tensor(theta, requires_grad=True)
    value = NegativeBinomial(mean_tensor, theta_tensor).log_prob(torch.tensor(x))
    value.backward()
    for result in (value, mean_tensor.grad, theta_tensor.grad):
        assert torch.isfinite(result)


def test_gradcheck_on_both_sides_of_the_series():
    x = torch.tensor([0.0, 1.0, 4.0, 0.7, 6.0], dtype=torch.float64)
    mean = torch.tensor([0.5, 3.0, 1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    theta = torch.tensor([0.2, 2.0, 29.0, 31.0, 300.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, t: NegativeBinomial(m, t).log_prob(x), (mean, theta))


def test_rejects_bad_parameters_when_validating():
    with pytest.raises(ValueError, match="inverse_dispersion"):
        NegativeBinomial(torch.tensor(1.0), torch.tensor(0.0), validate_args=True)
