"""The four distributions in pyro.sample: expand, to_event, mask, plates, validation, sampling."""

from __future__ import annotations

import pyro
import pytest
import torch

from atacvi.likelihoods import Bernoulli, NegativeBinomial, Poisson, ZeroInflatedPoisson


def make(name: str, shape: tuple[int, ...] = (), validate_args: bool | None = None):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(shape, generator=generator) * 2 + 0.5
    second = torch.rand(shape, generator=generator) * 2 + 0.5
    if name == "negative_binomial":
        return NegativeBinomial(first, second, validate_args)
    if name == "zero_inflated_poisson":
        return ZeroInflatedPoisson(first, second - 1.5, validate_args)
    if name == "poisson":
        return Poisson(first, validate_args)
    return Bernoulli(first - 1.5, validate_args)


NAMES = ["negative_binomial", "zero_inflated_poisson", "poisson", "bernoulli"]
pytestmark = pytest.mark.parametrize("name", NAMES)


def test_expand_keeps_density_and_class(name):
    distribution = make(name, (3,), validate_args=True)
    expanded = distribution.expand((4, 3))
    assert type(expanded) is type(distribution)
    assert expanded.batch_shape == (4, 3)
    assert expanded._validate_args
    value = expanded.sample()
    assert torch.equal(expanded.log_prob(value), distribution.log_prob(value))
    assert expanded.mean.shape == expanded.variance.shape == (4, 3)
    assert expanded.expand((2, 4, 3)).sample().shape == (2, 4, 3)


def test_to_event_and_mask(name):
    distribution = make(name, (4, 3))
    value = distribution.sample()
    dense = distribution.log_prob(value)
    assert torch.allclose(distribution.to_event(1).log_prob(value), dense.sum(-1))
    mask = torch.tensor([[True], [False], [True], [False]])
    assert torch.equal(distribution.mask(mask).log_prob(value), dense * mask)


def test_observed_in_plate(name):
    value = make(name, (4, 3)).sample()

    def model():
        with pyro.plate("cells", 4), pyro.poutine.mask(mask=torch.tensor([1, 1, 0, 1]).bool()):
            pyro.sample("x", make(name, (3,)).to_event(1), obs=value)

    trace = pyro.poutine.trace(model).get_trace()
    expected = make(name, (3,)).log_prob(value).sum(-1)[[0, 1, 3]].sum()
    assert torch.allclose(trace.log_prob_sum(), expected)


def test_latent_in_plate_and_subsampling_scale(name):
    def model():
        with pyro.plate("cells", 40, subsample_size=10):
            return pyro.sample("x", make(name, (3,)).to_event(1))

    pyro.set_rng_seed(0)
    trace = pyro.poutine.trace(model).get_trace()
    value = trace.nodes["x"]["value"]
    assert value.shape == (10, 3)
    expected = 4 * make(name, (3,)).log_prob(value).sum()
    assert torch.allclose(trace.log_prob_sum(), expected)


def test_moments_of_samples(name):
    torch.manual_seed(0)
    distribution = make(name, (3,))
    draws = distribution.sample((60_000,))
    assert draws.shape == (60_000, 3)
    assert torch.allclose(draws.mean(0), distribution.mean, rtol=0.03)
    assert torch.allclose(draws.var(0), distribution.variance, rtol=0.06)


def test_validation_is_off_unless_asked_for(name):
    assert torch.isfinite(make(name).log_prob(torch.tensor(0.7)))
    with pytest.raises(ValueError, match="support"):
        make(name, validate_args=True).log_prob(torch.tensor(0.7))
    with pytest.raises(ValueError, match="support"):
        make(name, validate_args=True).log_prob(torch.tensor(-1.0))


def test_sums_to_one_over_support(name):
    distribution = make(name)
    top = 2 if name == "bernoulli" else 400
    log_prob = distribution.expand((top,)).log_prob(torch.arange(float(top)))
    assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_sampling_has_no_gradient_and_follows_the_seed(name):
    distribution = make(name, (5,))
    torch.manual_seed(1)
    first = distribution.sample()
    torch.manual_seed(1)
    assert torch.equal(first, distribution.sample())
    assert not first.requires_grad
