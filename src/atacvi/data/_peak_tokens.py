"""Gather the tokens of open peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from atacvi.data._gathering import stack
from atacvi.data.counts import iter_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

_NONE, _SEVERAL = -1, -2


def gather_tokens(
    matrix: Any, to_tokens: sp.csr_matrix, threshold: float
) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Return the tokens of all cells, their open peaks, and those of them that have a token.

    Parameters
    ----------
    matrix
        Counts (cells, peaks): csr, dense or backed.
    to_tokens
        0/1 matrix (peaks, regions of the universe) with sorted indices.
    threshold
        A peak is open above this value.
    """
    degree = np.diff(to_tokens.indptr)
    one = np.where(degree > 1, _SEVERAL, _NONE).astype(np.int32)
    one[degree == 1] = to_tokens.indices[to_tokens.indptr[:-1][degree == 1]]
    blocks, opened, hit = [], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for block in _blocks(matrix):
        tokens, n_open, n_hit = _gather(*block, threshold, one, degree, to_tokens)
        blocks.append(tokens)
        opened.append(n_open)
        hit.append(n_hit)
    if not blocks:
        blocks = [sp.csr_matrix((0, to_tokens.shape[1]), dtype=bool)]
    return stack(blocks), np.concatenate(opened), np.concatenate(hit)


def _blocks(matrix: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield indptr, indices and data of rows: all at once where they are in memory already."""
    if sp.issparse(matrix):
        yield matrix.indptr, matrix.indices, matrix.data
        return
    for _, rows, _ in iter_blocks(matrix):
        block = sp.csr_matrix(rows)
        yield block.indptr, block.indices, block.data


def _gather(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    threshold: float,
    one: np.ndarray,
    degree: np.ndarray,
    to_tokens: sp.csr_matrix,
) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    from atacvi.regions._sweep import gather, gather_unordered

    n_cells, n_tokens = len(indptr) - 1, to_tokens.shape[1]
    is_open = data > threshold
    # a peak has one token as a rule; only else is it worth to add up what room is needed
    room = len(indices) if degree.max(initial=0) <= 1 else int(degree[indices].sum())
    out = np.empty(room, dtype=np.int32)
    out_indptr = np.zeros(n_cells + 1, dtype=np.int64)
    n_open, n_hit = np.zeros(n_cells, dtype=np.int64), np.zeros(n_cells, dtype=np.int64)
    cells = (indptr, indices, is_open)
    mapping = (to_tokens.indptr, to_tokens.indices)
    results = (out, out_indptr, n_open, n_hit)
    n = gather(*cells, one, *mapping, *results)
    ascending = n >= 0
    if not ascending:
        seen = np.full(n_tokens, -1, dtype=np.int64)
        n = gather_unordered(*cells, *mapping, seen, *results)
    values = np.ones(n, dtype=bool)
    used = out[:n] if 2 * n > room else out[:n].copy()
    tokens = sp.csr_matrix((values, used, out_indptr), shape=(n_cells, n_tokens), copy=False)
    if not ascending:
        tokens.has_sorted_indices = False
        tokens.sort_indices()
    return tokens, n_open, n_hit
