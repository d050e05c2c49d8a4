"""First layers over the non-zeros equal those over the dense matrix."""

from __future__ import annotations

import pytest
import torch

from atacvi.likelihoods import SparseTarget
from atacvi.nn import scale_rows_to_unit, weighted_feature_sum

N_CELLS, N_FEATURES, WIDTH = 7, 11, 4


@pytest.fixture
def dense() -> torch.Tensor:
    values = torch.poisson(torch.full((N_CELLS, N_FEATURES), 0.4))
    values[2] = 0  # a cell without counts
    return values


@pytest.fixture
def sparse(dense) -> SparseTarget:
    return SparseTarget.from_tensor(dense.to_sparse_csr())


def test_sum_equals_dense_product(dense, sparse):
    table = torch.randn(N_FEATURES, WIDTH)
    torch.testing.assert_close(weighted_feature_sum(sparse, sparse.values, table), dense @ table)


@pytest.mark.parametrize("n_blocks", [3, 5])
def test_sum_by_block_equals_dense_products(dense, sparse, n_blocks):
    table, block = torch.randn(N_FEATURES, WIDTH), torch.arange(N_FEATURES) % 3
    out = weighted_feature_sum(sparse, sparse.values, table, block, n_blocks)
    assert out.shape == (N_CELLS, n_blocks, WIDTH)
    for b in range(n_blocks):
        torch.testing.assert_close(out[:, b], dense[:, block == b] @ table[block == b])


def test_number_of_blocks_does_not_matter_without_blocks(dense, sparse):
    table = torch.randn(N_FEATURES, WIDTH)
    out = weighted_feature_sum(sparse, sparse.values, table, None, 4)
    torch.testing.assert_close(out, dense @ table)


def test_gradients_equal_those_of_the_dense_product(dense, sparse):
    table = torch.randn(N_FEATURES, WIDTH, requires_grad=True)
    weighted_feature_sum(sparse, sparse.values, table).square().sum().backward()
    found, table.grad = table.grad, None
    (dense @ table).square().sum().backward()
    torch.testing.assert_close(found, table.grad)


def test_unit_rows(dense, sparse):
    weights = scale_rows_to_unit(sparse, sparse.values)
    expected = torch.nn.functional.normalize(dense, dim=1)
    torch.testing.assert_close(weights, expected[sparse.rows, sparse.cols])
