"""The autoencoder of open peaks."""

from __future__ import annotations

import pytest
import torch

from atacvi.likelihoods import SparseTarget
from atacvi.nn import PeakAutoencoder, SpectralMap

N_PEAKS, N_LATENT, N_EMBED = 40, 6, 8


def make(**kwargs) -> PeakAutoencoder:
    torch.manual_seed(0)
    return PeakAutoencoder(N_PEAKS, N_LATENT, 16, N_EMBED, **kwargs).eval()


def cells(n: int = 5) -> SparseTarget:
    generator = torch.Generator().manual_seed(1)
    return SparseTarget.from_tensor(torch.poisson(torch.full((n, N_PEAKS), 0.3), generator))


def test_shapes_and_a_positive_variance():
    autoencoder = make(n_covariates=2)
    posterior = autoencoder.encode(cells())
    assert posterior.mean.shape == posterior.variance.shape == (5, N_LATENT)
    assert (posterior.variance > 0).all()
    assert autoencoder.decode(posterior.mean, torch.rand(5, 2)).shape[0] == 5


def spectral_map(n_components: int = 5) -> SpectralMap:
    torch.manual_seed(2)
    made = SpectralMap(N_PEAKS, n_components)
    weights, scale = torch.rand(2, N_PEAKS) + 0.5, torch.rand(2, n_components) + 0.5
    made.set_map(torch.randn(N_PEAKS, n_components), *weights, *scale)
    return made


def test_latents_start_at_the_spectral_components():
    components = spectral_map().components(cells())
    found = make(n_components=5).encode(cells(), spectral_map()).mean
    torch.testing.assert_close(found[:, :5], components)
    assert (found[:, 5:] == 0).all()
    sphere = make(n_components=5, unit_sphere=True).encode(cells(), spectral_map()).mean
    expected = torch.nn.functional.normalize(components, dim=-1)
    torch.testing.assert_close(sphere[:, :5], expected)


def test_log_rates_at_the_start_are_the_offsets_plus_the_linear_part():
    """The correction of the decoder starts at zero: log-rates are affine in the latent."""
    autoencoder = make()
    none = torch.zeros(3, 0)
    one, two = torch.randn(3, N_LATENT), torch.randn(3, N_LATENT)

    def rates(latent: torch.Tensor) -> torch.Tensor:
        return autoencoder.head.log_rates(autoencoder.decode(latent, none), autoencoder.table, None)

    middle = rates(0.5 * (one + two))
    torch.testing.assert_close(middle, 0.5 * (rates(one) + rates(two)), rtol=1e-4, atol=1e-5)


def test_extreme_cells_keep_the_variance_in_bounds():
    autoencoder = make()
    with torch.no_grad():
        autoencoder.log_variance.weight.fill_(1e4)
    variance = autoencoder.encode(cells()).variance
    assert torch.isfinite(variance).all()
    assert float(variance.min()) >= torch.tensor(-8.0).exp() * (1 - 1e-5)
    assert float(variance.max()) <= torch.tensor(4.0).exp() * (1 + 1e-5)


def test_latents_on_the_unit_sphere():
    posterior = make(unit_sphere=True).encode(cells())
    torch.testing.assert_close(posterior.mean.norm(dim=-1), torch.ones(5))
    assert float(posterior.variance.max()) < 1e-6


def test_a_cell_does_not_depend_on_the_others():
    autoencoder = make()
    dense = cells().to_dense()
    alone = autoencoder.encode(SparseTarget.from_tensor(dense[2:3])).mean
    torch.testing.assert_close(autoencoder.encode(cells()).mean[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit_sphere", [False, True])
def test_gradients_reach_the_shared_table_from_both_sides(unit_sphere):
    autoencoder = make(unit_sphere=unit_sphere)
    autoencoder.encode(cells()).mean.square().mul(torch.arange(N_LATENT)).sum().backward()
    from_encoder = autoencoder.table.grad.clone()
    autoencoder.zero_grad()
    vector = autoencoder.decode(torch.randn(5, N_LATENT), torch.zeros(5, 0))
    autoencoder.head.log_rates(vector, autoencoder.table, None).square().sum().backward()
    assert (from_encoder != 0).any()
    assert (autoencoder.table.grad != 0).any()
