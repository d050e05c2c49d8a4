"""Numbers of cells that keep time and memory bounded."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.models._probe import cells_at_once, probe_cells


@pytest.mark.parametrize(("n_peaks", "expected"), [(1_000, 2_000), (100_000, 500), (10**6, 250)])
def test_more_peaks_fewer_cells(n_peaks, expected):
    cells = np.arange(5_000)
    assert len(probe_cells(cells, n_peaks, np.random.default_rng(0))) == expected


@pytest.mark.parametrize(("n_peaks", "expected"), [(150, 512), (100_000, 40), (10**7, 16)])
def test_minibatches_shrink_with_the_peaks(n_peaks, expected):
    assert cells_at_once(n_peaks) == expected
