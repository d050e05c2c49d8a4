"""First layers whose cost grows with the non-zeros, not with the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget


def weighted_feature_sum(
    x: SparseTarget,
    weights: Tensor,
    table: Tensor,
    block: Tensor | None = None,
    n_blocks: int = 1,
) -> Tensor:
    """Sum the table's rows of each cell's non-zero features, weighted, overall or by block.

    Without blocks this is ``dense @ table`` for a matrix that holds `weights` at the non-zeros.

    Parameters
    ----------
    x
        Non-zeros of shape (cells, features).
    weights
        Weight of each non-zero, shape (nnz,).
    table
        Embedding of each feature, shape (features, width).
    block
        Block of each feature, int64, shape (features,).
    n_blocks
        Number of blocks.

    Returns
    -------
    Shape (cells, width), or (cells, n_blocks, width) with blocks.
    """
    n_cells = x.shape[0]
    bags = x.rows if block is None else x.rows * n_blocks + block[x.cols]
    cols, weights = x.cols, weights.to(table.dtype)
    if bags.numel() > 1 and bool((bags[1:] < bags[:-1]).any()):
        # Stable, so that the order of summation, and the result to the bit, is always the same.
        bags, order = torch.sort(bags, stable=True)
        cols, weights = cols[order], weights[order]
    sizes = torch.bincount(bags, minlength=n_cells if block is None else n_cells * n_blocks)
    offsets = sizes.cumsum(0) - sizes
    summed = F.embedding_bag(cols, table, offsets, mode="sum", per_sample_weights=weights)
    return summed if block is None else summed.view(n_cells, n_blocks, -1)


def scale_rows_to_unit(x: SparseTarget, weights: Tensor) -> Tensor:
    """Divide each non-zero's weight by the Euclidean norm of its cell, shape (nnz,)."""
    return weights * inverse_row_norms(x, weights).index_select(0, x.rows)


def inverse_row_norms(x: SparseTarget, weights: Tensor) -> Tensor:
    """Return one over the Euclidean norm of the weights of each cell's non-zeros, (cells,)."""
    squares = torch.zeros(x.shape[0], dtype=weights.dtype, device=weights.device)
    return squares.index_add(0, x.rows, weights.square()).sqrt().clamp(min=1e-8).reciprocal()
