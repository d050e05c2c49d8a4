"""The spectral map as a layer gives what the preprocessing step gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from atacvi.likelihoods import SparseTarget
from atacvi.nn import SpectralMap
from atacvi.pp import fit_spectral, map_spectral


@pytest.fixture(scope="module")
def counts() -> sp.csr_matrix:
    rng = np.random.default_rng(0)
    rates = np.full((3, 200), 0.05)
    for k in range(3):
        rates[k, 50 * k : 50 * (k + 1)] = 0.4
    return sp.csr_matrix(rng.poisson(rates[np.arange(90) % 3]).astype(np.float32))


def target(matrix: sp.csr_matrix) -> SparseTarget:
    return SparseTarget.from_tensor(torch.as_tensor(matrix.toarray()))


def layer(fit, n_components: int) -> SpectralMap:
    mapped = SpectralMap(fit.table.shape[0], n_components)
    mapped.set_map(*parts(fit))
    return mapped


def parts(fit) -> list[torch.Tensor]:
    values = (fit.table, fit.degree_weights, fit.idf, fit.scale, 0.5 * fit.scale)
    return [torch.as_tensor(value) for value in values]


def test_layer_is_the_map_of_the_preprocessing(counts):
    fit = fit_spectral(counts[:60], 5)
    mapped = layer(fit, 5)
    found = mapped(target(counts)).numpy()
    np.testing.assert_allclose(found, map_spectral(counts, fit), rtol=1e-4, atol=1e-5)
    components = mapped.components(target(counts)).numpy()
    expected = map_spectral(counts, fit, scaled=False)
    np.testing.assert_allclose(components, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mapped.input_scale, 0.5 * fit.scale)


def test_counts_do_not_matter_only_what_is_open(counts):
    mapped = layer(fit_spectral(counts, 3), 3)
    opened = counts.copy()
    opened.data[:] = 1
    torch.testing.assert_close(mapped(target(counts)), mapped(target(opened)))


def test_components_beyond_the_map_are_zero(counts):
    fit = fit_spectral(counts, 3)
    wide, plain = layer(fit, 6)(target(counts)), layer(fit, 3)(target(counts))
    assert (wide[:, 3:] == 0).all()
    torch.testing.assert_close(wide[:, :3], plain)


def test_an_empty_cell_and_an_unset_map_give_zero(counts):
    assert (SpectralMap(200, 3)(target(counts)) == 0).all()
    empty = sp.csr_matrix((2, 200), dtype=np.float32)
    found = layer(fit_spectral(counts, 3), 3)(target(empty))
    assert torch.equal(found, torch.zeros(2, 3))


def test_nothing_is_learnt_but_all_is_saved(counts):
    fit = fit_spectral(counts, 3)
    mapped = layer(fit, 3)
    assert not list(mapped.parameters())
    other = SpectralMap(200, 3)
    other.load_state_dict(mapped.state_dict())
    assert torch.equal(other(target(counts)), mapped(target(counts)))


def test_setting_again_forgets_the_first_map(counts):
    mapped = layer(fit_spectral(counts, 5), 5)
    second = fit_spectral(counts[:50], 2)
    mapped.set_map(*parts(second))
    assert (mapped.table[:, 2:] == 0).all()
    assert (mapped.scale[2:] == 0).all()
