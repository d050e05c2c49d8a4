"""Fidelity, coverage and copying against brute force and constructed cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.metrics import nearest_train_ratio, prdc


def _brute_force(real, drawn, k):
    def radius(cells, i):
        return sorted(np.linalg.norm(cells[i] - cells[j]) for j in range(len(cells)) if j != i)[
            k - 1
        ]

    real_radius = [radius(real, i) for i in range(len(real))]
    drawn_radius = [radius(drawn, j) for j in range(len(drawn))]
    distance = [[np.linalg.norm(a - b) for b in drawn] for a in real]
    pairs = [(i, j) for i in range(len(real)) for j in range(len(drawn))]
    inside = {(i, j) for i, j in pairs if distance[i][j] < real_radius[i]}
    reached = {i for i, j in pairs if distance[i][j] < drawn_radius[j]}
    return (
        len({j for _, j in inside}) / len(drawn),
        len(reached) / len(real),
        len(inside) / (k * len(drawn)),
        len({i for i, _ in inside}) / len(real),
    )


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(7, 20), st.integers(7, 20))
def test_matches_brute_force(seed, k, n_real, n_drawn):
    rng = np.random.default_rng(seed)
    # float32 coordinates, as the metrics read them
    real = rng.normal(size=(n_real, 2)).astype(np.float32).astype(float)
    drawn = rng.normal(size=(n_drawn, 2), loc=0.7).astype(np.float32).astype(float)
    found = prdc(real, drawn, n_neighbors=k)
    assert found == pytest.approx(_brute_force(real, drawn, k), abs=1e-12)


def test_known_extremes(rng):
    real = rng.normal(size=(300, 3))
    same = prdc(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert prdc(real, real + 100) == (0, 0, 0, 0)
    # One mode dropped: what is drawn is real, half of the real is not drawn.
    two = np.concatenate([real, real + 50])
    dropped = prdc(two, rng.normal(size=(600, 3)))
    assert dropped.precision > 0.9
    assert dropped.coverage == pytest.approx(0.5, abs=0.02)


def test_expected_values_of_equal_distributions(rng):
    found = prdc(rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2)))
    assert found.density == pytest.approx(1, abs=0.1)
    # Naeem et al. (2020), Lemma 2: 1 - (M-1)...(M-k) / ((2M-1)...(2M-k))
    miss = np.prod([(1000 - i) / (2000 - i) for i in range(1, 6)])
    assert found.coverage == pytest.approx(1 - miss, abs=0.03)


def test_copies_and_new_cells_are_told_apart(rng):
    train, test, fresh = (rng.normal(size=(n, 3)) for n in (400, 200, 200))
    assert nearest_train_ratio(fresh, test, train) == pytest.approx(1, abs=0.15)
    assert nearest_train_ratio(train[:50], test, train) == pytest.approx(0, abs=1e-6)
    assert nearest_train_ratio(train[:200] + 1e-3, test, train) < 0.02
    assert nearest_train_ratio(fresh + 10, test, train) > 10


def test_ratio_by_hand():
    train = np.arange(0, 100, 10.0)[:, None]
    drawn = train[:3] + np.array([[1.0], [2.0], [3.0]])
    held_out = train[:3] + np.array([[3.0], [4.0], [5.0]])
    assert nearest_train_ratio(drawn, held_out, train) == pytest.approx(0.5)


def test_what_does_not_fit_is_refused(rng):
    cells = rng.normal(size=(20, 2))
    with pytest.raises(ValueError, match="sets of 4 cells allow"):
        prdc(cells, cells[:4])
    with pytest.raises(ValueError, match="coincide with cells of `train`"):
        nearest_train_ratio(cells, cells[:10], cells)
