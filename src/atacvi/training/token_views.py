"""What a training step sees of its cells: two disjoint parts, replaced tokens, thinned tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.nn import PackedTokens

if TYPE_CHECKING:
    from atacvi.training.corruption import TokenCorruption
    from atacvi.training.token_batches import BatchPlan, TokenRows

# The smaller part of a cell holds at least this share of its tokens: with equal halves the number
# of tokens would give away which two belong together.
_MIN_SHARE = 0.25


def pack(ids: np.ndarray, offsets: np.ndarray) -> PackedTokens:
    """Return packed tokens as tensors."""
    return PackedTokens(torch.as_tensor(ids), torch.as_tensor(offsets))


def split_cells(
    ids: np.ndarray, offsets: np.ndarray, rng: np.random.Generator, min_share: float = _MIN_SHARE
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Split the tokens of each cell at random into two disjoint parts of unequal size.

    Parameters
    ----------
    ids, offsets
        Packed tokens, shapes (tokens,) and (cells + 1,).
    rng
        Generator.
    min_share
        Smallest share of a cell's tokens in the first part; it is drawn from here to one minus it.

    Returns
    -------
    Tokens and offsets of the first and of the second part. A cell of one token has an empty part.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import split_cells
    >>> (one, _), (two, _) = split_cells(np.arange(8), np.array([0, 8]), np.random.default_rng(0))
    >>> sorted([*one.tolist(), *two.tolist()])
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    lengths = np.diff(offsets)
    cell = np.repeat(np.arange(len(lengths)), lengths)
    shuffled = np.lexsort((rng.random(len(ids)), cell))
    n_first = np.rint(lengths * rng.uniform(min_share, 1 - min_share, len(lengths)))
    # both parts hold a token where there are two
    n_first = np.clip(n_first.astype(np.int64), np.minimum(lengths, 1), np.maximum(lengths - 1, 1))
    n_first = np.minimum(n_first, lengths)
    place = np.arange(len(ids)) - offsets[:-1][cell]
    is_first = place < n_first[cell]
    parts = []
    for chosen, n_tokens in ((is_first, n_first), (~is_first, lengths - n_first)):
        starts = np.concatenate([[0], np.cumsum(n_tokens)]).astype(np.int64)
        parts.append((ids[shuffled[chosen]], starts))
    return parts[0], parts[1]


def thin_cells(
    ids: np.ndarray, offsets: np.ndarray, rng: np.random.Generator, max_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Leave out tokens at random, a share of each cell's that is drawn up to `max_share`.

    Parameters
    ----------
    ids, offsets
        Packed tokens.
    rng
        Generator.
    max_share
        Largest share left out.

    Returns
    -------
    Tokens and offsets; a cell keeps one token at least.
    """
    lengths = np.diff(offsets)
    cell = np.repeat(np.arange(len(lengths)), lengths)
    score = rng.random(len(ids))
    kept = score >= (max_share * rng.random(len(lengths)))[cell]
    # the highest score of each cell stays in any case
    order = np.lexsort((score, cell))
    kept[order[offsets[1:][lengths > 0] - 1]] = True
    n_kept = np.bincount(cell[kept], minlength=len(lengths))
    return ids[kept], np.concatenate([[0], np.cumsum(n_kept)]).astype(np.int64)


def take_cells(
    ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return packed tokens of some of the cells, given by their places."""
    parts = [ids[offsets[row] : offsets[row + 1]] for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return np.concatenate(parts), starts


class PretrainingViews:
    """Views of a minibatch for pretraining, seeded by its plan.

    Parameters
    ----------
    rows
        Tokens of the cells, for those that the context left out.
    corruption
        Replaces tokens; ``None`` leaves that view out.
    split
        Whether to split each cell into two parts.
    replaced_share
        Share of a minibatch's cells, drawn anew each time, in which tokens are replaced.
    seed
        Seed.
    """

    def __init__(
        self,
        rows: TokenRows,
        corruption: TokenCorruption | None,
        *,
        split: bool,
        replaced_share: float = 1.0,
        seed: int,
    ) -> None:
        self.rows, self.corruption, self.split, self.seed = rows, corruption, split, seed
        self.replaced_share = replaced_share

    def __call__(self, plan: BatchPlan, ids: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """Return the views ``first``, ``second``, ``corrupted`` and ``replaced``."""
        rng = np.random.default_rng([self.seed, plan.epoch, plan.number, 2])
        views: dict[str, Any] = {}
        if self.corruption is not None:
            chosen, clean, starts = plan.cells, ids, offsets
            if self.replaced_share < 1:
                n_chosen = max(1, round(self.replaced_share * len(plan.cells)))
                rows = np.sort(rng.permutation(len(plan.cells))[:n_chosen])
                chosen, (clean, starts) = plan.cells[rows], take_cells(ids, offsets, rows)
            held = self.rows.gather_all(chosen)
            corrupted, replaced = self.corruption(clean, starts, *held, rng)
            views["corrupted"] = pack(corrupted, starts)
            views["replaced"] = torch.as_tensor(replaced)
        if self.split:
            first, second = split_cells(ids, offsets, rng)
            views["first"], views["second"] = pack(*first), pack(*second)
        return views


class FinetuningViews:
    """Views of a minibatch for fine-tuning, seeded by its plan.

    Parameters
    ----------
    rows
        Tokens of the cells.
    corruption
        Replaces tokens; ``None`` leaves that view out.
    token_dropout
        Largest share of a cell's tokens that is left out of the clean view.
    seed
        Seed.
    """

    def __init__(
        self,
        rows: TokenRows,
        corruption: TokenCorruption | None,
        *,
        token_dropout: float,
        seed: int,
    ) -> None:
        self.pretraining = PretrainingViews(rows, corruption, split=False, seed=seed)
        self.token_dropout, self.seed = token_dropout, seed

    def __call__(self, plan: BatchPlan, ids: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """Return the views ``tokens``, ``corrupted`` and ``replaced``."""
        views = self.pretraining(plan, ids, offsets)
        if self.token_dropout > 0:
            rng = np.random.default_rng([self.seed, plan.epoch, plan.number, 3])
            ids, offsets = thin_cells(ids, offsets, rng, self.token_dropout)
        views["tokens"] = pack(ids, offsets)
        return views
