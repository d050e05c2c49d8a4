"""Parts of the cells: some at random where all would take too long, or all in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_CELLS_A_BLOCK = 1_024


def at_most(cells: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return all cells as they are, or so many of them at random, rising."""
    return cells if len(cells) <= n else np.sort(rng.choice(cells, n, replace=False))


def cell_blocks(n_cells: int) -> Iterator[np.ndarray]:
    """Yield rows in blocks: a copy of all counts would be the largest thing in memory."""
    for low in range(0, n_cells, _CELLS_A_BLOCK):
        yield np.arange(low, min(low + _CELLS_A_BLOCK, n_cells))
