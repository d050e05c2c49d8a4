"""The packed encoder against torch's own, on cells of wild lengths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from atacvi.nn import PackedTokens, PackedTransformer
from atacvi.nn.packed_attention import (
    PackedLayout,
    attend_by_cell,
    attend_in_buckets,
    attend_packed,
)

LENGTHS = [70, 0, 17, 33, 68, 68, 1]


def reference(encoder: PackedTransformer, n_heads: int) -> nn.TransformerEncoder:
    """torch's encoder with the same weights; its slow path, which has no nested tensors."""
    layer = encoder.layers[0]
    torch_layer = nn.TransformerEncoderLayer(
        layer.linear1.in_features, n_heads, layer.linear1.out_features, 0.1, batch_first=True
    )
    padded = nn.TransformerEncoder(torch_layer, len(encoder.layers), enable_nested_tensor=False)
    padded.load_state_dict(encoder.state_dict())  # the same names, strictly
    return padded.eval()


def pad(x: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells beside each other, and which positions are padding; an empty cell keeps one."""
    cells = nn.utils.rnn.pad_sequence(list(x.split(lengths)), batch_first=True)
    place = torch.arange(cells.shape[1])
    return cells, place >= torch.tensor(lengths).clamp(min=1).unsqueeze(1)


def offsets_of(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


@pytest.fixture(scope="module")
def encoder() -> PackedTransformer:
    torch.manual_seed(0)
    encoder = PackedTransformer(192, 6, 8, 768).eval()
    for name, parameter in encoder.named_parameters():
        if "bias" in name:  # torch starts them at zero, which would hide a wrong order
            nn.init.normal_(parameter, std=0.1)
    return encoder


def test_equals_the_encoder_of_torch(encoder):
    """Single precision of both is one rounding from double precision, and so from each other."""
    x = torch.randn(sum(LENGTHS), 192)
    cells, padding = pad(x, LENGTHS)
    with torch.no_grad():
        packed = encoder(x, offsets_of(LENGTHS))
        padded = reference(encoder, 8)(cells, src_key_padding_mask=padding)
    real = torch.arange(cells.shape[1]) < torch.tensor(LENGTHS).unsqueeze(1)
    assert (packed - padded[real]).abs().max() < 2e-6


def test_gradients_equal_those_of_torch():
    encoder = PackedTransformer(16, 2, 4, 32, dropout_rate=0.0).double()
    padded = reference(encoder, 4).double()
    x, lengths = torch.randn(9, 16, dtype=torch.double), [5, 4]
    target = torch.randn_like(x)
    (encoder(x, offsets_of(lengths)) * target).sum().backward()
    cells, padding = pad(x, lengths)
    (padded(cells, src_key_padding_mask=padding)[~padding] * target).sum().backward()
    gradients = dict(padded.named_parameters())
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad)


def test_permuting_the_tokens_permutes_the_output(encoder):
    x, order = torch.randn(40, 192), torch.randperm(40)
    offsets = torch.tensor([0, 40])
    with torch.no_grad():
        difference = encoder(x, offsets)[order] - encoder(x[order], offsets)
    assert difference.abs().max() < 2e-6


def test_a_cell_does_not_see_the_others(encoder):
    x = torch.randn(sum(LENGTHS), 192)
    offsets = offsets_of(LENGTHS)
    with torch.no_grad():
        together = encoder(x, offsets)
        for start, end in zip(offsets[:-1], offsets[1:], strict=True):
            alone = encoder(x[start:end], torch.tensor([0, end - start]))
            assert torch.allclose(together[start:end], alone, atol=2e-6)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_kernels_agree(lengths):
    """Cell by cell, and padded in groups of similar length: every token in its place."""
    layout = PackedLayout(offsets_of(lengths), sum(lengths))
    projected = torch.randn(sum(lengths), 3, 2, 8, generator=torch.Generator().manual_seed(0))
    if not sum(lengths):
        return
    by_cell = attend_by_cell(projected, layout)
    torch.testing.assert_close(by_cell, attend_in_buckets(projected, layout))
    torch.testing.assert_close(by_cell, attend_packed(projected, layout))


def test_groups_waste_little():
    lengths = torch.randint(1, 3000, (400,)).tolist()
    layout = PackedLayout(offsets_of(lengths), sum(lengths))
    n_positions = sum(bucket.positions.numel() for bucket in layout.buckets)
    assert n_positions < 1.05 * sum(lengths)
    assert len(layout.buckets) < 150


def test_kernels_have_the_same_gradients():
    lengths = [5, 9, 0, 9, 8]
    layout = PackedLayout(offsets_of(lengths), 31)
    projected = torch.randn(31, 3, 2, 8, requires_grad=True)
    target = torch.randn(31, 2, 8)
    gradients = [
        torch.autograd.grad((attend(projected, layout) * target).sum(), projected)[0]
        for attend in (attend_by_cell, attend_in_buckets)
    ]
    torch.testing.assert_close(*gradients)


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(1)
    plain = PackedTransformer(16, 2, 4, 32, dropout_rate=0.1)
    saving = PackedTransformer(16, 2, 4, 32, dropout_rate=0.1, gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    x, offsets = torch.randn(9, 16), torch.tensor([0, 5, 9])
    for encoder in (plain, saving):
        torch.manual_seed(2)  # the same dropout
        encoder(x, offsets).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_dropout_is_on_in_training_only(encoder):
    x, offsets = torch.randn(20, 192), torch.tensor([0, 20])
    with torch.no_grad():
        assert torch.equal(encoder(x, offsets), encoder(x, offsets))
        encoder.train()
        assert not torch.equal(encoder(x, offsets), encoder(x, offsets))
        encoder.eval()


def test_dropout_of_attention_weights():
    encoder = PackedTransformer(16, 1, 4, 32, 0.0, attention_dropout_rate=0.5)
    x, offsets = torch.randn(9, 16), torch.tensor([0, 5, 9])
    with torch.no_grad():
        assert not torch.equal(encoder(x, offsets), encoder(x, offsets))
        assert torch.equal(encoder.eval()(x, offsets), encoder(x, offsets))


def test_half_precision_stays_close(encoder):
    x = torch.randn(sum(LENGTHS), 192)
    offsets = offsets_of(LENGTHS)
    with torch.no_grad():
        exact = encoder(x, offsets)
        with torch.autocast("cpu", torch.bfloat16):
            half = encoder(x, offsets)
    assert torch.nn.functional.cosine_similarity(exact, half.float()).min() > 0.999


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_of_the_device_agree(encoder, dtype):
    x = torch.randn(sum(LENGTHS), 192)
    offsets = offsets_of(LENGTHS)
    with torch.no_grad():
        expected = encoder(x, offsets)
        on_device = PackedTransformer(192, 6, 8, 768).eval().cuda()
        on_device.load_state_dict(encoder.state_dict())
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            found = on_device(x.cuda(), offsets.cuda()).float().cpu()
    assert torch.nn.functional.cosine_similarity(expected, found).min() > 0.999


def test_no_tokens_at_all(encoder):
    assert encoder(torch.empty(0, 192), torch.tensor([0, 0, 0])).shape == (0, 192)


@pytest.mark.parametrize("offsets", [[0, 3], [0, 6], [1, 5], [0, 4, 2, 5], []])
def test_offsets_must_fit_the_tokens(encoder, offsets):
    with pytest.raises(ValueError, match="offsets must rise from 0 to the number of tokens, 5"):
        encoder(torch.zeros(5, 192), torch.tensor(offsets, dtype=torch.long))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="divisible by n_heads, found n_heads=3"):
        PackedTransformer(16, 1, 3, 32)


def test_tokens_are_packed_and_counted():
    tokens = PackedTokens.from_cells([[5, 6], [], torch.tensor([7])])
    assert tokens.ids.tolist() == [5, 6, 7]
    assert tokens.offsets.tolist() == [0, 2, 2, 3]
    assert tokens.lengths.tolist() == [2, 0, 1]
    assert tokens.cell_index.tolist() == [0, 0, 2]
    assert tokens.n_cells == 3
    assert PackedTokens.from_cells([]).n_cells == 0


def test_padding_is_left_out():
    padded = torch.tensor([[5, 6, 0, 0], [0, 0, 0, 0], [7, 0, 0, 0]])
    packed = PackedTokens.from_padded(padded, pad_id=0)
    assert packed.ids.tolist() == [5, 6, 7]
    assert packed.offsets.tolist() == [0, 2, 2, 3]


def test_branches_that_end_in_zero_are_not_computed_but_can_be_learnt(monkeypatch):
    encoder = PackedTransformer(16, 2, 2, 32).eval()
    for layer in encoder.layers:
        for last in (layer.self_attn.out_proj, layer.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    x, offsets = torch.randn(9, 16), offsets_of([4, 5])
    wanted = encoder(x, offsets)
    wanted.sum().backward()
    assert encoder.layers[0].linear2.bias.grad is not None

    def refuse(*_):
        raise AssertionError

    for layer in encoder.layers:
        monkeypatch.setattr(layer.self_attn, "forward", refuse)
        monkeypatch.setattr(layer.linear1, "forward", refuse)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, offsets), wanted)
        encoder.layers[1].linear2.bias[0] = 1.0
        with pytest.raises(AssertionError):
            encoder(x, offsets)
