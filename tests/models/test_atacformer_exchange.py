"""Saving, loading, checkpoints of the public layout, other universes."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch

from atacvi.models import AtacformerModel
from atacvi.models._token_weights import overlap_weights
from atacvi.regions import Universe

from .planted_tokens import N_REGIONS, QUIET, build, planted_cells


@pytest.fixture(scope="module")
def cells():
    cells = planted_cells()
    AtacformerModel.setup_anndata(cells, labels_key="module", batch_key="batch")
    return cells


@pytest.fixture(scope="module")
def model(cells):
    model = build(cells)
    model.train(2, task="multi", token_budget=800, **QUIET)
    return model


@pytest.fixture
def query():
    return planted_cells(30, seed=3)


def test_save_and_load(model, cells, query, tmp_path):
    folder = str(tmp_path / "model")
    model.save(folder)
    for adata in (cells.copy(), False):
        loaded = AtacformerModel.load(folder, adata, accelerator="cpu")
        np.testing.assert_array_equal(
            loaded.get_latent_representation(query), model.get_latent_representation(query)
        )
        head = loaded.annotate(query, method="head")
        assert head.equals(model.annotate(query, method="head"))
        assert set(loaded.history) == set(model.history)
    with pytest.raises(ValueError, match="no data"):
        loaded.get_latent_representation()
    with pytest.raises(ValueError, match="no labelled cells"):
        loaded.annotate(query)


def test_save_with_data(model, tmp_path):
    folder = str(tmp_path / "model")
    model.save(folder, save_anndata=True)
    loaded = AtacformerModel.load(folder, accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), model.get_latent_representation()
    )


def test_a_checkpoint_of_the_public_layout(model, query, tmp_path):
    model.save_pretrained(tmp_path / "hub")
    assert sorted(p.name for p in (tmp_path / "hub").iterdir()) == [
        "config.json",
        "model.safetensors",
        "universe.bed.gz",
    ]
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["vocab_size"] == N_REGIONS + 7
    assert config["pad_token_id"] == N_REGIONS + 1
    loaded = AtacformerModel.from_pretrained(tmp_path / "hub")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(query), model.get_latent_representation(query)
    )
    assert loaded.universe == model.universe
    assert loaded.is_trained


def test_a_checkpoint_of_the_embedded_part(query, tmp_path):
    data = planted_cells()
    data.X[:, :30] = 0
    AtacformerModel.setup_anndata(data)
    part = build(data)
    part.pretrain(1, **QUIET)
    part.save_pretrained(tmp_path / "part")
    loaded = AtacformerModel.from_pretrained(tmp_path / "part")
    assert len(loaded.universe) == N_REGIONS - 30
    np.testing.assert_allclose(
        loaded.get_latent_representation(query), part.get_latent_representation(query), atol=1e-6
    )


def test_going_on_from_a_checkpoint(model, cells, tmp_path):
    model.save_pretrained(tmp_path / "hub")
    data = planted_cells(100, seed=4)
    data.X[:, 60:] = 0
    AtacformerModel.setup_anndata(data, labels_key="module")
    started = AtacformerModel(data, pretrained=tmp_path / "hub")
    assert started.is_trained
    assert started.module.embeddings.n_active == 60
    np.testing.assert_allclose(
        started.get_latent_representation(), model.get_latent_representation(data), atol=1e-5
    )
    table = started.module.embeddings.token_embeddings.weight.clone()
    started.finetune("classification", 1, lr=1e-4, token_budget=800, **QUIET)
    moved = (started.module.embeddings.token_embeddings.weight - table).abs().max()
    assert 0 < moved < 0.1
    started.save(str(tmp_path / "own"))
    loaded = AtacformerModel.load(str(tmp_path / "own"), data.copy(), accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), started.get_latent_representation()
    )


def test_mapping_onto_another_universe(model, cells):
    # each region of the other universe is a shifted or wider one of the model's
    shifted = [f"chr1:{s + 100}-{s + 700}" for s in range(0, N_REGIONS * 5_000, 5_000)]
    universe = Universe([*shifted[:70], "chr2:1-100"])
    other = model.map_to_universe(universe)
    data = planted_cells(80, seed=6)
    data = data[:, :70].copy()
    direct = model.get_latent_representation(data)
    data.var_names = shifted[:70]
    data.var["start"] += 100
    data.var["end"] += 200
    np.testing.assert_allclose(other.get_latent_representation(data), direct, atol=1e-5)
    assert other.module.embeddings.n_active == 70
    assert other.adata is None
    with pytest.raises(ValueError, match="another genome build"):
        model.map_to_universe(Universe(["chr9:1-100", "chr9:200-300"]))


def test_overlaps_weigh_by_base_pairs():
    given = Universe(["chr1:0-100", "chr1:100-400"])
    wanted = Universe(["chr1:50-150", "chr1:390-500", "chr1:600-700"])
    weights = overlap_weights(given, wanted).toarray()
    np.testing.assert_allclose(weights, [[0.5, 0.5], [0, 1], [0, 0]])


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "/no/such/folder", "a/b/c"])
def test_no_such_folder(name):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        AtacformerModel.from_pretrained(name)


def test_the_hub_needs_its_library(monkeypatch):
    real = builtins.__import__

    def without_hub(name, *args, **kwargs):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_hub)
    with pytest.raises(ImportError, match="pip install 'atacvi\\[hub\\]'"):
        AtacformerModel.from_pretrained("databio/atacformer-base-hg38")


def test_a_model_of_a_universe_alone_has_to_be_trained():
    model = AtacformerModel(universe=Universe(["chr1:1-5", "chr1:9-20"]), n_embed=8, n_heads=2)
    assert model.module.embeddings.n_active == 2
    with pytest.raises(RuntimeError, match="not trained"):
        model.get_latent_representation(planted_cells(10))
    with pytest.raises(ValueError, match="adata or registry"):
        AtacformerModel()


def test_published_sizes():
    universe = Universe([f"chr1:{s}-{s + 5}" for s in range(0, 1000, 10)])
    with torch.device("cpu"):
        model = AtacformerModel(universe=universe, preset="base-hg38", vocabulary="full")
    n_encoder = sum(p.numel() for p in model.module.encoder.parameters())
    n_head = sum(p.numel() for p in model.module.discriminator.parameters())
    assert (n_encoder, n_head) == (2_669_184, 37_633)
