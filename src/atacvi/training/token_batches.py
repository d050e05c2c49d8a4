"""Minibatches of cells as packed tokens: about the same number of tokens each, whatever the cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import scipy.sparse as sp

Truncation = Literal["random", "first"]

# Spread of the random part of the order by length, in log units: cells of a batch are of similar
# length, but a cell meets others in each epoch.
_LENGTH_NOISE = 0.5


class BatchPlan(NamedTuple):
    """Cells of one minibatch, and which of the training it is.

    Parameters
    ----------
    epoch, number
        Epoch and number of the minibatch within it; they seed what is drawn for it.
    cells
        Rows of the token matrix, shape (cells,).
    """

    epoch: int
    number: int
    cells: np.ndarray


@dataclass
class TokenRows:
    """Token sets of cells, read from a sparse matrix (cells, regions).

    Cells with more than `max_tokens` tokens are sampled without replacement, with a generator of
    their own for each seed, epoch and cell: the same cell gives the same tokens whatever stands
    beside it.

    Parameters
    ----------
    tokens
        Matrix whose stored entries of a row are the tokens of a cell; values do not matter.
    max_tokens
        Length of the context; ``None`` never samples.
    truncation
        ``"random"`` samples, ``"first"`` keeps the lowest ids.
    seed
        Seed of the sampling.

    Raises
    ------
    ValueError
        If `max_tokens` is below 1 or `truncation` is unknown.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.training import TokenRows
    >>> rows = TokenRows(
    ...     sp.csr_matrix([[1, 1, 0, 1], [0, 0, 1, 0]]), max_tokens=2, truncation="first"
    ... )
    >>> [part.tolist() for part in rows.gather([1, 0])]
    [[2, 0, 1], [0, 1, 3]]
    """

    tokens: sp.csr_matrix
    max_tokens: int | None = None
    truncation: Truncation = "random"
    seed: int = 0
    lengths: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            msg = f"max_tokens={self.max_tokens}; a context holds at least 1 token, and None takes all."
            raise ValueError(msg)
        if self.truncation not in ("random", "first"):
            msg = f"truncation={self.truncation!r} is unknown; choose 'random' or 'first'."
            raise ValueError(msg)
        lengths = np.diff(self.tokens.indptr).astype(np.int64)
        self.lengths = lengths if self.max_tokens is None else np.minimum(lengths, self.max_tokens)

    def row(self, cell: int) -> np.ndarray:
        """Return all tokens of a cell."""
        start, end = self.tokens.indptr[cell], self.tokens.indptr[cell + 1]
        return self.tokens.indices[start:end]

    def sample(self, cell: int, epoch: int = 0) -> np.ndarray:
        """Return the tokens of a cell that fit the context, in ascending order of position."""
        row = self.row(cell)
        if self.max_tokens is None or len(row) <= self.max_tokens:
            return row
        if self.truncation == "first":
            return np.sort(row)[: self.max_tokens]
        rng = np.random.default_rng([self.seed, epoch, cell])
        return row[np.sort(rng.choice(len(row), self.max_tokens, replace=False))]

    def gather(self, cells: Any, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens and offsets of some cells, packed; int64, (tokens,) and (cells + 1,)."""
        parts = [self.sample(int(cell), epoch) for cell in cells]
        return _pack(parts)

    def gather_all(self, cells: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return all tokens and offsets of some cells, packed, whatever the context."""
        return _pack([self.row(int(cell)) for cell in cells])


def _pack(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    ids = np.concatenate(parts) if parts else np.empty(0)
    return ids.astype(np.int64, copy=False), offsets


class TokenBatchSampler(Sampler[BatchPlan]):
    """Cut the cells into minibatches of about `token_budget` tokens.

    The number of minibatches is the same in each epoch and on each device, as Lightning asks. A
    minibatch exceeds the budget by less than one cell.

    Parameters
    ----------
    lengths
        Tokens of each cell of the data, shape (cells,).
    cells
        Cells to use.
    token_budget
        Tokens of a minibatch.
    shuffle
        Whether to draw the order anew in each epoch; else cells of the same length come together,
        the longest first, so that what does not fit memory fails at once.
    seed
        Seed of the order.
    keep_order
        When not shuffling, keep the order in which the cells are given.
    by_length
        When shuffling, keep cells of similar length together (kernels that pad waste less).
    max_cells
        Cells of a minibatch at most.
    rank, n_devices
        This device and their number; each takes its share of the minibatches.

    Raises
    ------
    ValueError
        If there is no cell, or the budget or `max_cells` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import TokenBatchSampler
    >>> sampler = TokenBatchSampler(np.array([5, 1, 1, 3]), np.arange(4), 5, shuffle=False)
    >>> [plan.cells.tolist() for plan in sampler]
    [[0], [3, 1, 2]]
    """

    def __init__(
        self,
        lengths: np.ndarray,
        cells: np.ndarray,
        token_budget: int,
        *,
        shuffle: bool = True,
        keep_order: bool = False,
        seed: int = 0,
        by_length: bool = False,
        max_cells: int | None = None,
        rank: int = 0,
        n_devices: int = 1,
    ) -> None:
        if token_budget < 1:
            msg = f"token_budget={token_budget}; a minibatch holds at least 1 token."
            raise ValueError(msg)
        if max_cells is not None and max_cells < 1:
            msg = f"batch_size={max_cells}; a minibatch holds at least 1 cell."
            raise ValueError(msg)
        if len(cells) == 0:
            msg = "There are no cells to make minibatches of."
            raise ValueError(msg)
        self.cells = np.asarray(cells, dtype=np.int64)
        self.lengths = np.maximum(np.asarray(lengths, dtype=np.int64)[self.cells], 1)
        self.shuffle, self.keep_order = shuffle, keep_order
        self.seed, self.by_length = seed, by_length
        self.rank, self.n_devices = rank, n_devices
        self.epoch = 0
        wanted = -(-int(self.lengths.sum()) // token_budget)
        if max_cells is not None:
            wanted = max(wanted, -(-len(self.cells) // max_cells))
        self.max_cells = max_cells
        # a multiple of the devices, but never more minibatches than cells, on a single device
        wanted = min(max(wanted, 1), len(self.cells))
        self.n_batches = -(-wanted // n_devices) * n_devices

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of minibatches of this device."""
        return self.n_batches // self.n_devices

    def __iter__(self) -> Iterator[BatchPlan]:
        """Yield the minibatches of this device."""
        order = self._order()
        groups = self._cut(order)
        numbers = np.arange(self.n_batches)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch, 1]).shuffle(numbers)
        for number in numbers[self.rank :: self.n_devices]:
            # devices in excess of the cells repeat a group, so that all take the same steps
            cells = groups[number % len(groups)]
            # what is not shuffled is drawn for in the same way in each epoch
            yield BatchPlan(self.epoch if self.shuffle else 0, int(number), self.cells[cells])

    def _order(self) -> np.ndarray:
        if self.keep_order and not self.shuffle:
            return np.arange(len(self.cells))
        if not self.shuffle:
            return np.argsort(-self.lengths, kind="stable")
        rng = np.random.default_rng([self.seed, self.epoch, 0])
        if not self.by_length:
            return rng.permutation(len(self.cells))
        noise = _LENGTH_NOISE * rng.standard_normal(len(self.cells))
        return np.argsort(np.log(self.lengths) + noise)

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Cut an order of cells into parts of equal numbers of tokens, none of them empty."""
        if self.max_cells is not None and self.max_cells * self.n_batches < 2 * len(order):
            parts = np.array_split(order, self.n_batches)  # cells, not tokens, are the limit
        else:
            ends = np.cumsum(self.lengths[order])
            middle = ends - self.lengths[order] / 2
            part = np.floor(middle / ends[-1] * self.n_batches).astype(np.int64)
            borders = np.flatnonzero(np.diff(part)) + 1
            parts = np.split(order, borders)
        parts = [cells for cells in parts if len(cells)]
        # a cell longer than a share leaves shares empty: halve others, so that the number stays
        while len(parts) < min(self.n_batches, len(order)):
            largest = max(range(len(parts)), key=lambda i: len(parts[i]))
            parts[largest : largest + 1] = np.array_split(parts[largest], 2)
        return parts


class TokenDataset(Dataset[dict[str, Any]]):
    """Turn plans of minibatches into what a training step takes.

    Parameters
    ----------
    rows
        Tokens of the cells.
    view
        Function of a plan and of the packed tokens (ids, offsets) that returns tensors and
        `PackedTokens` by name; seeded by the plan.
    columns
        Further values of the cells by name, each of shape (cells,) or (cells, values).
    """

    def __init__(
        self,
        rows: TokenRows,
        view: Callable[[BatchPlan, np.ndarray, np.ndarray], dict[str, Any]],
        columns: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.rows, self.view, self.columns = rows, view, dict(columns or {})

    def __getitem__(self, plan: BatchPlan) -> dict[str, Any]:
        """Return the views and the columns of a minibatch."""
        views = self.view(plan, *self.rows.gather(plan.cells, plan.epoch))
        for name, values in self.columns.items():
            views[name] = torch.as_tensor(values[plan.cells])
        return views


def token_loader(
    dataset: TokenDataset, sampler: TokenBatchSampler, n_workers: int = 0
) -> DataLoader[dict[str, Any]]:
    """Return a loader of whole minibatches."""
    return DataLoader(
        dataset,
        sampler=sampler,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
    )
