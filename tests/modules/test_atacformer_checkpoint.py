"""Folders with the public names: written, read, and refused where they are not complete."""

from __future__ import annotations

import gzip
import json
import pickle
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from atacvi.modules import AtacformerConfig, AtacformerModule
from atacvi.modules._atacformer_checkpoint import read_checkpoint, write_checkpoint
from atacvi.nn import PackedTokens
from atacvi.regions import Universe

N_REGIONS = 30
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
}
TOKENS = PackedTokens.from_cells([[3, 14, 15], [], [29, 0]])
CONFIG = {
    "model_type": "atacformer",
    "vocab_size": N_REGIONS + 7,
    "pad_token_id": N_REGIONS + 1,
    "use_pos_embeddings": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    **SIZES,
}


@pytest.fixture
def universe() -> Universe:
    # not in genome order: the line is the id
    return Universe([f"chr{1 + i % 3}:{100 * i}-{100 * i + 50}" for i in range(N_REGIONS)])


@pytest.fixture
def module() -> AtacformerModule:
    return AtacformerModule(AtacformerConfig.for_regions(N_REGIONS, **SIZES)).eval()


def public_state(*, positions: bool = True) -> dict[str, torch.Tensor]:
    """Random weights under the public names, bare, written down by hand."""
    width, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    shapes = {"embeddings.token_embeddings.weight": (N_REGIONS + 7, width)}
    if positions:
        shapes["embeddings.position_embeddings.weight"] = (12, width)
    for i in range(SIZES["num_hidden_layers"]):
        layer = f"encoder.layers.{i}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
        for name, (out, into) in {
            "self_attn.out_proj": (width, width),
            "linear1": (inner, width),
            "linear2": (width, inner),
        }.items():
            shapes |= {f"{layer}.{name}.weight": (out, into), f"{layer}.{name}.bias": (out,)}
        shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{layer}.self_attn.in_proj_bias"] = (3 * width,)
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def discriminator_state() -> dict[str, torch.Tensor]:
    shapes = {"dense.weight": (16, 16), "dense.bias": (16,), "norm.weight": (16,)}
    shapes |= {"norm.bias": (16,), "classifier.weight": (1, 16), "classifier.bias": (1,)}
    return {f"discriminator.{name}": torch.randn(shape) for name, shape in shapes.items()}


@pytest.fixture
def put(tmp_path, universe):
    """``put(state, **config)``: a folder with the public layout."""

    def write(state, **config):
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
        universe.save(tmp_path)
        return tmp_path

    return write


def read_quietly(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_checkpoint(folder, **options)


# ---- round trips --------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "atacformer."])
def test_round_trip_is_exact(module, universe, tmp_path, prefix):
    write_checkpoint(tmp_path / "new" / "folder", module, universe, prefix=prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_checkpoint(tmp_path / "new" / "folder")
    assert again.universe == universe
    state = again.module.state_dict()
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    assert not again.module.training
    names = sorted(p.name for p in (tmp_path / "new" / "folder").iterdir())
    assert names == ["config.json", "model.safetensors", "universe.bed.gz"]


def test_written_names_are_the_public_ones(module, universe, tmp_path):
    write_checkpoint(tmp_path, module, universe)
    expected = {f"atacformer.{name}" for name in public_state(positions=False)}
    assert set(load_file(tmp_path / "model.safetensors")) == expected | set(discriminator_state())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocab_size"] == N_REGIONS + 7
    assert config["pad_token_id"] == N_REGIONS + 1
    assert config["sep_token_id"] == N_REGIONS + 6


def test_heads_and_pooling_come_back(universe, tmp_path):
    config = AtacformerConfig.for_regions(N_REGIONS, **SIZES, pooling="attention")
    module = AtacformerModule(
        config, n_labels=3, n_batch=2, n_projection=4, classification_hidden=8
    ).eval()
    torch.nn.init.normal_(module.attention_pooling.query)
    write_checkpoint(tmp_path, module, universe)
    again = read_checkpoint(tmp_path).module
    with torch.no_grad():
        cells = module.encode(TOKENS)
        assert torch.equal(again.encode(TOKENS), cells)
        for name in ("classification_head", "batch_prediction_head", "projection_head"):
            assert torch.equal(getattr(again, name)(cells), getattr(module, name)(cells))


def test_weights_of_regions_come_back(universe, tmp_path):
    config = AtacformerConfig.for_regions(N_REGIONS, **SIZES, pooling="idf")
    module = AtacformerModule(config).eval()
    module.set_frequencies(torch.linspace(0.01, 1, N_REGIONS))
    write_checkpoint(tmp_path, module, universe)
    active = torch.tensor([0, 3, 14, 15, 29])
    with torch.no_grad():
        cells = module.encode(TOKENS)
        assert torch.equal(read_checkpoint(tmp_path).module.encode(TOKENS), cells)
        some = read_checkpoint(tmp_path, active_ids=active).module
        assert torch.equal(some.encode(TOKENS), cells)


def test_adapters_are_merged_into_what_is_written(module, universe, tmp_path):
    names = set(module.state_dict())
    module.add_low_rank_adapters(rank=2)
    for name, parameter in module.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter)
    write_checkpoint(tmp_path, module, universe)
    again = read_checkpoint(tmp_path).module
    assert set(again.state_dict()) == names
    with torch.no_grad():
        torch.testing.assert_close(again.encode(TOKENS), module.encode(TOKENS))


# ---- what others wrote --------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "atacformer.", "craft.atac_encoder.", "atac_encoder."])
@pytest.mark.parametrize("positions", [True, False])
def test_public_names_are_read(put, prefix, positions):
    state = public_state(positions=positions)
    folder = put({f"{prefix}{name}": value for name, value in state.items()})
    with pytest.warns(UserWarning, match="no replaced-token head"):
        module = read_checkpoint(folder).module
    found = module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert module.config.keep_position_table == positions


def test_what_is_read_computes_what_torch_computes(put):
    state = public_state()
    module = read_quietly(put(state)).module
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    encoder.load_state_dict(
        {n.removeprefix("encoder."): x for n, x in state.items() if n.startswith("encoder.")}
    )
    ids = torch.tensor([[3, 14, 15]])
    with torch.no_grad():
        expected = encoder(state["embeddings.token_embeddings.weight"][ids])[0]
        found = module.embed_tokens(PackedTokens(ids[0], torch.tensor([0, 3])))
    assert (found - expected).abs().max() < 2e-6


def test_half_precision_becomes_single(put):
    state = {name: value.bfloat16() for name, value in public_state().items()}
    module = read_quietly(put(state)).module
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float32
        if name in state:
            assert torch.equal(value, state[name].float())


def test_further_fields_are_written_back(put, tmp_path, universe):
    module = read_quietly(put({**public_state(), **discriminator_state()})).module
    write_checkpoint(tmp_path / "again", module, universe)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert config["torch_dtype"] == "float32"  # what is written now
    names = load_file(tmp_path / "again" / "model.safetensors")
    assert "atacformer.embeddings.position_embeddings.weight" in names


def test_a_head_for_replaced_tokens_is_read(put):
    heads = discriminator_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = read_checkpoint(put({**public_state(), **heads})).module
    assert all(torch.equal(module.state_dict()[name], value) for name, value in heads.items())


def test_weights_that_are_not_used_are_named(put):
    state = {f"atac_encoder.{name}": value for name, value in public_state().items()}
    state |= {"gene_projection.weight": torch.zeros(2, 2), **discriminator_state()}
    with pytest.warns(UserWarning, match=r"1 weights that are not used: 'gene_projection\.weight'"):
        read_checkpoint(put(state))


def test_changes_of_the_configuration(put):
    module = read_quietly(put(public_state()), dropout=0.3).module
    assert module.encoder.layers[0].dropout.p == 0.3


@pytest.mark.parametrize("pooling", ["idf", "attention"])
def test_another_pooling(put, universe, tmp_path, pooling):
    folder = put({**public_state(), **discriminator_state()})
    plain = read_checkpoint(folder).module
    with pytest.warns(UserWarning, match=f"no weights for pooling='{pooling}'"):
        other = read_checkpoint(folder, pooling=pooling).module
    with torch.no_grad():
        torch.testing.assert_close(other.encode(TOKENS), plain.encode(TOKENS))
    write_checkpoint(tmp_path / "again", other, universe)
    again = read_checkpoint(tmp_path / "again", pooling="mean").module
    with torch.no_grad():
        assert torch.equal(again.encode(TOKENS), plain.encode(TOKENS))


def test_heads_must_be_complete(put):
    heads = {"classification_head.dense.weight": torch.zeros(4, 16)}
    with pytest.raises(ValueError, match=r"heads of model\.safetensors are incomplete"):
        read_checkpoint(put({**public_state(), **discriminator_state(), **heads}))


# ---- some of the regions ------------------------------------------------------------------


def test_some_regions_are_read(module, universe, tmp_path, monkeypatch):
    monkeypatch.setattr("atacvi.modules._atacformer_weights._ROWS_AT_ONCE", 7)
    write_checkpoint(tmp_path, module, universe)
    some = read_checkpoint(tmp_path, active_ids=torch.tensor([0, 3, 14, 15, 29])).module
    assert some.embeddings.token_embeddings.weight.shape == (12, 16)
    with torch.no_grad():
        assert torch.equal(some.encode(TOKENS), module.encode(TOKENS))


def test_some_regions_are_written_as_a_smaller_universe(universe, tmp_path):
    active = torch.tensor([0, 3, 14, 15, 29])
    config = AtacformerConfig.for_regions(N_REGIONS, **SIZES)
    module = AtacformerModule(config, active_ids=active).eval()
    with pytest.raises(ValueError, match="only 5 of the 30 regions .* reduced=True"):
        write_checkpoint(tmp_path / "new", module, universe)
    assert not (tmp_path / "new").exists()
    write_checkpoint(tmp_path / "new", module, universe, reduced=True)
    again = read_checkpoint(tmp_path / "new")
    assert again.universe.names.tolist() == universe.names[active.numpy()].tolist()
    assert again.module.has_full_vocabulary
    renumbered = PackedTokens(torch.searchsorted(active, TOKENS.ids), TOKENS.offsets)
    with torch.no_grad():
        assert torch.equal(again.module.encode(renumbered), module.encode(TOKENS))


# ---- refusals -----------------------------------------------------------------------------


def test_missing_layers_are_never_made_up(put):
    state = {k: v for k, v in public_state().items() if "layers.1." not in k}
    with pytest.raises(ValueError, match=r"lacks 12 weights .*layers\.1.*They are not made up"):
        read_checkpoint(put(state))
    del state["encoder.layers.0.norm1.bias"]
    with pytest.raises(ValueError, match=r"lacks 1 weights .*layers\.0\.norm1\.bias"):
        read_checkpoint(put(state, num_hidden_layers=1))


def test_layers_too_many(put):
    with pytest.raises(ValueError, match=r"beyond what config\.json asks for.*layers\.1"):
        read_checkpoint(put(public_state(), num_hidden_layers=1))


def test_positions_that_are_used_must_be_there(put):
    with pytest.raises(ValueError, match=r"lacks 1 weights .*position_embeddings"):
        read_checkpoint(put(public_state(positions=False), use_pos_embeddings=True))


def test_shapes_must_fit(put):
    with pytest.raises(ValueError, match=r"does not fit config\.json: .*\(37, 16\) instead of"):
        read_checkpoint(put(public_state(), hidden_size=32))


def test_universe_must_fit(put, universe):
    folder = put(public_state())
    Universe(universe.regions[:-1]).save(folder)
    with pytest.raises(ValueError, match="has 29 regions, so that vocab_size must be 36"):
        read_checkpoint(folder)


def test_padding_must_be_where_it_belongs(put):
    with pytest.raises(ValueError, match="gives <pad> the id 30; .* must be 31"):
        read_checkpoint(put(public_state(), pad_token_id=30))


def test_names_must_be_known(put):
    state = {f"model.{name}": value for name, value in public_state().items()}
    with pytest.raises(ValueError, match="no table of tokens; expected one of embeddings"):
        read_checkpoint(put(state))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_nothing_is_unpickled(put, name):
    folder = put(public_state())
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=f"weights as {name}, which can run any code"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "universe.bed.gz"])
def test_missing_files(put, name):
    folder = put(public_state())
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}; it holds "):
        read_checkpoint(folder)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_checkpoint(folder / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "universe.bed.gz"])
def test_truncated_files(put, name):
    path = put(public_state()) / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=name):
        read_checkpoint(path.parent)


def test_repeated_lines_of_the_universe(put, universe):
    folder = put(public_state())
    text = gzip.decompress((folder / "universe.bed.gz").read_bytes())
    lines = text.splitlines(keepends=True)
    lines[5] = lines[4]
    (folder / "universe.bed.gz").write_bytes(gzip.compress(b"".join(lines)))
    with (
        pytest.warns(UserWarning, match="repeat"),
        pytest.raises(ValueError, match="has 29 regions"),
    ):
        read_checkpoint(folder)


def test_nothing_is_left_when_writing_fails(module, universe, tmp_path, monkeypatch):
    write_checkpoint(tmp_path, module, universe)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    torch.nn.init.zeros_(module.discriminator.dense.weight)
    with pytest.raises(OSError, match="no space left"):
        write_checkpoint(tmp_path, module, universe)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_is_written_must_fit(module, universe, tmp_path):
    with pytest.raises(ValueError, match="has 29 regions, the module was built for 30"):
        write_checkpoint(tmp_path, module, Universe(universe.regions[:-1]))
    with pytest.raises(ValueError, match="prefix must be 'atacformer.' or ''"):
        write_checkpoint(tmp_path, module, universe, prefix="model.")
