"""The map of open regions with which CRAFTModule starts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from atacvi.nn import RegionComponents
from atacvi.training import fit_region_map, region_weights, start_region_components
from atacvi.training._leading import leading_directions


@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (30, 30)])
@pytest.mark.parametrize("n_found", [5, 25])
def test_directions_are_singular_vectors_even_where_the_spectrum_is_flat(rng, shape, n_found):
    matrix = sp.csr_matrix(rng.normal(size=shape))
    found = leading_directions(matrix, n_found)
    expected = np.linalg.svd(matrix.toarray())[2][:n_found].T
    overlap = np.linalg.svd(found.T @ expected)[1]
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    np.testing.assert_allclose(found.T @ found, np.eye(n_found), atol=1e-3)


def test_directions_of_a_matrix_of_low_rank_end_in_zeros(rng):
    matrix = sp.csr_matrix(np.outer(rng.normal(size=20), rng.normal(size=30)))
    found = leading_directions(matrix, 4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), [1, 0, 0, 0], atol=1e-5)


def test_weights_of_regions():
    tokens = sp.csr_matrix([[1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(region_weights(tokens, "idf"), [0, np.log(4), 0, np.log(2)])
    np.testing.assert_allclose(
        region_weights(tokens, "root_idf"), np.sqrt([0, np.log(4), 0, np.log(2)])
    )
    deviation = region_weights(tokens, "deviation")
    np.testing.assert_allclose(deviation[[1, 2, 3]], [1 / np.sqrt(3 / 16), 0, 2])
    assert np.isfinite(deviation).all()


def pairs(rng, n_cells, n_regions=300):
    """Regions that open with a state, and an embedding of the RNA that knows the state."""
    state = rng.normal(size=n_cells)
    slope = rng.normal(size=n_regions)
    rate = 1 / (1 + np.exp(3 - np.outer(state, slope)))
    tokens = sp.csr_matrix(rng.random((n_cells, n_regions)) < rate)
    rna = np.column_stack([state + 0.3 * rng.normal(size=n_cells), rng.normal(size=n_cells)])
    return tokens, rna


def test_the_start_follows_what_both_modalities_share(rng):
    tokens, rna = pairs(rng, 400)
    encoder = RegionComponents(305, 16).eval()
    start_region_components(encoder, tokens[:300], rna[:300], (tokens[300:], rna[300:]))
    counts = torch.as_tensor(np.diff(tokens.indptr)).cumsum(0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts])
    found = encoder(torch.as_tensor(tokens.indices, dtype=torch.long), offsets).detach().numpy()
    np.testing.assert_allclose(found[:300].mean(axis=0), 0, atol=1e-4)
    best = max(abs(np.corrcoef(found[300:, j], rna[300:, 0])[0, 1]) for j in range(4))
    assert best > 0.8
    used = int((found.std(axis=0) > 0).sum())
    assert used in (4, 8, 16)


def test_few_held_out_cells_choose_nothing(rng):
    tokens, rna = pairs(rng, 120)
    encoder = RegionComponents(300, 16).eval()
    start_region_components(encoder, tokens[:100], rna[:100], (tokens[100:], rna[100:]))
    expected = fit_region_map(tokens[:100], 16, "idf")
    np.testing.assert_allclose(encoder.weights, expected.weights, rtol=1e-6)
    np.testing.assert_allclose(encoder.table, expected.table, atol=1e-6)


def test_cells_without_regions_give_a_map_of_nothing():
    encoder = RegionComponents(10, 4).eval()
    empty = sp.csr_matrix((5, 10), dtype=bool)
    start_region_components(encoder, empty, np.ones((5, 2)), (empty[:0], np.ones((0, 2))))
    found = encoder(torch.zeros(0, dtype=torch.long), torch.zeros(3, dtype=torch.long))
    assert torch.equal(found.detach(), torch.zeros(2, 4))
