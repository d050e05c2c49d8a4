"""Canonical directions and the contrast along them."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.training import best_logit_scale, canonical_directions, held_out_contrast


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pair(rng, n_cells, noise):
    shared = rng.normal(size=(n_cells, 3))
    one = np.hstack([shared, rng.normal(size=(n_cells, 2))])
    two = np.hstack([shared + noise * rng.normal(size=shared.shape), rng.normal(size=(n_cells, 3))])
    return one - one.mean(axis=0), two - two.mean(axis=0)


def test_dimensions_without_variance_get_no_weight(rng):
    one, two = pair(rng, 200, 0.5)
    padded = np.insert(two, [0, 4], 0.0, axis=1)
    found, plain = canonical_directions(one, padded), canonical_directions(one, two)
    np.testing.assert_allclose(found.correlation, plain.correlation)
    np.testing.assert_allclose(padded @ found.second, two @ plain.second)
    assert (found.second[[0, 5]] == 0).all()
    empty = canonical_directions(one, np.zeros((200, 2)))
    assert empty.correlation.shape == (0,)
    assert empty.first.shape == (5, 0)


def test_weights_are_roots_of_correlations_and_never_zero(rng):
    found = canonical_directions(*pair(rng, 200, 0.5))
    first, second = found.weighted(4)
    assert first.shape == second.shape == (5, 4) or second.shape == (6, 4)
    ratio = np.linalg.norm(first, axis=0) / np.linalg.norm(found.first[:, :4], axis=0)
    np.testing.assert_allclose(ratio, np.sqrt(np.maximum(found.correlation[:4], 0.02**2)))


def test_contrast_of_held_out_cells_orders_noise(rng):
    scores = []
    for noise in (0.1, 0.5, 2.0):
        one, two = pair(rng, 400, noise)
        found = canonical_directions(one[:300], two[:300])
        scores.append(held_out_contrast(found, one[300:], two[300:]))
    assert scores[0] < scores[1] < scores[2] < np.log(100)


@pytest.mark.parametrize("n_cells", [16, 256])
def test_contrast_of_random_vectors_is_the_logarithm_of_their_number(rng, n_cells):
    one, two = (unit(rng.normal(size=(n_cells, 4096))) for _ in range(2))
    assert best_logit_scale(one, two)[1] == pytest.approx(np.log(n_cells), rel=0.02)
    assert best_logit_scale(one, one)[1] < 1e-6
