"""Encoders: sparse equals dense, the gate, statistics."""

from __future__ import annotations

import pytest
import torch

from atacvi.likelihoods import SparseTarget
from atacvi.nn import AtacEncoder, LearntRows, RnaEncoder

N_CELLS, N_FEATURES, N_HIDDEN = 6, 20, 16


@pytest.fixture
def counts() -> torch.Tensor:
    return torch.poisson(torch.full((N_CELLS, N_FEATURES), 1.0)) + torch.eye(N_CELLS, N_FEATURES)


def as_sparse(dense: torch.Tensor) -> SparseTarget:
    return SparseTarget.from_tensor(dense.to_sparse_csr())


@pytest.mark.parametrize("separate_gate", [False, True])
def test_rna_sparse_equals_dense(counts, separate_gate):
    encoder = RnaEncoder(N_FEATURES, N_HIDDEN, separate_gate=separate_gate).eval()
    encoder.set_statistics(15.0, torch.rand(N_FEATURES), torch.rand(N_FEATURES) + 0.1)
    depth = counts.sum(1, keepdim=True)
    torch.testing.assert_close(encoder(as_sparse(counts), depth), encoder(counts, depth))


def test_rna_is_standardised(counts):
    """Subtracting the mean outside the sum equals standardising each gene of the dense matrix."""
    encoder = RnaEncoder(N_FEATURES, N_HIDDEN)
    mean, deviation = torch.rand(N_FEATURES), torch.rand(N_FEATURES) + 0.5
    encoder.set_statistics(10.0, mean, deviation)
    depth = counts.sum(1, keepdim=True)
    logged = torch.log1p(counts * 10.0 / depth)
    expected = ((logged - mean) / deviation) @ encoder.table
    torch.testing.assert_close(
        encoder._project(as_sparse(counts), depth, encoder.table), expected, rtol=1e-4, atol=1e-5
    )


def test_the_gate_lies_between_zero_and_one(counts):
    encoder = RnaEncoder(N_FEATURES, N_HIDDEN).eval()
    depth = counts.sum(1, keepdim=True)
    before = encoder._project(counts, depth, encoder.table) + encoder.bias
    hidden = torch.relu(encoder.norm(before))
    gated = encoder(counts, depth)
    assert (gated.abs() <= hidden.abs()).all()
    torch.nn.init.constant_(encoder.gate.bias, -1e4)
    assert (encoder(counts, depth) == 0).all()


@pytest.mark.parametrize("attention", ["tokens", "feature", "none"])
def test_atac_sparse_equals_dense(counts, attention):
    block = torch.arange(N_FEATURES) // 6
    encoder = AtacEncoder(N_FEATURES, 8, N_HIDDEN, attention=attention, n_heads=4, block=block)
    encoder.eval()
    if attention == "tokens":  # off its start, where it is the identity
        torch.nn.init.normal_(encoder.attention.output.weight)
    encoder.set_statistics(torch.rand(N_FEATURES) + 0.5)
    table = torch.randn(N_FEATURES, 8)
    opened = (counts > 0).float()  # the encoder reads open or closed
    sparse = encoder(as_sparse(counts), table)
    assert sparse.shape == (N_CELLS, N_HIDDEN)
    torch.testing.assert_close(sparse, encoder(opened, table), rtol=1e-4, atol=1e-5)


def test_atac_of_some_peaks_equals_closing_the_others(counts):
    block = torch.arange(N_FEATURES) // 6
    encoder = AtacEncoder(N_FEATURES, 8, N_HIDDEN, n_heads=4, block=block).eval()
    table, peaks = torch.randn(N_FEATURES, 8), torch.tensor([0, 3, 4, 11, 19])
    closed = torch.zeros_like(counts)
    closed[:, peaks] = counts[:, peaks]
    torch.testing.assert_close(
        encoder(counts[:, peaks], table[peaks], peaks=peaks),
        encoder(closed, table),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("attention", ["tokens", "none"])
def test_rows_learnt_in_turn_have_the_gradient_of_all(counts, attention):
    """The value is that of the whole table; gradients of the parts average to its gradient."""
    block, n_parts = torch.arange(N_FEATURES) // 6, 4
    encoder = AtacEncoder(
        N_FEATURES, 8, N_HIDDEN, attention=attention, n_heads=4, block=block, dropout_rate=0.0
    )
    if attention == "tokens":
        torch.nn.init.normal_(encoder.attention.output.weight)
    encoder.set_statistics(torch.rand(N_FEATURES) + 0.5)
    y, table = as_sparse(counts), torch.randn(N_FEATURES, 8, requires_grad=True)
    whole = encoder(y, table)
    (expected,) = torch.autograd.grad(whole.square().sum(), table)
    total = torch.zeros_like(expected)
    for peaks in torch.randperm(N_FEATURES).chunk(n_parts):
        learnt = LearntRows(peaks, table[peaks], y.select_features(peaks), n_parts)
        value = encoder(y, table, learnt=learnt)
        torch.testing.assert_close(value, whole)
        (gradient,) = torch.autograd.grad(value.square().sum(), table)
        others = torch.ones(N_FEATURES, dtype=torch.bool).index_fill(0, peaks, False)
        assert (gradient[others] == 0).all()
        total += gradient / n_parts
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)


def test_atac_does_not_see_depth(counts):
    encoder = AtacEncoder(N_FEATURES, 8, N_HIDDEN, n_heads=4).eval()
    table = torch.randn(N_FEATURES, 8)
    torch.testing.assert_close(encoder(counts, table), encoder(7 * counts, table))


def test_order_of_features_is_of_no_account(counts):
    block, order = torch.arange(N_FEATURES) // 6, torch.randperm(N_FEATURES)
    encoder = AtacEncoder(N_FEATURES, 8, N_HIDDEN, n_heads=4, block=block).eval()
    table = torch.randn(N_FEATURES, 8)
    before = encoder(as_sparse(counts), table)
    encoder.block, encoder.idf = block[order], encoder.idf[order]
    after = encoder(as_sparse(counts[:, order]), table[order])
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def test_covariates_enter_where_there_are_any(counts):
    encoder = RnaEncoder(N_FEATURES, N_HIDDEN, n_covariates=2).eval()
    depth = counts.sum(1, keepdim=True)
    first = encoder(counts, depth, torch.tensor([[1.0, 0.0]]).expand(N_CELLS, -1))
    second = encoder(counts, depth, torch.tensor([[0.0, 1.0]]).expand(N_CELLS, -1))
    assert not torch.allclose(first, second)
