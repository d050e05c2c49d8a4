"""The auxiliary encoder and decoder of the semantic latent."""

from __future__ import annotations

import pytest
import torch

from atacvi.likelihoods import SparseTarget
from atacvi.nn import AuxiliaryDecoder, AuxiliaryEncoder

N_PEAKS, N_LATENT = 40, 4


def cells(n: int = 6) -> SparseTarget:
    generator = torch.Generator().manual_seed(1)
    return SparseTarget.from_tensor(torch.poisson(torch.full((n, N_PEAKS), 0.3), generator))


def encoder(n_components: int = 6, **kwargs) -> AuxiliaryEncoder:
    torch.manual_seed(0)
    made = AuxiliaryEncoder(N_PEAKS, N_LATENT, 16, 8, n_components, **kwargs).eval()
    if made.spectral is not None:
        table = torch.randn(N_PEAKS, n_components)
        weights, scale = torch.rand(2, N_PEAKS) + 0.5, torch.rand(2, n_components) + 0.5
        made.spectral.set_map(table, *weights, *scale)
    return made


@pytest.mark.parametrize("n_components", [2, N_LATENT, 6])
def test_starts_at_the_leading_components_of_the_map(n_components):
    made = encoder(n_components)
    found, expected = made(cells()).mean, made.spectral(cells())
    n = min(n_components, N_LATENT)
    torch.testing.assert_close(found[:, :n], expected[:, :n])
    assert (found[:, n:] == 0).all()


def test_network_adds_to_the_map_once_it_has_learnt():
    made = encoder()
    before, embedding = made(cells()).mean, made.spectral(cells())
    step = torch.optim.SGD(made.parameters(), lr=0.1)
    made(cells()).mean.square().sum().backward()
    step.step()
    assert not torch.allclose(made(cells()).mean, before)
    torch.testing.assert_close(made.spectral(cells()), embedding)


def test_without_a_map_it_is_a_plain_encoder():
    made = encoder(0)
    assert made.spectral is None
    assert not any("spectral" in name for name in made.state_dict())
    assert made(cells()).mean.std() > 0


@pytest.mark.parametrize("n_components", [0, 6])
def test_another_view_of_the_cell_enters(n_components):
    made = encoder(n_components, n_condition=3)
    torch.nn.init.normal_(made.mean.weight)
    view = torch.randn(6, 3)
    one, two = made(cells(), view).mean, made(cells(), view + 1).mean
    assert not torch.allclose(one, two)
    assert not torch.allclose(one, made(cells()).mean)


def test_variances_stay_in_bounds():
    made = encoder()
    with torch.no_grad():
        made.log_variance.weight.fill_(1e4)
    variance = made(cells()).variance
    assert torch.isfinite(variance).all()
    assert 0 < float(variance.min()) <= float(variance.max()) <= 7.4


def test_decoder_is_affine_with_the_rank_of_the_latent():
    torch.manual_seed(0)
    decoder = AuxiliaryDecoder(N_PEAKS, N_LATENT)
    z = torch.randn(100, N_LATENT, dtype=torch.float64)
    rates = (
        decoder.offset + decoder.cell_vector(z, torch.zeros(100, 0)) @ decoder.loadings.T.double()
    )
    centred = rates - rates.mean(0)
    assert torch.linalg.matrix_rank(centred) == N_LATENT


def test_decoder_ignores_covariates_until_it_has_learnt_them():
    decoder = AuxiliaryDecoder(N_PEAKS, N_LATENT, n_covariates=2)
    z, covariates = torch.randn(5, N_LATENT), torch.rand(5, 2)
    torch.testing.assert_close(decoder.cell_vector(z, covariates), z)
    torch.nn.init.normal_(decoder.covariates.weight)
    assert not torch.allclose(decoder.cell_vector(z, covariates), z)
