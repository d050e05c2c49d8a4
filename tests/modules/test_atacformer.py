"""AtacformerModule: names, numbers, invariances, vocabulary, what is trained."""

from __future__ import annotations

import math

import pytest
import torch

from atacvi.modules import AtacformerConfig, AtacformerModule, AtacformerObjectives
from atacvi.nn import PackedTokens

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
TOKENS = PackedTokens.from_cells([[3, 14, 15, 92], [], [65], [35, 89, 7]])


def build(*, active_ids=None, n_labels=0, n_batch=0, n_projection=None, **config):
    torch.manual_seed(0)
    module = AtacformerModule(
        AtacformerConfig.for_regions(100, **{**SIZES, **config}),
        active_ids=active_ids,
        n_labels=n_labels,
        n_batch=n_batch,
        n_projection=n_projection,
    )
    return module.eval()


def n_parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- names and numbers --------------------------------------------------------------------


def test_numbers_of_parameters_are_the_published_ones():
    with torch.device("meta"):
        module = AtacformerModule(AtacformerConfig.from_preset("base-hg38"))
        wide = AtacformerModule(
            AtacformerConfig.from_preset("base-hg38", hidden_size=384, intermediate_size=1536)
        )
    assert n_parameters(module) == 175_296_193  # with the replaced-token head
    assert n_parameters(module.discriminator) == 37_633
    assert n_parameters(module.embeddings) + n_parameters(module.encoder) == 175_258_560
    assert n_parameters(module.encoder) == 2_669_184
    assert n_parameters(module.encoder.layers[0]) == 444_864
    assert n_parameters(wide) - n_parameters(wide.discriminator) == 355_825_536


def test_names_and_shapes_are_the_public_ones():
    with torch.device("meta"):
        module = AtacformerModule(AtacformerConfig.from_preset("base-hg38"))
    expected = {
        "embeddings.token_embeddings.weight": (890_711, 192),
        "embeddings.position_embeddings.weight": (8192, 192),
        "discriminator.dense.weight": (192, 192),
        "discriminator.dense.bias": (192,),
        "discriminator.norm.weight": (192,),
        "discriminator.norm.bias": (192,),
        "discriminator.classifier.weight": (1, 192),
        "discriminator.classifier.bias": (1,),
    }
    layer = {
        "self_attn.in_proj_weight": (576, 192),
        "self_attn.in_proj_bias": (576,),
        "self_attn.out_proj.weight": (192, 192),
        "self_attn.out_proj.bias": (192,),
        "linear1.weight": (768, 192),
        "linear1.bias": (768,),
        "linear2.weight": (192, 768),
        "linear2.bias": (192,),
        "norm1.weight": (192,),
        "norm1.bias": (192,),
        "norm2.weight": (192,),
        "norm2.bias": (192,),
    }
    for i in range(6):
        expected |= {f"encoder.layers.{i}.{name}": shape for name, shape in layer.items()}
    assert {name: tuple(x.shape) for name, x in module.state_dict().items()} == expected


@pytest.mark.parametrize(("config", "expected"), [({}, 1.0), ({"preset": "base-hg38"}, 0.02)])
def test_initial_weights(config, expected):
    sizes = {**SIZES, "vocab_size": 2007}
    make = AtacformerConfig.from_preset if config else AtacformerConfig
    module = AtacformerModule(make(**config, **sizes))
    table = module.embeddings.token_embeddings.weight
    assert (table[module.config.pad_token_id] == 0).all()
    assert table.std().item() == pytest.approx(expected, rel=0.05)
    assert module.encoder.layers[0].linear1.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert all((p == 0).all() for n, p in module.encoder.named_parameters() if "bias" in n)


# ---- a cell is a set ----------------------------------------------------------------------


def test_order_of_tokens_does_not_matter():
    module = build()
    cells = [torch.randperm(100)[:30] for _ in range(4)]
    shuffled = [cell[torch.randperm(30)] for cell in cells]
    with torch.no_grad():
        one, other = (module.encode(PackedTokens.from_cells(x)) for x in (cells, shuffled))
    assert (one - other).abs().max() < 1e-6


def test_order_matters_with_positions():
    module = build(use_pos_embeddings=True)
    with torch.no_grad():
        module.embeddings.position_embeddings.weight.normal_()
        one = module.encode(PackedTokens.from_cells([[1, 2, 3]]))
        other = module.encode(PackedTokens.from_cells([[3, 2, 1]]))
        beside = module.encode(PackedTokens.from_cells([[9, 9], [1, 2, 3]]))[1:]
    assert (one - other).abs().max() > 1e-3
    assert (one - beside).abs().max() < 1e-6  # places count from the start of each cell
    with pytest.raises(ValueError, match="a cell of 65 tokens exceeds the 64 positions"):
        module.encode(PackedTokens.from_cells([torch.arange(65)]))


def test_a_position_table_that_is_not_used_changes_nothing():
    plain, holding = build(), build(keep_position_table=True)
    holding.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(plain.encode(TOKENS), holding.encode(TOKENS))
    assert not holding.embeddings.position_embeddings.weight.requires_grad


def test_padding_and_other_cells_do_not_matter():
    module = build()
    pad = module.config.pad_token_id
    padded = torch.full((2, 9), pad)
    padded[0, :4], padded[1, :3] = torch.tensor([3, 14, 15, 92]), torch.tensor([35, 89, 7])
    with torch.no_grad():
        packed = module.encode(TOKENS)
        from_padded = module.encode(PackedTokens.from_padded(padded, pad))
        alone = module.encode(PackedTokens.from_cells([[35, 89, 7]]))
    assert (packed[[0, 3]] - from_padded).abs().max() < 1e-6
    assert (packed[3] - alone[0]).abs().max() < 1e-6


@pytest.mark.parametrize("pooling", ["mean", "idf", "attention"])
def test_a_cell_without_tokens_is_that_of_unknown(pooling):
    module = build(pooling=pooling)
    unk = module.config.unk_token_id
    with torch.no_grad():
        cells = module.encode(TOKENS)
        unknown = module.encode(PackedTokens.from_cells([[unk]]))
    assert cells.isfinite().all()
    torch.testing.assert_close(cells[1:2], unknown)


# ---- pooling ------------------------------------------------------------------------------


def test_rare_regions_weigh_more():
    module = build(pooling="idf")
    frequencies = torch.full((100,), 0.5)
    frequencies[3], frequencies[14], frequencies[15] = 0.01, 0.0, 1.0
    module.set_frequencies(frequencies)
    weight = module.idf[[92, 3, 14, 15]]
    expected = torch.tensor([math.log(2), math.log(100), math.log(100), 0.0])
    torch.testing.assert_close(weight, expected)
    with torch.no_grad():
        hidden = module.embed_tokens(TOKENS)
        by_hand = (hidden[:4] * module.idf[TOKENS.ids[:4], None]).sum(0) / expected.sum()
        torch.testing.assert_close(module.pool(hidden, TOKENS)[0], by_hand, rtol=1e-4, atol=1e-5)
        explicit = module.pool(hidden, TOKENS, torch.ones(len(hidden)))[0]
        torch.testing.assert_close(explicit, hidden[:4].mean(0))


def test_frequencies_are_checked():
    with pytest.raises(ValueError, match="for pooling='idf'; this module pools by 'mean'"):
        build().set_frequencies(torch.ones(100))
    module = build(pooling="idf")
    for wrong, message in (
        (torch.ones(99), r"must be \(100,\)"),
        (torch.full((100,), 2.0), "shares of cells"),
        (torch.zeros(100), "shares of cells"),
    ):
        with pytest.raises(ValueError, match=message):
            module.set_frequencies(wrong)


# ---- active vocabulary --------------------------------------------------------------------


def test_active_vocabulary_gives_the_same_cells():
    full = build()
    active = TOKENS.ids.sort().values
    small = build(active_ids=active)
    rows = torch.cat([active, torch.arange(100, 107)])
    state = dict(full.state_dict())
    state["embeddings.token_embeddings.weight"] = state["embeddings.token_embeddings.weight"][rows]
    state["embeddings.active_ids"] = active
    small.load_state_dict(state)
    assert small.embeddings.token_embeddings.weight.shape == (len(active) + 7, 16)
    with torch.no_grad():
        assert torch.equal(full.encode(TOKENS), small.encode(TOKENS))
    assert small.active_ids.tolist() == active.tolist()
    assert full.active_ids.tolist() == list(range(100))
    assert full.has_full_vocabulary
    assert not small.has_full_vocabulary


def test_regions_without_an_embedding_are_unknown():
    module = build(active_ids=torch.tensor([3, 14, 15]))
    unk = module.config.unk_token_id
    assert module.is_active(torch.tensor([3, 4, 15, unk, unk + 2])).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
    with torch.no_grad():
        one = module.encode(PackedTokens.from_cells([[3, 4]]))
        other = module.encode(PackedTokens.from_cells([[3, unk]]))
    assert torch.equal(one, other)


def test_saved_weights_bring_their_regions():
    """Rows mean nothing without the regions: loading another set replaces it."""
    module, other = build(active_ids=torch.tensor([1, 2])), build(active_ids=torch.tensor([5, 8]))
    module.load_state_dict(other.state_dict())
    tokens = PackedTokens.from_cells([[5, 8], [8]])
    with torch.no_grad():
        assert torch.equal(module.encode(tokens), other.encode(tokens))
    with pytest.raises(RuntimeError, match="active_ids"):
        build().load_state_dict(other.state_dict())


@pytest.mark.parametrize("ids", [[], [3, 2], [2, 2], [-1, 2], [99, 100]])
def test_active_ids_are_checked(ids):
    with pytest.raises(ValueError, match="active_ids"):
        build(active_ids=torch.tensor(ids, dtype=torch.long))


# ---- what is trained ----------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 2, 3])
def test_freezing_all_but_the_last_layers(n_layers):
    module = build(n_labels=3, n_batch=2)
    module.freeze_except_last(n_layers)
    for name, parameter in module.named_parameters():
        in_last = any(name.startswith(f"encoder.layers.{i}.") for i in range(3 - n_layers, 3))
        in_encoder = name.startswith(("encoder.", "embeddings."))
        expected = in_last or ".norm" in name or not in_encoder
        assert parameter.requires_grad == expected, name
    module.classification_head(module.encode(TOKENS)).sum().backward()
    assert module.embeddings.token_embeddings.weight.grad is None
    assert module.encoder.layers[0].norm1.weight.grad is not None
    module.unfreeze()
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("n_layers", [-1, 4])
def test_freezing_needs_layers(n_layers):
    with pytest.raises(ValueError, match=r"within 0 \.\.\. 3"):
        build().freeze_except_last(n_layers)


def test_adapters_train_beside_frozen_weights():
    module = build(n_labels=3)
    with torch.no_grad():
        before = module.encode(TOKENS)
        assert module.add_low_rank_adapters(rank=2) == 12
        assert torch.equal(module.encode(TOKENS), before)
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert all("adapter" in n or n.startswith(("discriminator", "classif")) for n in trained)
    assert module.merge_low_rank_adapters() == 12


def test_checkpointing_reaches_the_encoder():
    config = AtacformerConfig.for_regions(100, **SIZES)
    assert AtacformerModule(config, gradient_checkpointing=True).encoder.gradient_checkpointing


def test_heads_are_there_when_asked_for():
    plain, full = build(), build(n_labels=3, n_batch=2, n_projection=4, pooling="attention")
    heads = ("classification_head", "batch_prediction_head", "projection_head")
    assert all(getattr(plain, name) is None for name in (*heads, "attention_pooling"))
    assert all(getattr(full, name) is not None for name in (*heads, "attention_pooling"))
    assert full.batch_prediction_head.weight.shape == (2, 16)
    for name, message in (("classification", "n_labels > 1"), ("adversary", "n_batch > 1")):
        batch = {"tokens": TOKENS, "labels": torch.zeros(4, 1), "batch": torch.zeros(4, 1)}
        with pytest.raises(ValueError, match=message):
            plain(batch, loss_kwargs={"objectives": AtacformerObjectives(**{name: 1.0})})
