"""Mixing of real and generated cells: against scib-metrics, chance and separation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from atacvi.metrics import ilisi, real_fake_auc


@pytest.fixture
def halves(rng):
    cells = rng.normal(size=(400, 5))
    return cells[:200], cells[200:]


@pytest.mark.parametrize(
    ("n_neighbors", "shift", "expected"),
    [(90, 0.0, 0.895503), (90, 1.0, 0.274385), (30, 0.0, 0.741185), (10, 0.5, 0.235797)],
)
def test_ilisi_has_the_values_of_scib_metrics(halves, n_neighbors, shift, expected):
    # Computed with scib-metrics 0.5.10 as in the next test
    found = ilisi(halves[0], halves[1] + shift, n_neighbors=n_neighbors)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_ilisi_is_that_of_scib_metrics(halves):
    import scib_metrics as scib
    from scib_metrics import nearest_neighbors as nearest

    real, drawn = halves[0], halves[1] + 0.3
    cells = np.concatenate([real, drawn]).astype(np.float32)
    # There each cell is among its own neighbours.
    distances, indices = NearestNeighbors(n_neighbors=31).fit(cells).kneighbors(cells)
    neighbors = nearest.NeighborsResults(indices=indices, distances=distances)
    expected = scib.ilisi_knn(neighbors, np.repeat([0, 1], 200), perplexity=10)
    assert ilisi(real, drawn, n_neighbors=30) == pytest.approx(float(expected), abs=1e-4)


def test_ilisi_by_hand():
    # Equal distances and perplexity equal to the neighbours' number would give equal weights;
    # here each real cell sees its twin (weight near 1) and others far away.
    real = np.array([[0.0], [100.0], [200.0], [300.0]])
    assert ilisi(real, real + 1e-3, n_neighbors=2, perplexity=1.0001) == pytest.approx(0, abs=1e-2)
    # All cells in one place: 2 of 3 neighbours come from the other set, each with weight 1/3.
    place = np.zeros((3, 1))
    few = ilisi(place, np.zeros((3, 1)), n_neighbors=5, perplexity=4.9)
    assert few == pytest.approx(1 / (0.4**2 + 0.6**2) - 1, abs=1e-6)


def test_chance_bounds_ilisi_from_above(halves):
    assert ilisi(*halves) == pytest.approx(0.9, abs=0.04)
    assert ilisi(*halves, n_neighbors=10) == pytest.approx(0.4, abs=0.08)
    assert ilisi(halves[0], halves[1] + 20) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", ["random_forest", "knn"])
def test_classifiers_at_chance_and_apart(halves, method):
    assert real_fake_auc(*halves, method, n_trees=50) == pytest.approx(0.5, abs=0.08)
    assert real_fake_auc(halves[0], halves[1] + 5, method, n_trees=20) == pytest.approx(1, abs=1e-3)


def test_area_of_shifted_gaussians(rng):
    from scipy.stats import norm

    x, y = rng.normal(size=(1500, 1)), rng.normal(size=(1500, 1)) + 1.5
    # Of N(0, 1) against N(a, 1) no classifier has an area above Phi(a / sqrt 2).
    best = norm.cdf(1.5 / np.sqrt(2))
    assert real_fake_auc(x, y, n_trees=50) == pytest.approx(best, abs=0.03)
    assert real_fake_auc(x, y, "knn", n_neighbors=100) == pytest.approx(best, abs=0.03)


def test_copies_are_below_chance_for_neighbours(halves):
    copies = halves[0] + 1e-4
    assert real_fake_auc(halves[0], copies, "knn", n_neighbors=1) < 0.4


def test_the_seed_decides(halves):
    first = real_fake_auc(*halves, n_trees=20, max_cells=100, random_state=1)
    assert first == real_fake_auc(*halves, n_trees=20, max_cells=100, random_state=1)
    assert first != real_fake_auc(*halves, n_trees=20, max_cells=100, random_state=2)
    assert ilisi(*halves, max_cells=100, random_state=1) == ilisi(
        *halves, max_cells=100, random_state=1
    )


def test_what_does_not_fit_is_refused(halves):
    with pytest.raises(ValueError, match="'random_forest' and 'knn'"):
        real_fake_auc(*halves, "svm")
    with pytest.raises(ValueError, match="too few for 4 folds"):
        real_fake_auc(halves[0][:3], halves[1])
    with pytest.raises(ValueError, match="n_neighbors=90 was found; 80 cells"):
        ilisi(halves[0][:40], halves[1][:40])
    with pytest.raises(ValueError, match="perplexity=10"):
        ilisi(*halves, n_neighbors=10, perplexity=10)
