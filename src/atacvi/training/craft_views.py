"""What a training step of CRAFTModel sees of its cells: both modalities, thinned at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.likelihoods import SparseTarget
from atacvi.training.token_views import pack, thin_cells

if TYPE_CHECKING:
    import scipy.sparse as sp

    from atacvi.training.token_batches import BatchPlan


def sparse_rows(
    counts: sp.csr_matrix,
    cells: np.ndarray,
    rng: np.random.Generator | None = None,
    max_share: float = 0.0,
) -> SparseTarget:
    """Return the counts of some cells as tensors, maybe without some of their reads.

    Parameters
    ----------
    counts
        CSR of shape (cells, genes).
    cells
        Rows.
    rng, max_share
        Generator, and the largest share of a cell's reads that is left out; a share is drawn for
        each cell, and each read is left out with that probability.

    Returns
    -------
    Non-zero counts of shape (len(cells), genes).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from atacvi.training import sparse_rows
    >>> sparse_rows(sp.csr_matrix([[0, 2], [1, 0]]), np.array([1, 0])).to_dense().tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    chosen = counts[cells]
    rows = np.repeat(np.arange(len(cells)), np.diff(chosen.indptr))
    values, cols = chosen.data, chosen.indices
    if rng is not None and max_share > 0:
        kept = 1.0 - max_share * rng.random(len(cells))
        values = rng.binomial(values.astype(np.int64), kept[rows])
    stays = values > 0
    return SparseTarget(
        torch.as_tensor(rows[stays].astype(np.int64)),
        torch.as_tensor(cols[stays].astype(np.int64)),
        torch.as_tensor(values[stays].astype(np.float32)),
        (len(cells), counts.shape[1]),
    )


def sample_cells(
    ids: np.ndarray, offsets: np.ndarray, rng: np.random.Generator, max_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sample tokens of cells that hold more than a context, without replacement.

    Parameters
    ----------
    ids, offsets
        Packed tokens.
    rng
        Generator.
    max_tokens
        Tokens of a cell at most.

    Returns
    -------
    Tokens and offsets; the tokens of a cell stay in order.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import sample_cells
    >>> rng = np.random.default_rng(0)
    >>> sample_cells(np.arange(9), np.array([0, 7, 9]), rng, 3)[1].tolist()
    [0, 3, 5]
    """
    lengths = np.diff(offsets)
    if not (lengths > max_tokens).any():
        return ids, offsets
    cell = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((rng.random(len(ids)), cell))
    place = np.arange(len(ids)) - offsets[:-1][cell]
    kept = np.sort(order[place < max_tokens])
    starts = np.concatenate([[0], np.cumsum(np.minimum(lengths, max_tokens))])
    return ids[kept], starts.astype(np.int64)


class AlignmentViews:
    """Both modalities of a minibatch's cells, seeded by its plan.

    Parameters
    ----------
    rna
        Counts of all cells, CSR of shape (cells, genes), or a given embedding, (cells, width).
    token_dropout, count_dropout
        Largest share of a cell's tokens, and of its RNA reads, that is left out. What is left of
        both must find each other: the shares of sampling noise do not.
    max_tokens
        Tokens of a cell in a view of their own, ``context``; ``None`` leaves that view out.
    seed
        Seed.
    """

    def __init__(
        self,
        rna: sp.csr_matrix | np.ndarray,
        *,
        token_dropout: float = 0.0,
        count_dropout: float = 0.0,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        if not (0 <= token_dropout < 1 and 0 <= count_dropout < 1):
            msg = (
                f"token_dropout={token_dropout}, count_dropout={count_dropout}: shares of what is "
                "left out lie in [0, 1)."
            )
            raise ValueError(msg)
        self.rna, self.max_tokens, self.seed = rna, max_tokens, seed
        self.token_dropout, self.count_dropout = token_dropout, count_dropout

    def __call__(self, plan: BatchPlan, ids: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """Return ``tokens``, ``rna``, and ``context`` where one was asked for."""
        rng = np.random.default_rng([self.seed, plan.epoch, plan.number, 6])
        if self.token_dropout > 0:
            ids, offsets = thin_cells(ids, offsets, rng, self.token_dropout)
        if isinstance(self.rna, np.ndarray):
            rna: Any = torch.as_tensor(self.rna[plan.cells], dtype=torch.float32)
        else:
            rna = sparse_rows(self.rna, plan.cells, rng, self.count_dropout)
        views = {"tokens": pack(ids, offsets), "rna": rna}
        if self.max_tokens is not None:
            views["context"] = pack(*sample_cells(ids, offsets, rng, self.max_tokens))
        return views


class DecoderViews:
    """Fixed accessibility embeddings and counts of a minibatch's cells.

    Parameters
    ----------
    cells
        Embedding of all cells, shape (cells, n_latent).
    counts
        Counts of all cells, CSR of shape (cells, genes).
    """

    def __init__(self, cells: np.ndarray, counts: sp.csr_matrix) -> None:
        self.cells, self.counts = cells, counts

    def __call__(self, plan: BatchPlan, ids: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """Return ``cells`` and ``counts``; tokens are not looked at."""
        return {
            "cells": torch.as_tensor(self.cells[plan.cells], dtype=torch.float32),
            "counts": sparse_rows(self.counts, plan.cells),
        }
