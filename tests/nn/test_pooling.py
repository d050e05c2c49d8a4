"""Pooling of packed tokens."""

from __future__ import annotations

import pytest
import torch

from atacvi.nn import AttentionPooling, PackedTokens, pool_mean

TOKENS = PackedTokens.from_cells([[0, 1, 2], [], [3], [4, 5]])


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(6, 4)


def by_hand(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    cells = []
    for start, end in zip(TOKENS.offsets[:-1], TOKENS.offsets[1:], strict=True):
        w = weights[start:end, None]
        cells.append((w * hidden[start:end]).sum(0) / w.sum() if end > start else torch.zeros(4))
    return torch.stack(cells)


def test_mean(hidden):
    torch.testing.assert_close(pool_mean(hidden, TOKENS), by_hand(hidden, torch.ones(6)))


def test_weighted_mean(hidden):
    weights = torch.rand(6) + 0.1
    torch.testing.assert_close(pool_mean(hidden, TOKENS, weights), by_hand(hidden, weights))


def test_weights_of_zero_give_the_plain_mean(hidden):
    pooled = pool_mean(hidden, TOKENS, torch.zeros(6))
    torch.testing.assert_close(pooled, pool_mean(hidden, TOKENS))


def test_half_precision_is_summed_in_single():
    tokens = PackedTokens(torch.arange(4096), torch.tensor([0, 4096]))
    pooled = pool_mean(torch.full((4096, 2), 1.0, dtype=torch.bfloat16), tokens)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.ones(1, 2))


def test_attention_starts_as_the_mean(hidden):
    torch.testing.assert_close(AttentionPooling(4)(hidden, TOKENS), pool_mean(hidden, TOKENS))


def test_attention_is_a_softmax_within_each_cell(hidden):
    pooling = AttentionPooling(4)
    torch.nn.init.normal_(pooling.query, std=3.0)
    scores = hidden @ pooling.query.detach() / 2
    cells = [scores[a:b].softmax(0) for a, b in [(0, 3), (3, 4), (4, 6)]]
    torch.testing.assert_close(pooling(hidden, TOKENS), by_hand(hidden, torch.cat(cells)))


def test_attention_learns():
    pooling, hidden = AttentionPooling(4), torch.randn(6, 4)
    pooling(hidden, TOKENS)[0].sum().backward()
    assert pooling.query.grad.abs().sum() > 0


def test_large_scores_stay_finite():
    pooling, hidden = AttentionPooling(4), 1e3 * torch.randn(6, 4)
    torch.nn.init.constant_(pooling.query, 100.0)
    assert pooling(hidden, TOKENS).isfinite().all()
