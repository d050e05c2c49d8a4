"""Decoders: fractions, tied embeddings, and a gate that is not dead."""

from __future__ import annotations

import pytest
import torch

from atacvi.nn import ClusterGatedTrunk, ExpressionHead, PeakHead

N_CELLS, N_LATENT, N_COV, N_HIDDEN, N_GENES, N_PEAKS, N_EMBED = 5, 3, 2, 8, 12, 30, 4


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    covariates = torch.nn.functional.one_hot(torch.arange(N_CELLS) % N_COV).float()
    return torch.randn(N_CELLS, N_LATENT), covariates, torch.randn(N_CELLS, N_HIDDEN).relu()


@pytest.mark.parametrize("linear", [True, False])
def test_fractions_sum_to_one(inputs, linear):
    head = ExpressionHead(N_LATENT, N_COV, N_HIDDEN, N_GENES, linear=linear)
    torch.testing.assert_close(head(*inputs).exp().sum(1), torch.ones(N_CELLS))


def test_logits_of_some_genes_are_a_part_of_all(inputs):
    head = ExpressionHead(N_LATENT, N_COV, N_HIDDEN, N_GENES)
    torch.nn.init.normal_(head.correction.weight)
    torch.nn.init.normal_(head.covariates.weight)
    part = head.logits(*inputs, slice(3, 7))
    torch.testing.assert_close(part, head.logits(*inputs)[:, 3:7])


def test_rates_of_some_peaks_are_a_part_of_all(inputs):
    head = PeakHead(N_LATENT, N_COV, N_HIDDEN, N_EMBED, N_PEAKS)
    vector, table = head.cell_vector(*inputs), torch.randn(N_PEAKS, N_EMBED)
    peaks = torch.tensor([20, 1, 7])
    torch.testing.assert_close(
        head.log_rates(vector, table, peaks), head.log_rates(vector, table)[:, peaks]
    )


def test_correction_starts_at_zero(inputs):
    z, covariates, trunk = inputs
    head = ExpressionHead(N_LATENT, N_COV, N_HIDDEN, N_GENES)
    torch.testing.assert_close(head(z, covariates, trunk), head(z, covariates, 0 * trunk))


def test_the_cluster_changes_the_hidden_layer(inputs):
    z, covariates, _ = inputs
    trunk = ClusterGatedTrunk(N_LATENT, N_COV, N_HIDDEN, n_clusters=4)
    one = torch.nn.functional.one_hot(torch.zeros(N_CELLS, dtype=torch.long), 4).float()
    uniform = torch.full((N_CELLS, 4), 0.25)
    assert not torch.allclose(trunk(z, covariates, one), trunk(z, covariates, uniform))


def test_without_covariates(inputs):
    z, _, _ = inputs
    trunk = ClusterGatedTrunk(N_LATENT, 0, N_HIDDEN, n_clusters=4)
    none = torch.zeros(N_CELLS, 0)
    out = trunk(z, none, torch.full((N_CELLS, 4), 0.25))
    assert ExpressionHead(N_LATENT, 0, N_HIDDEN, N_GENES)(z, none, out).shape == (N_CELLS, N_GENES)


@pytest.mark.parametrize("linear", [True, False])
def test_effects_of_z_alone_are_scaled(inputs, linear):
    """The offsets take what is given; those of covariates stay as they are."""
    z, covariates, trunk = inputs
    genes = ExpressionHead(N_LATENT, N_COV, N_HIDDEN, N_GENES, linear=linear)
    peaks = PeakHead(N_LATENT, N_COV, N_HIDDEN, N_EMBED, N_PEAKS, linear=linear)
    table = torch.randn(N_PEAKS, N_EMBED)
    for head in (genes, peaks):
        for layer in (head.correction, head.covariates):
            torch.nn.init.normal_(layer.weight)
    of_genes, of_peaks = genes.effects(z, trunk), peaks.effects(z, trunk)
    logits = genes.logits(*inputs)
    rates = peaks.log_rates(peaks.cell_vector(*inputs), table)
    shifts = torch.randn(N_GENES), torch.randn(N_PEAKS)
    genes.scale_effects(0.3, shifts[0])
    peaks.scale_effects(0.3, shifts[1])
    torch.testing.assert_close(genes.logits(*inputs), logits - 0.7 * of_genes + shifts[0])
    expected = rates - 0.7 * of_peaks @ table.T + shifts[1]
    torch.testing.assert_close(peaks.log_rates(peaks.cell_vector(*inputs), table), expected)
