"""Fusion of two modalities, also when one is missing."""

from __future__ import annotations

import pytest
import torch

from atacvi.nn import ConcatFusion, ExpertFusion

N_CELLS, N_HIDDEN, N_LATENT = 6, 8, 3
YES, NO = torch.ones(N_CELLS, 1, dtype=torch.bool), torch.zeros(N_CELLS, 1, dtype=torch.bool)


@pytest.fixture
def hidden() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(N_CELLS, N_HIDDEN), torch.randn(N_CELLS, N_HIDDEN)


@pytest.mark.parametrize("fusion", [ExpertFusion, ConcatFusion])
def test_a_missing_modality_is_not_read(fusion, hidden):
    rna, atac = hidden
    layer = fusion(N_HIDDEN, N_LATENT)
    one, two = layer(rna, atac, YES, NO), layer(rna, atac + 5, YES, NO)
    torch.testing.assert_close(one.mean, two.mean)
    torch.testing.assert_close(one.variance, two.variance)
    assert (one.variance > 0).all()


@pytest.mark.parametrize("fusion", [ExpertFusion, ConcatFusion])
def test_without_any_modality_it_is_the_prior(fusion, hidden):
    posterior = fusion(N_HIDDEN, N_LATENT)(*hidden, NO, NO)
    torch.testing.assert_close(posterior.mean, torch.zeros(N_CELLS, N_LATENT))
    torch.testing.assert_close(posterior.variance, torch.ones(N_CELLS, N_LATENT))


def test_product_of_experts(hidden):
    """Precisions add, means are weighted by precision."""
    layer = ExpertFusion(N_HIDDEN, N_LATENT)
    joint = layer(*hidden, YES, YES)
    rna, atac = layer(*hidden, YES, NO), layer(*hidden, NO, YES)
    precision = 1 / rna.variance + 1 / atac.variance - 1  # each holds the prior once
    torch.testing.assert_close(1 / joint.variance, precision)
    weighted = rna.mean / rna.variance + atac.mean / atac.variance
    torch.testing.assert_close(joint.mean, weighted / precision)


def test_a_closed_gate_leaves_the_bias(hidden):
    layer = ConcatFusion(N_HIDDEN, N_LATENT)
    posterior = layer(torch.zeros_like(hidden[0]), hidden[1], YES, NO)
    torch.testing.assert_close(posterior.mean, layer.rna.mean.bias.expand(N_CELLS, -1))


def test_masks_are_per_cell(hidden):
    layer = ConcatFusion(N_HIDDEN, N_LATENT)
    mixed = torch.arange(N_CELLS).view(-1, 1) % 2 == 0
    out, both, rna = layer(*hidden, YES, mixed), layer(*hidden, YES, YES), layer(*hidden, YES, NO)
    torch.testing.assert_close(out.mean, torch.where(mixed, both.mean, rna.mean))
