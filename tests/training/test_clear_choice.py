"""The choice among candidates that held-out cells score."""

from __future__ import annotations

import numpy as np

from atacvi.training import clearly_best


def test_the_best_mean_is_taken_where_it_is_clear(rng):
    noise = 0.1 * rng.normal(size=(4, 200))
    assert clearly_best(noise + np.array([0.0, 1.0, 3.0, 2.0])[:, None]) == 2


def test_the_first_stays_where_nothing_is_better_or_one_cell_speaks():
    equal = np.ones((3, 50))
    assert clearly_best(equal) == 0
    assert clearly_best(equal - np.array([0.0, 1.0, 2.0])[:, None]) == 0
    assert clearly_best([[0.0], [5.0]]) == 0


def test_a_gain_within_a_standard_error_is_not_clear():
    gain = np.array([1.0, -1.0] * 50) + 0.05
    assert clearly_best([np.zeros(100), gain]) == 0
    assert clearly_best([np.zeros(100), gain + 0.1]) == 1
