"""Attention over genome blocks and over hidden features."""

from __future__ import annotations

import pytest
import torch

from atacvi.nn import FeatureSelfAttention, TokenSelfAttention


def test_tokens_start_as_the_identity():
    tokens = torch.randn(3, 5, 16)
    torch.testing.assert_close(TokenSelfAttention(16, 4)(tokens), tokens)


def test_token_weights_are_those_of_the_layer():
    """The weights that are shown are the ones that the fused kernel applies."""
    layer = TokenSelfAttention(8, 2).eval()
    torch.nn.init.eye_(layer.output.weight)
    tokens = torch.randn(2, 6, 8)
    weights = layer.weights(tokens)
    assert weights.shape == (2, 2, 6, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 6))
    value = layer._heads(tokens)[2]
    attended = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(tokens), tokens + attended, rtol=1e-4, atol=1e-5)


def test_tokens_are_equivariant():
    layer = TokenSelfAttention(8, 2).eval()
    torch.nn.init.normal_(layer.output.weight)
    tokens, order = torch.randn(2, 6, 8), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(layer(tokens)[:, order], layer(tokens[:, order]))


@pytest.mark.parametrize("zeroed", ["query", "key"])
def test_feature_attention_without_scores_is_the_mean_of_each_head(zeroed):
    layer = FeatureSelfAttention(128, 8).eval()
    for parameter in getattr(layer, zeroed).parameters():
        torch.nn.init.zeros_(parameter)
    hidden = torch.randn(4, 128)
    value = layer.value(hidden).view(4, 8, 16)
    expected = value.mean(-1, keepdim=True).expand(-1, -1, 16).flatten(1)
    torch.testing.assert_close(layer(hidden), expected)


def test_feature_attention_stays_within_the_values_of_its_head():
    layer = FeatureSelfAttention(128, 8).eval()
    hidden = 5 * torch.randn(4, 128)
    weights = layer.weights(hidden)
    assert weights.shape == (4, 8, 16, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 8, 16))
    value, out = layer.value(hidden).view(4, 8, 16), layer(hidden).view(4, 8, 16)
    assert (out <= value.amax(-1, keepdim=True) + 1e-5).all()
    assert (out >= value.amin(-1, keepdim=True) - 1e-5).all()


def test_feature_attention_by_hand():
    """Q = (0, 1), K = (1, 2), V = (3, 5): the first query sees both alike, the second mostly 5."""
    layer = FeatureSelfAttention(2, 1).eval()
    for name, bias in (("query", [0.0, 1.0]), ("key", [1.0, 2.0]), ("value", [3.0, 5.0])):
        linear = getattr(layer, name)
        torch.nn.init.zeros_(linear.weight)
        linear.bias.data = torch.tensor(bias)
    out = layer(torch.zeros(1, 2))
    torch.testing.assert_close(out, torch.tensor([[4.0, 4.46211716]]))


@pytest.mark.parametrize("layer", [TokenSelfAttention, FeatureSelfAttention])
@pytest.mark.parametrize("n_heads", [0, 3])
def test_heads_must_divide_the_width(layer, n_heads):
    with pytest.raises(ValueError, match=f"divisible by n_heads, found n_heads={n_heads}"):
        layer(16, n_heads)
