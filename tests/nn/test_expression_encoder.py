"""Encoders of RNA: what the sparse sums stand for."""

from __future__ import annotations

import torch

from atacvi.likelihoods import SparseTarget
from atacvi.nn import EmbeddingEncoder, ExpressionEncoder


def build():
    encoder = ExpressionEncoder(6, 3, n_hidden=4).eval()
    encoder.set_statistics(50.0, torch.rand(6), torch.rand(6) + 0.5)
    return encoder


def test_sparse_sums_are_the_standardised_product():
    encoder = build()
    counts = torch.poisson(torch.full((5, 6), 0.7)) + torch.eye(6)[:5]
    logged = torch.log1p(counts * 50.0 / counts.sum(1, keepdim=True))
    expected = ((logged - encoder.mean) * encoder.inverse_deviation) @ encoder.table
    found = encoder(SparseTarget.from_tensor(counts))
    torch.testing.assert_close(found, expected)  # the network starts by adding nothing


def test_unknown_genes_are_at_their_mean():
    encoder = build()
    counts = torch.tensor([[3.0, 0.0, 1.0, 0.0, 0.0, 2.0]])
    known = torch.tensor([True, True, True, False, False, True])
    logged = torch.log1p(counts * 50.0 / counts.sum())
    standardised = (logged - encoder.mean) * encoder.inverse_deviation
    expected = (standardised * known) @ encoder.table
    torch.testing.assert_close(encoder(SparseTarget.from_tensor(counts), known), expected)


def test_a_given_embedding_is_standardised_as_a_whole():
    encoder = EmbeddingEncoder(3).eval()
    encoder.set_statistics(torch.tensor([1.0, 2.0, 3.0]), 2.0)
    torch.testing.assert_close(
        encoder(torch.tensor([[3.0, 2.0, 1.0]])), torch.tensor([[1.0, 0, -1]])
    )
