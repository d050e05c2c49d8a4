"""Sparse targets: equality with the dense densities, closed-form gradients, edges, weights."""

from __future__ import annotations

import pyro.distributions as pyro_distributions
import pytest
import torch

from atacvi.likelihoods import (
    Bernoulli,
    NegativeBinomial,
    Poisson,
    SparseTarget,
    ZeroInflatedPoisson,
    _sparse,
    bernoulli_log_prob,
    negative_binomial_log_prob,
    open_log_prob,
    poisson_log_prob,
    zero_inflated_poisson_log_prob,
)

# Per likelihood: the fast function of (target, a, b), its dense and its Pyro counterpart.
CASES = {
    "negative_binomial": (
        lambda t, a, b, **kw: negative_binomial_log_prob(t, a, b.exp(), **kw),
        lambda a, b: NegativeBinomial(a.exp(), b.exp()),
        lambda a, b: pyro_distributions.GammaPoisson(b.exp(), b.exp() / a.exp()),
    ),
    "zero_inflated_poisson": (
        zero_inflated_poisson_log_prob,
        lambda a, b: ZeroInflatedPoisson(a.exp(), b),
        lambda a, b: pyro_distributions.ZeroInflatedPoisson(a.exp(), gate_logits=b),
    ),
    "poisson": (
        lambda t, a, b, **kw: poisson_log_prob(t, a, **kw),
        lambda a, b: Poisson(a.exp()),
        lambda a, b: pyro_distributions.Poisson(a.exp()),
    ),
    "bernoulli": (
        lambda t, a, b, **kw: bernoulli_log_prob(t, a, **kw),
        lambda a, b: Bernoulli(a),
        lambda a, b: pyro_distributions.Bernoulli(logits=a),
    ),
    "open": (
        lambda t, a, b, **kw: open_log_prob(t, a, **kw),
        lambda a, b: Bernoulli(a.exp().expm1().log()),
        lambda a, b: pyro_distributions.Bernoulli(logits=a.exp().expm1().log()),
    ),
}
# Targets of these are open or closed, not counts.
BINARY = ("bernoulli", "open")
each_likelihood = pytest.mark.parametrize("name", list(CASES))


def draw(name, shape=(6, 40), b_shape=(40,), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.full(shape, 0.4, dtype=dtype), generator=generator)
    x = (x > 0).to(dtype) if name in BINARY else x
    a = torch.randn(shape, generator=generator).to(dtype)
    if name == "open":
        a = a.clamp(max=3.5)  # held above a log-rate of 4
    b = torch.randn(b_shape, generator=generator).to(dtype)
    return x, a.requires_grad_(), b.requires_grad_()


@each_likelihood
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_equals_pyro(name, dtype, tolerance):
    fast, dense, theirs = CASES[name]
    x, a, b = draw(name, shape=(20, 3000), b_shape=(3000,), dtype=dtype)
    result = fast(SparseTarget.from_tensor(x), a, b)
    assert result.shape == (20,)
    assert result.dtype == dtype
    expected = theirs(a.double(), b.double()).log_prob(x.double()).sum(-1)
    torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(
        dense(a, b).log_prob(x).sum(-1).double(), expected, rtol=tolerance, atol=0
    )


@each_likelihood
@pytest.mark.parametrize("b_shape", [(), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("weight", ["one", "scalar", "feature"])
def test_gradcheck(name, b_shape, weight):
    fast = CASES[name][0]
    x, a, b = draw(name, (3, 5), b_shape)
    feature_weight = {
        "one": 1.0,
        "scalar": 2.5,
        "feature": torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64),
    }[weight]
    target = SparseTarget.from_tensor(x)
    inputs = (a, b) if name in ("negative_binomial", "zero_inflated_poisson") else (a,)
    assert torch.autograd.gradcheck(
        lambda *ab: fast(target, ab[0], ab[-1], feature_weight=feature_weight), inputs
    )


@each_likelihood
def test_gradients_do_not_depend_on_the_blocks(name, monkeypatch):
    fast = CASES[name][0]
    x, a, b = draw(name)
    target = SparseTarget.from_tensor(x)
    cotangent = torch.arange(1.0, 7.0, dtype=torch.float64)
    results = []
    for budget in (1, 90, 10_000):
        monkeypatch.setattr(_sparse, "_BLOCK_CPU", budget)
        a.grad = b.grad = None
        value = fast(target, a, b)
        value.backward(cotangent)
        results.append((value.detach(), a.grad, b.grad))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other)


@each_likelihood
def test_finite_at_the_edges(name):
    fast = CASES[name][0]
    extremes = torch.tensor([-torch.inf, -200.0, -50.0, 0.0, 50.0, 200.0])
    logits = torch.tensor([-50.0, -15.0, 0.0, 15.0, 50.0])
    a = extremes[:, None, None].expand(6, 5, 3).reshape(1, -1).clone().requires_grad_()
    b = logits[None, :, None].expand(6, 5, 3).reshape(-1).clone().requires_grad_()
    y = torch.tensor([0.0, 1.0, 1.0 if name in BINARY else 1000.0])
    if name == "bernoulli":
        a.data.clamp_(min=-200)
    x = y.expand(6, 5, 3).reshape(1, -1)
    value = fast(SparseTarget.from_tensor(x), a, b)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(a.grad).all()
    assert b.grad is None or torch.isfinite(b.grad).all()


def test_continuous_targets():
    x, a, b = draw("zero_inflated_poisson")
    x = x * 0.37
    result = zero_inflated_poisson_log_prob(SparseTarget.from_tensor(x), a, b)
    expected = ZeroInflatedPoisson(a.exp(), b).log_prob(x).sum(-1)
    torch.testing.assert_close(result, expected)


@each_likelihood
def test_autocast_computes_in_float32(name):
    fast = CASES[name][0]
    x, a, b = draw(name, dtype=torch.float32)
    target = SparseTarget.from_tensor(x)
    half = a.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = fast(target, half, b)
        result.sum().backward()
    assert result.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(result, fast(target, half.float(), b))


@each_likelihood
def test_weights_make_a_feature_sample_unbiased(name):
    fast = CASES[name][0]
    x, a, b = draw(name)
    target = SparseTarget.from_tensor(x)
    full = fast(target, a, b)
    parts = torch.randperm(40, generator=torch.Generator().manual_seed(1)).chunk(4)
    estimates = [fast(target.select_features(p), a[:, p], b[p], feature_weight=4.0) for p in parts]
    torch.testing.assert_close(torch.stack(estimates).mean(0), full)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", ["dense", "csr", "coo", "integer"])
def test_from_tensor(layout):
    x = torch.tensor([[0.0, 2, 0], [0, 0, 0], [1, 0, 3]])
    given = {
        "dense": x,
        "csr": x.to_sparse_csr(),
        "coo": x.to_sparse(),
        "integer": x.int(),
    }[layout]
    target = SparseTarget.from_tensor(given)
    assert target.rows.tolist() == [0, 2, 2]
    assert target.cols.tolist() == [1, 0, 2]
    assert target.values.dtype == torch.float32
    assert target.shape == (3, 3)
    assert torch.equal(target.to("cpu").to_dense(), x)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_stored_zeros_are_dropped():
    csr = torch.sparse_csr_tensor([0, 2], [0, 1], torch.tensor([0.0, 2.0]), size=(1, 2))
    target = SparseTarget.from_tensor(csr)
    assert target.values.tolist() == [2.0]


def test_select_features_renumbers():
    target = SparseTarget.from_tensor(torch.tensor([[1.0, 2, 3, 0]]))
    chosen = target.select_features(torch.tensor([3, 2, 0]))
    assert chosen.to_dense().tolist() == [[0.0, 3.0, 1.0]]


def test_empty_target_and_no_cells():
    result = poisson_log_prob(SparseTarget.from_tensor(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert result.tolist() == [-3.0, -3.0]
    a = torch.zeros(0, 3, requires_grad=True)
    none = poisson_log_prob(SparseTarget.from_tensor(torch.zeros(0, 3)), a)
    none.sum().backward()
    assert none.shape == (0,)


def test_errors_name_the_shapes():
    target = SparseTarget.from_tensor(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"first parameter has shape \(2, 4\)"):
        poisson_log_prob(target, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="second parameter"):
        zero_inflated_poisson_log_prob(target, torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="feature_weight"):
        poisson_log_prob(target, torch.zeros(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match="matrix of cells x features"):
        SparseTarget.from_tensor(torch.zeros(3))


def test_saves_no_matrix_of_its_own():
    x, a, b = draw("zero_inflated_poisson")
    result = zero_inflated_poisson_log_prob(SparseTarget.from_tensor(x), a, b)
    saved = [t for t in result.grad_fn.saved_tensors if t is not None and t.ndim == 2]
    assert [t.data_ptr() for t in saved] == [a.data_ptr()]


def test_a_region_that_must_be_open_costs_no_more_and_points_back():
    a = torch.tensor([[3.9, 4.0, 30.0]], requires_grad=True)
    closed = SparseTarget.from_tensor(torch.zeros(1, 3))
    value = open_log_prob(closed, a)
    torch.testing.assert_close(value.detach(), -torch.tensor([3.9, 4.0, 4.0]).exp().sum(0, True))
    value.sum().backward()
    torch.testing.assert_close(a.grad, -torch.tensor([[3.9, 4.0, 4.0]]).exp())
