"""Weights of the latent when cells are compared, and their choice by held-out counts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.training import EmbeddedCells, choose_weights, noise_units

# Of directions, by three of which the cells differ
_NOISE = np.array([0.2, 1.0, 3.0, 0.5])


def parts_of(cells: np.ndarray, rng, n_parts: int = 8) -> np.ndarray:
    return cells + _NOISE * rng.normal(size=(n_parts, *cells.shape))


def test_noise_is_as_wide_in_all_directions(rng):
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    parts = parts_of(rng.normal(size=(2000, 4)) * 5.0, rng) @ turn
    weights = noise_units(parts)
    noise = ((parts - parts.mean(0)) @ weights).reshape(-1, 4)
    widths = np.linalg.eigvalsh(np.cov(noise.T))
    np.testing.assert_allclose(widths / widths.mean(), 1.0, atol=1e-3)


def test_noise_units_are_symmetric_and_of_unit_mean_square(rng):
    weights = noise_units(parts_of(rng.normal(size=(300, 4)), rng))
    np.testing.assert_allclose(weights, weights.T, atol=1e-6)
    assert (weights**2).sum() == pytest.approx(4.0, rel=1e-5)


def test_noise_units_do_not_depend_on_where_the_cells_lie(rng):
    noise = parts_of(np.zeros((300, 4)), rng)
    apart = noise + 50.0 * rng.normal(size=(300, 4))
    np.testing.assert_allclose(noise_units(apart), noise_units(noise), atol=1e-4)


def test_a_direction_without_noise_and_cells_is_not_blown_up(rng):
    parts = parts_of(rng.normal(size=(300, 4)) * 5.0, rng)
    parts[..., 0] = 2.0  # what an encoder makes of a direction that it does not use
    weighted = parts @ noise_units(parts)
    assert np.ptp(weighted[..., 0]) < 1e-3
    assert np.linalg.norm(noise_units(parts), 2) < 3.0


@pytest.mark.parametrize(
    "parts", [np.ones((3, 5, 2)), np.ones((1, 5, 2))], ids=["none", "one part"]
)
def test_without_noise_the_latent_is_left_alone(parts):
    np.testing.assert_array_equal(noise_units(parts), np.eye(2))


def cells_of(group, latent, rng, n_features=60) -> EmbeddedCells:
    """Features by group; nothing else of the latent is seen in them."""
    own = np.arange(n_features) % (group.max() + 1) == group[:, None]
    tokens = {
        name: sp.csr_matrix(rng.random(own.shape) < np.where(own, high, 0.05))
        for name, high in (("rna", 0.5), ("atac", 0.2))
    }
    return EmbeddedCells(latent, tokens)


def planted(kind: str, rng, n_cells: int) -> EmbeddedCells:
    if kind == "one wide direction":  # it alone separates; seven others hold as much noise each
        group = rng.integers(0, 3, n_cells)
        latent = rng.normal(size=(n_cells, 8))
        latent[:, 0] = 2.0 * (group - 1) + 0.5 * latent[:, 0]
    elif kind == "many narrow directions":  # two wide ones are noise
        group = rng.integers(0, 6, n_cells)
        latent = 0.15 * rng.normal(size=(n_cells, 8)) + 0.6 * np.eye(6, 8)[group]
        latent[:, 6:] = 3.0 * rng.normal(size=(n_cells, 2))
    else:
        group, latent = rng.integers(0, 3, n_cells), rng.normal(size=(n_cells, 8))
    return cells_of(group, latent, rng)


@pytest.mark.parametrize(
    ("kind", "sign"), [("one wide direction", 1), ("many narrow directions", -1), ("noise", 0)]
)
def test_what_neighbours_know_of_held_out_counts_decides(kind, sign):
    rng = np.random.default_rng(0)
    reference = planted(kind, rng, 1500)
    held_out = planted(kind, rng, 300)
    chosen = choose_weights(reference, [held_out, held_out])
    assert (chosen.units, np.sign(chosen.exponent)) == ("latent", sign)


def test_noise_wider_than_what_tells_cells_apart_is_weighed_down(rng):
    """No power of the spread can: the wide direction and a narrow one both tell cells apart."""
    n_cells, n_held_out = 1500, 300
    group = rng.integers(0, 9, n_cells)
    places = np.column_stack([3.0 * (group % 3), 0.9 * (group // 3), np.zeros((n_cells, 2))])
    noise = np.array([0.3, 0.1, 1.0, 1.0])
    cells = cells_of(group, places + noise * rng.normal(size=places.shape), rng)
    of_others = {name: tokens[:n_held_out] for name, tokens in cells.tokens.items()}
    parts = places[:n_held_out] + noise * rng.normal(size=(4, n_held_out, 4))
    held_out = [EmbeddedCells(part, of_others) for part in parts]
    others = {name: tokens[n_held_out:] for name, tokens in cells.tokens.items()}
    reference = EmbeddedCells(cells.latent[n_held_out:], others)
    chosen = choose_weights(reference, held_out)
    assert (chosen.units, chosen.exponent) == ("noise", 0.0)
    np.testing.assert_array_equal(chosen.matrix, noise_units(parts))


def test_one_held_out_cell_decides_nothing(rng):
    reference, held_out = planted("one wide direction", rng, 300), planted("noise", rng, 1)
    chosen = choose_weights(reference, [held_out])
    assert (chosen.units, chosen.exponent) == ("latent", 0.0)
    np.testing.assert_array_equal(chosen.matrix, np.eye(8))
