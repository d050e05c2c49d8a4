"""Gather the tokens of open peaks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from atacvi.data._gathering import stack
from atacvi.data.counts import iter_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

_NONE, _SEVERAL = -1, -2
# Non-zeros that one thread takes at a time
_PIECE = 2**22


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
    lookup = _Lookup.of(to_tokens)
    blocks = [_gather(*block, threshold, lookup) for block in _blocks(matrix)]
    if not blocks:
        nothing = np.zeros(0, dtype=np.int64)
        return sp.csr_matrix((0, to_tokens.shape[1]), dtype=bool), nothing, nothing
    tokens, opened, hit = zip(*blocks, strict=True)
    return stack(tokens), np.concatenate(opened), np.concatenate(hit)


@dataclass(frozen=True)
class _Lookup:
    """Tokens of each peak: ``one`` token, -1 for none, -2 for several that stand in the map."""

    one: np.ndarray
    degree: np.ndarray
    to_tokens: sp.csr_matrix

    @classmethod
    def of(cls, to_tokens: sp.csr_matrix) -> _Lookup:
        degree = np.diff(to_tokens.indptr)
        one = np.where(degree > 1, _SEVERAL, _NONE).astype(np.int32)
        one[degree == 1] = to_tokens.indices[to_tokens.indptr[:-1][degree == 1]]
        return cls(one, degree, to_tokens)

    def room(self, indices: np.ndarray) -> int:
        """Tokens that peaks can have at most."""
        # as a rule a peak has one; only else is it worth to add them up
        if self.degree.max(initial=0) <= 1:
            return len(indices)
        return int(self.degree[indices].sum())


def _blocks(matrix: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield indptr, indices and data of rows: all at once where they are in memory already."""
    if sp.issparse(matrix):
        yield matrix.indptr, matrix.indices, matrix.data
        return
    for _, rows, _ in iter_blocks(matrix):
        block = sp.csr_matrix(rows)
        yield block.indptr, block.indices, block.data


def _gather(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, threshold: float, lookup: _Lookup
) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Gather in pieces, several at a time; each writes into its own stretch of the result."""
    n_cells = len(indptr) - 1
    targets = np.arange(0, len(indices) + _PIECE, _PIECE)
    borders = np.unique(np.r_[np.searchsorted(indptr, targets).clip(0, n_cells), n_cells])
    pieces = list(zip(borders[:-1], borders[1:], strict=True))
    rooms = [lookup.room(indices[indptr[low] : indptr[high]]) for low, high in pieces]
    first = np.r_[0, np.cumsum(rooms)].astype(np.int64)
    out = np.empty(first[-1], dtype=np.int32)
    sizes, n_open, n_hit = (np.zeros(n_cells, dtype=np.int64) for _ in range(3))

    def fill(number: int) -> bool:
        low, high = pieces[number]
        inside = slice(indptr[low], indptr[high])
        return _fill(
            (indptr[low : high + 1], indices[inside], data[inside] > threshold),
            (out[first[number] : first[number + 1]],)
            + tuple(array[low:high] for array in (sizes, n_open, n_hit)),
            lookup,
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ascending = all(list(pool.map(fill, range(len(pieces)))))
    out_indptr = np.r_[0, np.cumsum(sizes)]
    for (low, high), begin in zip(pieces, first[:-1], strict=True):
        n, target = out_indptr[high] - out_indptr[low], out_indptr[low]
        if target < begin:  # close the gaps that closed peaks left
            out[target : target + n] = out[begin : begin + n]
    n = int(out_indptr[-1])
    used = out[:n] if 2 * n > len(out) else out[:n].copy()
    shape = (n_cells, lookup.to_tokens.shape[1])
    tokens = sp.csr_matrix((np.ones(n, dtype=bool), used, out_indptr), shape=shape, copy=False)
    if not ascending:
        tokens.has_sorted_indices = False
        tokens.sort_indices()
    return tokens, n_open, n_hit


def _fill(cells: tuple[np.ndarray, ...], results: tuple[np.ndarray, ...], lookup: _Lookup) -> bool:
    """Write the tokens of some cells; returns whether they ascend within each."""
    from atacvi.regions._sweep import gather, gather_unordered

    mapping = (lookup.to_tokens.indptr, lookup.to_tokens.indices)
    if gather(*cells, lookup.one, *mapping, *results) >= 0:
        return True
    seen = np.full(lookup.to_tokens.shape[1], -1, dtype=np.int64)
    gather_unordered(*cells, *mapping, seen, *results)
    return False
