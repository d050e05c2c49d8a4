"""The configuration, and how it is read from and written to config.json."""

from __future__ import annotations

import json

import pytest

from atacvi.modules import AtacformerConfig

PUBLIC = {
    "model_type": "atacformer",
    "vocab_size": 890_711,
    "max_position_embeddings": 8192,
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "intermediate_size": 768,
    "use_pos_embeddings": False,
    "pad_token_id": 890_705,
    "sparse_prediction": False,
    "torch_dtype": "float32",
}


def test_preset_has_the_published_sizes():
    config = AtacformerConfig.from_preset("base-hg38")
    read = AtacformerConfig.from_dict(PUBLIC)
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    for name in (*names, "intermediate_size", "max_position_embeddings", "use_pos_embeddings"):
        assert getattr(config, name) == getattr(read, name) == PUBLIC[name]


def test_special_tokens_follow_the_regions():
    config = AtacformerConfig.from_preset("base-hg38")
    names = ("unk", "pad", "mask", "cls", "eos", "bos", "sep")
    assert [config.special_id(name) for name in names] == list(range(890_704, 890_711))
    assert (config.unk_token_id, config.pad_token_id) == (890_704, 890_705)
    with pytest.raises(ValueError, match="did you mean 'mask'"):
        config.special_id("masks")


def test_unknown_fields_come_back():
    config = AtacformerConfig.from_dict(PUBLIC)
    assert config.extra["sparse_prediction"] is False
    written = json.loads(json.dumps(config.to_dict()))
    assert {name: written[name] for name in PUBLIC} == PUBLIC
    again = AtacformerConfig.from_dict(written)
    assert again.to_dict() == config.to_dict()


def test_own_fields_come_back():
    config = AtacformerConfig.for_regions(10, pooling="idf", dropout=0.3, hidden_size=16)
    again = AtacformerConfig.from_dict(config.to_dict())
    assert (again.pooling, again.dropout, again.vocab_size) == ("idf", 0.3, 17)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "use_pos_embeddings"])
def test_what_decides_the_network_must_be_said(name):
    values = {k: v for k, v in PUBLIC.items() if k != name}
    with pytest.raises(ValueError, match=f"lacks {name}"):
        AtacformerConfig.from_dict(values)


def test_special_ids_must_follow_the_regions():
    with pytest.raises(ValueError, match="gives <pad> the id 0; .* must be 890705"):
        AtacformerConfig.from_dict({**PUBLIC, "pad_token_id": 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1, found 0"),
        ({"max_position_embeddings": 0}, "max_position_embeddings must be at least 1"),
        ({"hidden_size": 20}, "divisible by num_attention_heads=8"),
        ({"vocab_size": 7}, "leaves no region"),
        ({"pooling": "max"}, "one of mean, idf, attention; found 'max'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    ],
)
def test_sizes_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        AtacformerConfig(**{"vocab_size": 100, **changes})


def test_unknown_preset():
    with pytest.raises(ValueError, match="one of base-hg38; found 'large'"):
        AtacformerConfig.from_preset("large")
