"""Tokens of data: made of peaks, made again, taken as they are; and who may import what of them."""

from __future__ import annotations

import ast
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import atacvi.models
from atacvi.data import tokenize_anndata
from atacvi.models import AtacformerModel
from atacvi.regions import Universe

from .planted_tokens import N_REGIONS, QUIET, build, planted_cells

WIDE = [f"chr1:{s}-{s + 9000}" for s in range(0, 400_000, 10_000)]


def tokens_of(adata, **kwargs):
    AtacformerModel.setup_anndata(adata, **kwargs)
    return adata.obsm["X_tokens"].toarray()


# ---- a second setup -------------------------------------------------------------------------


def test_a_second_setup_sees_changed_peaks_and_arguments():
    cells = planted_cells(40)
    tokens_of(cells)
    cells.X[:, :10] = 0
    assert not tokens_of(cells)[:, :10].any()
    cells.X.data[::2] = 2
    np.testing.assert_array_equal(tokens_of(cells, threshold=1), cells.X.toarray() > 1)
    part = cells[:, 20:].copy()
    assert tokens_of(part).shape == (40, N_REGIONS - 20)
    assert tokens_of(part, universe=WIDE).shape == (40, len(WIDE))
    # without a universe, that of the setup before stays
    assert tokens_of(part).shape == (40, len(WIDE))


def test_a_registration_that_fails_leaves_the_data_as_they_were(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("registration")

    new, known = planted_cells(40), planted_cells(40)
    AtacformerModel.setup_anndata(known)
    before = known.obsm["X_tokens"].copy()
    known.X[:, :10] = 0
    monkeypatch.setattr("scvi.data.AnnDataManager.register_fields", fail)
    for cells in (new, known):
        columns, slots = set(cells.obs), set(cells.uns)
        with pytest.raises(RuntimeError, match="registration"):
            AtacformerModel.setup_anndata(cells)
        assert set(cells.obs) == columns
        assert set(cells.uns) == slots
    assert "X_tokens" not in new.obsm
    assert (known.obsm["X_tokens"] != before).nnz == 0


def test_tokens_that_came_with_the_data_stay():
    cells = tokenize_anndata(planted_cells(40), WIDE)
    before = cells.obsm["X_tokens"].toarray()
    np.testing.assert_array_equal(tokens_of(cells), before)
    for kwargs in ({"threshold": 1}, {"layer": "counts"}):
        with pytest.raises(ValueError, match="holds tokens already.*del adata.obsm"):
            AtacformerModel.setup_anndata(cells, **kwargs)
    with pytest.raises(ValueError, match="another universe"):
        AtacformerModel.setup_anndata(cells, universe=WIDE[:5])


def test_two_sets_of_tokens_in_one_object():
    cells = planted_cells(60)
    AtacformerModel.setup_anndata(cells, tokens_key="wide", universe=WIDE)
    one = build(cells)
    AtacformerModel.setup_anndata(cells)
    two = build(cells)
    assert (len(one.universe), len(two.universe)) == (len(WIDE), N_REGIONS)
    for model, width in ((one, len(WIDE)), (two, N_REGIONS)):
        model.pretrain(0, **QUIET)
        expected = model.get_latent_representation(planted_cells(60))
        np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-6)
        np.testing.assert_allclose(
            model.get_latent_representation(cells.copy()), expected, atol=1e-6
        )
        assert model._tokens_of(cells.copy())[0].shape == (60, width)


def test_a_query_that_was_set_up_for_another_model_is_mapped():
    cells, query = planted_cells(60), planted_cells(20, seed=3)
    AtacformerModel.setup_anndata(cells, universe=WIDE)
    model = build(cells)
    model.pretrain(0, **QUIET)
    expected = model.get_latent_representation(query.copy())
    AtacformerModel.setup_anndata(query)  # its own peaks
    np.testing.assert_array_equal(model.get_latent_representation(query), expected)


def test_peaks_that_overlap_each_other_stay_themselves():
    """At the setup each peak is a region; the same peaks of a query are the same regions."""
    rng = np.random.default_rng(0)
    var = pd.DataFrame(index=[f"chr1:{s}-{s + 150}" for s in range(0, 4000, 100)])
    cells = anndata.AnnData(sp.csr_matrix(rng.poisson(0.4, (60, 40)).astype(np.float32)), var=var)
    AtacformerModel.setup_anndata(cells)
    model = build(cells)
    model.pretrain(0, **QUIET)
    query = anndata.AnnData(cells.X.copy(), var=var)
    np.testing.assert_array_equal(model._tokens_of(query)[0].toarray(), cells.X.toarray() > 0)
    np.testing.assert_array_equal(
        model.get_latent_representation(query), model.get_latent_representation()
    )
    part = query[:, 5:25].copy()
    np.testing.assert_array_equal(
        model._tokens_of(part)[0].toarray()[:, 5:25], part.X.toarray() > 0
    )


# ---- what is refused ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    cells = planted_cells(60)
    AtacformerModel.setup_anndata(cells, labels_key="module", batch_key="batch")
    model = build(cells)
    model.pretrain(0, **QUIET)
    return model


def test_no_epochs_keep_the_start(model):
    assert model.is_trained
    assert model.history == {}
    assert len(model.train_indices) == 54
    with pytest.raises(ValueError, match="max_epochs=0"):
        model.finetune(max_epochs=0, **QUIET)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"max_epochs": -1}, ValueError, "max_epochs=-1"),
        ({"max_epochs": 1.5}, ValueError, "whole number"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"temperature": 0}, ValueError, "temperature=0"),
        ({"replaced_share": 2}, ValueError, "replaced_share=2"),
        ({"window": -5}, ValueError, "window=-5"),
        ({"probe_every": 0}, ValueError, "probe_every=0"),
        ({"early_stopping_patience": 0}, ValueError, "early_stopping_patience=0"),
        ({"n_workers": -1}, ValueError, "n_workers=-1"),
        ({"plan_kwargs": {"optim": "Adam"}}, TypeError, "'optim'.*It takes: .*lr"),
    ],
)
def test_wrong_arguments_are_named_before_training(model, kwargs, error, message):
    with pytest.raises(error, match=message):
        model.pretrain(**{"max_epochs": 1, **kwargs, **QUIET})


def test_unknown_fields_of_the_objectives(model):
    with pytest.raises(TypeError, match="'foo'; it takes: adversary"):
        model.finetune(objective_kwargs={"foo": 1}, **QUIET)
    with pytest.raises(ValueError, match="token_dropout=1"):
        model.finetune(token_dropout=1, **QUIET)


def test_plan_arguments_go_before_those_of_the_model(model):
    data = planted_cells(60)
    AtacformerModel.setup_anndata(data)
    learner = build(data)
    learner.pretrain(0, **QUIET)
    before = learner.module.encoder.layers[0].linear1.weight.clone()
    learner.pretrain(1, lr=1.0, plan_kwargs={"lr": 0.0, "weight_decay": 0.0}, **QUIET)
    assert (learner.module.encoder.layers[0].linear1.weight == before).all()


def test_a_query_without_any_known_region(model):
    closed = planted_cells(5)
    closed.X = sp.csr_matrix(closed.shape, dtype=np.float32)
    with pytest.raises(
        ValueError, match="None of the 5 cells holds a region that the model embeds"
    ):
        model.get_latent_representation(closed)
    with pytest.raises(TypeError, match="this is str"):
        model.get_latent_representation("cells.h5ad")
    with pytest.raises(ValueError, match="k=0"):
        model.map_query(planted_cells(5), k=0)
    with pytest.raises(ValueError, match="reject_below=2"):
        model.map_query(planted_cells(5), reject_below=2)


def test_a_category_of_the_unlabelled_that_no_cell_has(caplog):
    with caplog.at_level("WARNING"):
        AtacformerModel.setup_anndata(
            planted_cells(20), labels_key="module", unlabeled_category="??"
        )
    assert "unlabeled_category='??'" in caplog.text


@pytest.mark.parametrize("threshold", [-1, float("nan"), "1"])
def test_a_threshold_that_is_none(threshold):
    for use in (AtacformerModel.setup_anndata, lambda a, **k: tokenize_anndata(a, WIDE, **k)):
        with pytest.raises(ValueError, match="threshold="):
            use(planted_cells(5), threshold=threshold)


def test_what_stands_for_a_universe_or_a_checkpoint(tmp_path):
    assert AtacformerModel(universe=WIDE).universe == Universe(WIDE)
    Universe(WIDE).save(tmp_path)
    assert AtacformerModel(universe=tmp_path).universe == Universe(WIDE)
    cells = planted_cells(20)
    AtacformerModel.setup_anndata(cells)
    with pytest.raises(TypeError, match="int is no checkpoint"):
        AtacformerModel(cells, pretrained=3)
    with pytest.raises(TypeError, match="an AnnData is needed, this is ndarray"):
        tokenize_anndata(np.ones((2, 2)), WIDE)


def test_a_checkpoint_is_no_file(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        model.save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_model_without_data(model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "checkpoint")
    alone = AtacformerModel.from_pretrained(tmp_path / "checkpoint")
    for use in (alone.view_anndata_setup, lambda: alone.train(1, **QUIET)):
        with pytest.raises(ValueError, match="holds no data"):
            use()
    alone.view_anndata_setup(model.adata)
    assert "module" in capsys.readouterr().out
    assert list(alone.get_var_names()) == list(model.universe.names)
    alone.save(str(tmp_path / "saved"))
    again = AtacformerModel.load(str(tmp_path / "saved"), adata=False, accelerator="cpu")
    query = planted_cells(10, seed=5)
    np.testing.assert_array_equal(
        again.get_latent_representation(query), model.get_latent_representation(query)
    )


# ---- queries of a reference -----------------------------------------------------------------


def test_labels_and_batches_of_a_query(tmp_path):
    cells = planted_cells(120)
    cells.obs["known"] = cells.obs["module"].astype(str)
    cells.obs.loc[cells.obs_names[:20], "known"] = "?"
    setup = {"labels_key": "known", "batch_key": "batch", "unlabeled_category": "?"}
    AtacformerModel.setup_anndata(cells, **setup)
    reference = build(cells)
    with pytest.raises(ValueError, match="not trained"):
        AtacformerModel.load_query_data(planted_cells(5), reference)
    reference.train(1, task="multi", token_budget=800, **QUIET)
    query = planted_cells(30, seed=3)
    query.obs["batch"] = "new"
    with pytest.warns(UserWarning, match="Missing labels key"):
        mapped = AtacformerModel.load_query_data(query, reference, accelerator="cpu")
    assert (query.obs["known"] == "?").all()
    again = planted_cells(30, seed=3)
    np.testing.assert_array_equal(
        mapped.get_latent_representation(), reference.get_latent_representation(again)
    )
    pd.testing.assert_frame_equal(
        mapped.annotate(method="head"), reference.annotate(again, method="head")
    )
    with pytest.raises(KeyError, match="batch_key='batch' is not in adata.obs"):
        AtacformerModel.load_query_data(anndata.AnnData(again.X, var=again.var), reference)
    names = AtacformerModel.prepare_query_anndata(again, reference, True)
    assert list(names) == list(reference.universe.names)


def test_labels_that_the_reference_does_not_know(model):
    cells = planted_cells(120)
    AtacformerModel.setup_anndata(cells, labels_key="module", batch_key="batch")
    reference = build(cells)
    reference.train(1, task="classification", token_budget=800, **QUIET)
    query = planted_cells(30, seed=3)
    query.obs["module"] = ["m0", "new"] * 15
    mapped = AtacformerModel.load_query_data(query, reference, accelerator="cpu")
    with pytest.raises(RuntimeError, match="head is not trained"):
        mapped.annotate(method="head")


# ---- who imports what -----------------------------------------------------------------------


def test_models_do_not_import_each_others_files():
    """What models share has a home of its own; a file named after one model is that model's."""
    folder = Path(atacvi.models.__file__).parent
    owners = ("atacdiff", "atacformer", "craft", "multiview")

    def owner(module: str) -> str | None:
        stem = module.rpartition(".")[2].lstrip("_")
        return next((name for name in owners if stem.split("_")[0] == name), None)

    wrong = []
    for file in folder.glob("*.py"):
        mine = owner(file.stem)
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            is_internal = node.module.startswith("atacvi.models._")
            other = owner(node.module)
            if mine and is_internal and other not in (None, mine):
                wrong.append(f"{file.name} imports {node.module}")
    assert not wrong
    assert owner("_craft_latent") == "craft"
