"""How many held-out cells are decoded for a score, and how many at once."""

from __future__ import annotations

import numpy as np

from atacvi.training import at_most

# Entries, cells times peaks, that a score of held-out cells decodes.
_MAX_ENTRIES = 50_000_000
_MIN_CELLS, _MAX_CELLS = 250, 2_000
# Entries of a minibatch, where several matrices of that size are needed at once.
_ENTRIES_AT_ONCE = 4_000_000


def probe_cells(cells: np.ndarray, n_peaks: int, rng: np.random.Generator) -> np.ndarray:
    """Return as many of these cells as can be decoded in about the time of an epoch."""
    return at_most(cells, int(np.clip(_MAX_ENTRIES // n_peaks, _MIN_CELLS, _MAX_CELLS)), rng)


def cells_at_once(n_peaks: int) -> int:
    """Return the size of minibatches that keeps dense matrices of all peaks small."""
    return int(np.clip(_ENTRIES_AT_ONCE // n_peaks, 16, 512))
