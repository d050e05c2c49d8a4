"""Models go to a folder of scvi-hub and come back the same; no network is used."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import pytest
import torch
from mudata import MuData
from scvi.hub import HubModel

import atacvi
from atacvi._compat import without_pull

QUIET = {"enable_progress_bar": False}
CARD = {"license": "cc0-1.0", "description": "Simulated cells of three types."}
SMALL = {"n_embed": 8, "n_layers": 1, "n_heads": 1, "n_feedforward": 8}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def mdata() -> MuData:
    with without_pull():
        return atacvi.datasets.simulate_multiome(
            90, n_genes=30, n_peaks=100, n_cell_types=3, median_peaks_per_cell=25, random_state=0
        )


def _multiview(mdata: MuData) -> atacvi.MultiViewModel:
    data = mdata.copy()
    atacvi.MultiViewModel.setup_mudata(data)
    model = atacvi.MultiViewModel(data, n_clusters=3, n_latent=4, n_hidden=8, n_embed=8)
    model.train(max_epochs=2, **QUIET)
    return model


def _atacdiff(mdata: MuData) -> atacvi.ATACDiffModel:
    data = mdata["atac"].copy()
    atacvi.ATACDiffModel.setup_anndata(data, labels_key="cell_type")
    model = atacvi.ATACDiffModel(data, n_latent=4, n_latent_ae=4, n_hidden=8, n_embed=4)
    model.train(max_epochs=1, stages=["autoencoder", "auxiliary"], **QUIET)
    return model


def _atacformer(mdata: MuData) -> atacvi.AtacformerModel:
    data = mdata["atac"].copy()
    atacvi.AtacformerModel.setup_anndata(data, labels_key="cell_type")
    model = atacvi.AtacformerModel(data, **SMALL)
    model.pretrain(max_epochs=1, **QUIET)
    return model


def _craft(mdata: MuData) -> atacvi.CRAFTModel:
    data = mdata.copy()
    atacvi.CRAFTModel.setup_mudata(data)
    model = atacvi.CRAFTModel(data, n_latent=8, n_rna_embed=8, n_rna_hidden=8, **SMALL)
    model.train(max_epochs=1, imputation_epochs=1, **QUIET)
    return model


BUILDERS = {
    "MultiViewModel": _multiview,
    "ATACDiffModel": _atacdiff,
    "AtacformerModel": _atacformer,
    "CRAFTModel": _craft,
}


@pytest.fixture(scope="module", params=list(BUILDERS))
def model(request, mdata):
    return BUILDERS[request.param](mdata)


@pytest.fixture(scope="module")
def atacformer(mdata):
    return _atacformer(mdata)


def test_a_model_comes_back_with_its_data(model, tmp_path):
    folder = tmp_path / "hub"
    atacvi.hub.export_model(model, folder, **CARD, metrics={"ARI": 0.25})
    hub_model = HubModel(str(folder))  # reads card and metadata from the folder alone
    again = hub_model.model
    assert type(again) is type(model)
    assert again.adata is not model.adata
    assert list(hub_model.adata.obs_names) == list(model.adata.obs_names)
    np.testing.assert_array_equal(
        again.get_latent_representation(), model.get_latent_representation()
    )


def test_a_model_comes_back_without_its_data(model, tmp_path):
    folder = tmp_path / "hub"
    atacvi.hub.export_model(model, folder, **CARD, with_data=False)
    assert not list(folder.glob("*.h5*"))
    hub_model = HubModel(str(folder))
    hub_model.load_model(adata=model.adata.copy())
    np.testing.assert_array_equal(
        hub_model.model.get_latent_representation(), model.get_latent_representation()
    )


def test_the_card_names_model_data_metrics_and_versions(model, tmp_path):
    hub_model = atacvi.hub.export_model(
        model, tmp_path / "hub", **CARD, metrics={"held out": {"AUROC": 0.87654}}, tissues=["blood"]
    )
    card = HubModel(hub_model.local_dir).model_card
    name = type(model).__name__
    assert card.data.license == "cc0-1.0"
    wanted = {f"model_cls_name:{name}", f"atacvi_version:{atacvi.__version__}", "tissue:blood"}
    assert wanted | {"modality:atac"} <= set(card.data.tags)
    assert CARD["description"] in card.text
    assert "| cells | 90 |" in card.text
    assert "### held out" in card.text
    assert "| AUROC | 0.8765 |" in card.text
    assert f"| torch | {version('torch')} |" in card.text


def test_metadata_lead_to_the_public_class(atacformer, tmp_path):
    atacvi.hub.export_model(atacformer, tmp_path / "hub", **CARD)
    metadata = json.loads((tmp_path / "hub" / "_scvi_required_metadata.json").read_text())
    assert metadata["model_cls_name"] == "AtacformerModel"
    assert metadata["model_parent_module"] == "atacvi.models"


def test_a_folder_is_not_overwritten_unasked(atacformer, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        atacvi.hub.export_model(atacformer, tmp_path, **CARD)
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    atacvi.hub.export_model(atacformer, tmp_path, **CARD, overwrite=True)
    assert "AtacformerModel" in (tmp_path / "README.md").read_text()


def test_nothing_is_written_before_the_card_is_complete(atacformer, tmp_path):
    folder = tmp_path / "hub"
    with pytest.raises(ValueError, match="description"):
        atacvi.hub.export_model(atacformer, folder, license="mit", description=" ")
    with pytest.raises(ValueError, match=r"metrics\['ARI'\] is a list"):
        atacvi.hub.export_model(atacformer, folder, **CARD, metrics={"ARI": [1.0]})
    assert not folder.exists()


def test_an_untrained_model_is_refused(mdata, tmp_path):
    data = mdata["atac"].copy()
    atacvi.AtacformerModel.setup_anndata(data)
    with pytest.raises(RuntimeError, match="not trained"):
        atacvi.hub.export_model(atacvi.AtacformerModel(data, **SMALL), tmp_path / "hub", **CARD)


def test_a_model_without_data_goes_without_them(atacformer, tmp_path):
    atacformer.save_pretrained(tmp_path / "checkpoint")
    bare = atacvi.AtacformerModel.from_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="with_data=False"):
        atacvi.hub.export_model(bare, tmp_path / "hub", **CARD)


def test_a_card_lies_beside_a_public_checkpoint(atacformer, tmp_path):
    atacformer.save_pretrained(tmp_path)
    atacvi.hub.model_card(atacformer, **CARD).save(tmp_path / "README.md")
    again = atacvi.AtacformerModel.from_pretrained(tmp_path)
    cells = atacformer.adata[:5].copy()
    np.testing.assert_allclose(
        again.get_latent_representation(cells),
        atacformer.get_latent_representation(indices=range(5)),
        atol=1e-6,
    )


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="is a dict"):
        atacvi.hub.model_card({}, **CARD)


def test_without_the_library_the_error_names_the_extra(atacformer, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"atacvi\[hub\]"):
        atacvi.hub.export_model(atacformer, tmp_path / "hub", **CARD)
    assert not (tmp_path / "hub").exists()
