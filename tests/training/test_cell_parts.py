"""Parts of the cells, at random or in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.training import at_most, cell_blocks


def test_all_cells_or_a_sorted_part_of_them():
    cells = np.arange(100, 200)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(at_most(cells, 100, rng), cells)
    part = at_most(cells, 30, rng)
    assert len(part) == len(np.unique(part)) == 30
    assert (np.diff(part) > 0).all()
    assert np.isin(part, cells).all()


@pytest.mark.parametrize("n_cells", [0, 5, 1_024, 2_500])
def test_blocks_hold_each_cell_once_in_order(n_cells):
    blocks = list(cell_blocks(n_cells))
    assert all(0 < len(block) <= 1_024 for block in blocks)
    np.testing.assert_array_equal(np.concatenate([*blocks, []]), np.arange(n_cells))
