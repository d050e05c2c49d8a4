"""Directions in which cells of a kind differ between batches."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.training import batch_directions

WIDTH = 6


def cells(shifts: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two kinds of cells far apart; batches differ in their kinds, and by shifts of one axis each."""
    rng = np.random.default_rng(seed)
    latent, batch, kind = [], [], []
    for b, shift in enumerate(shifts):
        n = (300, 60) if b % 2 else (60, 300)  # the batch says much of the kind
        for k in range(2):
            part = 0.1 * rng.normal(size=(n[k], WIDTH))
            part[:, 0] += 3.0 * k
            part[:, 1 + b] += shift
            latent.append(part)
            batch += [b] * n[k]
            kind += [k] * n[k]
    return np.concatenate(latent).astype(np.float32), np.array(batch), np.array(kind)


def test_finds_the_shift_of_a_batch_and_not_the_difference_of_the_kinds():
    latent, batch, kind = cells([0.0, 0.4])
    found = batch_directions(latent, batch)
    assert found.shape == (1, WIDTH)
    assert abs(found[0, 2]) > 0.99
    left = latent - (latent @ found.T) @ found
    for k in range(2):
        means = [left[(batch == b) & (kind == k)].mean(0) for b in range(2)]
        assert np.abs(means[0] - means[1]).max() < 0.05
    assert left[kind == 1, 0].mean() - left[kind == 0, 0].mean() > 2.9


def test_as_many_directions_as_batches_differ_in():
    latent, batch, _ = cells([0.5, 0.5, 0.5])
    found = batch_directions(latent, batch)
    assert found.shape == (2, WIDTH)
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-5)
    # the plane of differences of the axes 1, 2 and 3
    plane = np.array([[0, 1, -1, 0, 0, 0], [0, 1, 1, -2, 0, 0]]) / np.sqrt([[2.0], [6.0]])
    np.testing.assert_allclose(np.linalg.norm(plane @ found.T, axis=1), 1.0, atol=0.02)


@pytest.mark.parametrize("apart", [True, False])
def test_none_where_no_cluster_holds_two_batches(apart):
    latent, batch, kind = cells([0.0, 0.4])
    if apart:  # each kind in a batch of its own
        batch = kind
    else:
        batch = np.zeros_like(batch)
        batch[:9] = 1  # too few cells
    assert batch_directions(latent, batch).shape == (0, WIDTH)


def test_same_seed_same_directions():
    latent, batch, _ = cells([0.0, 0.4])
    np.testing.assert_array_equal(batch_directions(latent, batch), batch_directions(latent, batch))
