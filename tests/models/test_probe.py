"""Parts of the cells, and minibatches, that keep time and memory bounded."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.models._probe import at_most, cells_at_once, probe_cells


def test_all_cells_or_a_sorted_part_of_them():
    cells = np.arange(100, 200)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(at_most(cells, 100, rng), cells)
    part = at_most(cells, 30, rng)
    assert len(part) == len(np.unique(part)) == 30
    assert (np.diff(part) > 0).all()
    assert np.isin(part, cells).all()


@pytest.mark.parametrize(("n_peaks", "expected"), [(1_000, 2_000), (100_000, 500), (10**6, 250)])
def test_more_peaks_fewer_cells(n_peaks, expected):
    cells = np.arange(5_000)
    assert len(probe_cells(cells, n_peaks, np.random.default_rng(0))) == expected


@pytest.mark.parametrize(("n_peaks", "expected"), [(150, 512), (100_000, 40), (10**7, 16)])
def test_minibatches_shrink_with_the_peaks(n_peaks, expected):
    assert cells_at_once(n_peaks) == expected
