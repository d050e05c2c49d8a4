"""Values and limits of the zero-inflated Poisson density."""

from __future__ import annotations

import math

import pyro.distributions as pyro_distributions
import pytest
import torch

from atacvi.likelihoods import ZeroInflatedPoisson


def log_prob(y: float, rate: float, gate: float, dtype: torch.dtype = torch.float64) -> float:
    as_tensor = [torch.tensor(v, dtype=dtype) for v in (y, rate, gate)]
    return ZeroInflatedPoisson(*as_tensor[1:]).log_prob(as_tensor[0]).item()


def test_published_values():
    assert log_prob(0, 1, 0) == pytest.approx(-0.379885493, abs=1e-9)
    assert log_prob(2, 1.5, -1) == pytest.approx(-1.695478652, abs=1e-9)
    assert log_prob(0.7, 0.5, 0) == pytest.approx(-1.582542510, abs=1e-9)


def test_limits_of_the_gate():
    assert log_prob(0, 1.3, -50) == pytest.approx(-1.3, abs=1e-12)
    assert log_prob(0, 1.3, 50) == pytest.approx(0.0, abs=1e-12)
    assert log_prob(3, 1.3, -50) == pytest.approx(3 * math.log(1.3) - 1.3 - math.log(6))


def test_sums_to_one():
    y = torch.arange(100, dtype=torch.float64)
    rate, gate = torch.tensor(1.5, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    total = ZeroInflatedPoisson(rate, gate).log_prob(y).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_pyro(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    rate = torch.rand(40, 30, generator=generator).to(dtype) * 5 + 0.01
    gate = torch.randn(30, generator=generator).to(dtype) * 3
    y = torch.poisson(rate, generator=generator)
    ours, theirs = (
        ZeroInflatedPoisson(rate, gate),
        pyro_distributions.ZeroInflatedPoisson(rate, gate_logits=gate),
    )
    torch.testing.assert_close(ours.log_prob(y), theirs.log_prob(y), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)


@pytest.mark.parametrize("y", [0.0, 0.7, 1.0, 1000.0])
@pytest.mark.parametrize("rate", [0.0, 1e-8, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("gate", [-50.0, 0.0, 50.0])
def test_finite_at_the_edges(y, rate, gate):
    rate_tensor = torch.tensor(rate, requires_grad=True)
    gate_tensor = torch.tensor(gate, requires_grad=True)
    value = ZeroInflatedPoisson(rate_tensor, gate_tensor).log_prob(torch.tensor(y))
    value.backward()
    for result in (value, rate_tensor.grad, gate_tensor.grad):
        assert torch.isfinite(result)


def test_gradcheck():
    y = torch.tensor([0.0, 0.0, 1.0, 4.0, 0.7], dtype=torch.float64)
    rate = torch.tensor([0.5, 3.0, 1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    gate = torch.tensor([-3.0, 2.0, 0.0, 1.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda r, g: ZeroInflatedPoisson(r, g).log_prob(y), (rate, gate)
    )


def test_rejects_bad_parameters_when_validating():
    with pytest.raises(ValueError, match="rate"):
        ZeroInflatedPoisson(torch.tensor(-1.0), torch.tensor(0.0), validate_args=True)
