"""Low-rank adapters: no change at first, only they train, and they can be merged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from atacvi.nn import PackedTransformer, add_low_rank, low_rank_state, merge_low_rank

OFFSETS = torch.tensor([0, 4, 9])


@pytest.fixture
def encoder() -> PackedTransformer:
    return PackedTransformer(16, 2, 4, 32).eval()


def train(encoder: PackedTransformer, x: torch.Tensor) -> None:
    """Make some steps on whatever is trainable."""
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    target = torch.randn_like(x)
    for _ in range(3):
        optimizer.zero_grad()
        (encoder(x, OFFSETS) - target).square().mean().backward()
        optimizer.step()


def test_nothing_changes_at_first(encoder):
    x = torch.randn(9, 16)
    with torch.no_grad():
        before = encoder(x, OFFSETS)
        assert add_low_rank(encoder, rank=4) == 8  # four beside each of two layers
        assert torch.equal(encoder(x, OFFSETS), before)


def test_only_the_adapters_train(encoder):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    add_low_rank(encoder, rank=4)
    x = torch.randn(9, 16)
    train(encoder, x)
    after = encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert {name.split(".")[-2] for name in trained} == {"adapter", "in_proj_adapter"}
    assert all(after[name].abs().sum() > 0 for name in trained)


def test_merging_keeps_output_and_names(encoder):
    names = list(encoder.state_dict())
    add_low_rank(encoder, rank=4)
    x = torch.randn(9, 16)
    train(encoder, x)
    with torch.no_grad():
        adapted = encoder(x, OFFSETS)
        state = low_rank_state(encoder)
        assert torch.equal(encoder(x, OFFSETS), adapted)  # writing changes nothing
        assert merge_low_rank(encoder) == 8
        assert sorted(state) == sorted(names) == sorted(encoder.state_dict())
        torch.testing.assert_close(encoder(x, OFFSETS), adapted, rtol=1e-5, atol=1e-6)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[name])
    assert merge_low_rank(encoder) == 0


def test_the_scale_is_alpha_over_rank(encoder):
    add_low_rank(encoder, rank=4, alpha=2.0)
    adapter = encoder.layers[0].linear1.adapter
    nn.init.ones_(adapter.up)
    torch.testing.assert_close(adapter.delta(), 0.5 * adapter.down.sum(0).expand(32, 16))
    x = torch.randn(3, 16)
    torch.testing.assert_close(adapter(x), x @ adapter.delta().T)


def test_state_of_a_plain_module_is_its_own(encoder):
    state = low_rank_state(encoder)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_mistakes_are_told(encoder):
    with pytest.raises(ValueError, match="rank must be at least 1, found 0"):
        add_low_rank(encoder, rank=0)
    with pytest.raises(ValueError, match="no linear layer"):
        add_low_rank(nn.LayerNorm(3))
    add_low_rank(encoder)
    with pytest.raises(ValueError, match="has low-rank adapters already"):
        add_low_rank(encoder)
