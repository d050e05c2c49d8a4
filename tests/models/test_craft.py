"""CRAFTModel: setup, training, embeddings, saving."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from atacvi import metrics
from atacvi._compat import without_pull
from atacvi.models import AtacformerModel, CRAFTModel
from atacvi.regions import Universe

from .craft_pairs import N_CELLS, N_GENES, QUIET, TINY, build, simulate, train


@pytest.fixture(scope="module")
def everything():
    return simulate()


@pytest.fixture(scope="module")
def pairs(everything):
    return everything[:N_CELLS].copy()


@pytest.fixture(scope="module")
def query(everything):
    return everything[N_CELLS:].copy()


@pytest.fixture(scope="module")
def model(pairs):
    CRAFTModel.setup_mudata(pairs, batch_key="batch", labels_key="cell_type")
    return train(build(pairs))


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def assert_same_weights(one, two):
    first, second = weights(one), weights(two)
    assert set(first) == set(second)
    assert not [name for name in first if not torch.equal(first[name], second[name])]


# ---- what is learnt -------------------------------------------------------------------------


def test_held_out_cells_find_their_other_modality(model, query):
    rna, atac = (model.get_latent_representation(query, modality=m) for m in ("rna", "atac"))
    assert metrics.foscttm(rna, atac) < 0.2
    assert metrics.recall_at_k(atac, rna, [10])[10] > 2 * 10 / query.n_obs
    assert metrics.modality_gap(rna, atac) < 0.25


def test_a_training_epoch_is_kept_only_if_held_out_cells_gain(pairs):
    CRAFTModel.setup_mudata(pairs)
    harmful = train(build(pairs), lr=1.0, stages=["alignment"])
    start = train(build(pairs), max_epochs=0, stages=["alignment"])
    rna, atac = (harmful.get_latent_representation(modality=m) for m in ("rna", "atac"))
    assert harmful.history["probe_contrast"].max().item() < harmful.start_scores_["contrast"]
    np.testing.assert_array_equal(rna, start.get_latent_representation(modality="rna"))
    np.testing.assert_array_equal(atac, start.get_latent_representation(modality="atac"))


@pytest.mark.slow
def test_training_lowers_the_held_out_contrast_of_a_random_start(pairs):
    CRAFTModel.setup_mudata(pairs)
    model = build(pairs)
    model.train(6, start="random", stages=["alignment"], batch_size=64, lr=5e-3, **QUIET)
    assert model.history["probe_contrast"].max().item() > model.start_scores_["contrast"] + 0.05
    assert float(model.module.logit_scale.detach()) <= 4.6052 + 1e-6


def test_history_is_one(model):
    history = model.history
    for name in ("train_loss", "validation_loss", "alignment_loss_train", "imputation_nll_train",
                 "probe_contrast", "probe_foscttm", "temperature_train"):  # fmt: skip
        assert name in history
    assert len(history["train_loss"]) == len(history["alignment_loss_train"]) + len(
        history["imputation_nll_train"]
    )
    assert model.is_trained
    assert not set(model.train_indices) & set(model.validation_indices)


# ---- conformance ----------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["rna", "atac", "joint"])
def test_latent_is_of_unit_length_and_knows_no_minibatch(model, query, modality):
    found = model.get_latent_representation(query, modality=modality)
    assert found.shape == (query.n_obs, TINY["n_latent"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    chosen = [7, 3, 3]
    part = model.get_latent_representation(query, modality, chosen, batch_size=2)
    np.testing.assert_allclose(part, found[chosen], atol=1e-5)
    assert model.get_latent_representation(query, modality, []).shape == (0, TINY["n_latent"])


def test_one_modality_is_enough_for_its_latent(model, query):
    rna, atac = query["rna"].copy(), query["atac"].copy()
    atac.obsm.clear()
    np.testing.assert_array_equal(
        model.get_latent_representation(rna, modality="rna"),
        model.get_latent_representation(query, modality="rna"),
    )
    np.testing.assert_allclose(
        model.get_latent_representation(atac, modality="atac"),
        model.get_latent_representation(query, modality="atac"),
        atol=1e-6,
    )
    assert "X_tokens" not in atac.obsm


def test_the_same_seed_gives_the_same_model(pairs, model):
    CRAFTModel.setup_mudata(pairs, batch_key="batch", labels_key="cell_type")
    assert_same_weights(train(build(pairs)), model)
    other = train(build(pairs, seed=1))
    one, two = (x.module.component_projection.weight for x in (other, model))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("with_data", [True, False])
def test_save_and_load(model, pairs, query, tmp_path, with_data):
    model.save(str(tmp_path / "m"))
    loaded = CRAFTModel.load(
        str(tmp_path / "m"), adata=pairs.copy() if with_data else False, accelerator="cpu"
    )
    assert_same_weights(loaded, model)
    for modality in ("rna", "atac"):
        np.testing.assert_allclose(
            loaded.get_latent_representation(query, modality=modality),
            model.get_latent_representation(query, modality=modality),
            atol=1e-6,
        )
    for method in ["decoder", "ridge"] + ["retrieval"] * with_data:
        np.testing.assert_allclose(
            loaded.impute_rna(query, method=method),
            model.impute_rna(query, method=method),
            atol=1e-5,
        )


@pytest.mark.slow
def test_a_stopped_run_goes_on(pairs, tmp_path):
    class Stop(Exception):
        pass

    from lightning.pytorch.callbacks import Callback

    class StopAfter(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise Stop

    options = {"max_epochs": 3, "imputation_epochs": 2}
    CRAFTModel.setup_mudata(pairs)
    whole = train(build(pairs), **options)
    with pytest.raises(Stop):
        train(build(pairs), **options, checkpoint_dir=str(tmp_path), callbacks=[StopAfter()])
    resumed = train(build(pairs), **options, checkpoint_dir=str(tmp_path), resume=True)
    assert_same_weights(resumed, whole)
    again = train(build(pairs), **options, checkpoint_dir=str(tmp_path), resume=True)
    assert_same_weights(again, whole)


def test_public_layout_round_trip(model, query, tmp_path):
    from safetensors import safe_open

    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert file.get_slice("gene_projection.weight").get_shape() == [12, 12]
        assert file.get_slice("atac_projection.weight").get_shape() == [12, 16]
        assert file.get_slice("logit_scale").get_shape() == []
    assert "atac_encoder.embeddings.token_embeddings.weight" in names
    assert "atac_encoder.encoder.layers.0.self_attn.in_proj_weight" in names
    loaded = CRAFTModel.from_pretrained(tmp_path)
    for modality in ("rna", "atac"):
        np.testing.assert_allclose(
            loaded.get_latent_representation(query, modality=modality),
            model.get_latent_representation(query, modality=modality),
            atol=1e-6,
        )
    for method in ("decoder", "ridge"):
        np.testing.assert_allclose(
            loaded.impute_rna(query, method=method),
            model.impute_rna(query, method=method),
            atol=1e-5,
        )
    with pytest.raises(ValueError, match="holds no data"):
        loaded.impute_rna(query, method="retrieval")


def test_the_encoder_of_accessibility_can_be_taken_over(model, pairs, query, tmp_path):
    cells = pairs["atac"].copy()
    cells.obsm.clear()
    AtacformerModel.setup_anndata(cells)
    sizes = {"n_embed": 16, "n_layers": 1, "n_heads": 2, "n_feedforward": 16}
    source = AtacformerModel(cells, **sizes)
    source.pretrain(max_epochs=1, **QUIET)
    source.save_pretrained(tmp_path)
    CRAFTModel.setup_mudata(pairs)
    for given in (source, tmp_path):
        taken = train(build(pairs, pretrained=given), max_epochs=0)
        np.testing.assert_allclose(
            taken.atac_side._embed(
                taken._tokens(query), np.arange(5), max_tokens=None, normalize=False
            ),
            source.get_latent_representation(query["atac"][:5], normalize=False),
            atol=1e-5,
        )


# ---- options --------------------------------------------------------------------------------


def test_a_given_embedding_of_the_rna(everything):
    data = everything.copy()
    data["rna"].obsm["X_given"] = np.log1p(data["rna"].X.toarray()[:, :10])
    CRAFTModel.setup_mudata(data)
    with pytest.raises(ValueError, match="rna_obsm='X_pca'"):
        build(data, rna_encoder="obsm")
    CRAFTModel.setup_mudata(data, rna_obsm="X_given")
    model = train(build(data, rna_encoder="obsm"), max_epochs=1)
    rna = model.get_latent_representation(data["rna"][:9], modality="rna")
    np.testing.assert_allclose(rna, model.get_latent_representation(modality="rna")[:9], atol=1e-5)
    other = data["rna"][:5].copy()
    del other.obsm["X_given"]
    with pytest.raises(KeyError, match="X_given"):
        model.get_latent_representation(other, modality="rna")


@pytest.mark.parametrize("false_negatives", ["labels", "clusters"])
def test_false_negatives_are_left_out(pairs, false_negatives):
    CRAFTModel.setup_mudata(pairs, batch_key="batch", labels_key="cell_type")
    model = build(pairs)
    tokens, rna = model._tokens(None), model._rna_input(None)[0]
    model._start(tokens, rna, (np.arange(200), np.arange(200, 240)), "canonical", None)
    columns = model._pair_columns(tokens, rna, false_negatives, "batch")
    assert set(columns) == {"batch", "group"}
    if false_negatives == "labels":
        codes = pd.factorize(pairs.obs["cell_type"], sort=True)[0]
        np.testing.assert_array_equal(columns["group"], codes)
    else:
        assert len(np.unique(columns["group"])) > 10
    train(model, max_epochs=1, stages=["alignment"], false_negatives=false_negatives)
    assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()


def test_frozen_encoders_stay(pairs):
    CRAFTModel.setup_mudata(pairs)
    model = train(build(pairs), max_epochs=0, stages=["alignment"])
    before = weights(model)
    train(model, early_stopping=False, freeze_encoders=True, stages=["alignment"])
    changed = {n for n, v in weights(model).items() if not torch.equal(v, before[n])}
    assert {"gene_projection.weight", "component_projection.weight"} <= changed
    fixed = ("gene_encoder.", "atac_encoder.", "atac_projection.", "component_encoder.")
    assert not [n for n in changed if n.startswith(fixed)]
    assert all(p.requires_grad for p in model.module.gene_encoder.parameters())


# ---- what is refused ------------------------------------------------------------------------


def test_unpaired_cells_are_named_or_left_out(everything):
    data = everything[:120].copy()
    counts = data["rna"].X.tolil()
    counts[5] = 0
    data["rna"].X = counts.tocsr()
    counts = data["atac"].X.tolil()
    counts[7] = 0
    data["atac"].X = counts.tocsr()
    with pytest.raises(ValueError, match=f"2 of 120 cells.*{data.obs_names[5]}.*not paired"):
        CRAFTModel.setup_mudata(data)
    assert "X_tokens" not in data["atac"].obsm
    CRAFTModel.setup_mudata(data, allow_missing=True)
    model = train(build(data), max_epochs=1)
    assert not {5, 7} & {*model.train_indices, *model.validation_indices}
    joint = model.get_latent_representation()
    np.testing.assert_allclose(
        joint[5], model.get_latent_representation(modality="atac")[5], atol=1e-6
    )
    np.testing.assert_allclose(
        joint[7], model.get_latent_representation(modality="rna")[7], atol=1e-6
    )
    found = model.retrieve(k=120)
    assert 5 not in found.indices


def _shuffled(data):
    rna = data["rna"][::-1].copy()
    with without_pull():
        return mudata.MuData({"rna": rna, "atac": data["atac"].copy()})


@pytest.mark.parametrize(
    ("change", "kwargs", "error", "message"),
    [
        (lambda d: d, {"batch_key": "bach"}, KeyError, "did you mean 'batch'"),
        (lambda d: d, {"rna_layer": "counts"}, KeyError, "rna_layer"),
        (lambda d: d, {"modalities": {"rna_layer": "gex"}}, KeyError, "gex"),
        (lambda d: d, {"rna_obsm": "X_pca"}, KeyError, "X_pca"),
        (lambda d: d["rna"], {}, TypeError, "MuData"),
        (_shuffled, {}, ValueError, "order"),
    ],
)
def test_what_cannot_be_set_up(everything, change, kwargs, error, message):
    data = change(everything[:40].copy())
    with pytest.raises(error, match=message):
        CRAFTModel.setup_mudata(data, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"stages": ["imputation"]}, RuntimeError, "not aligned"),
        ({"stages": ["pretraining"]}, ValueError, "stages="),
        ({"start": "spectral"}, ValueError, "start='spectral'"),
        ({"false_negatives": "labels"}, ValueError, "needs labels"),
        ({"batch_size": 1}, ValueError, "batch_size=1"),
        ({"resume": True}, ValueError, "checkpoint_dir"),
        ({"token_dropout": 1.0}, ValueError, "token_dropout=1.0"),
    ],
)
def test_what_cannot_be_trained(everything, kwargs, error, message):
    data = everything[:40].copy()
    CRAFTModel.setup_mudata(data)
    with pytest.raises(error, match=message):
        build(data).train(**{**QUIET, **kwargs})


def test_what_cannot_be_embedded(model, query, pairs):
    elsewhere = query["atac"].copy()
    elsewhere.obsm.clear()
    elsewhere.X = sp.csr_matrix(elsewhere.shape, dtype=np.float32)
    with pytest.raises(ValueError, match="None of the 60 cells holds a region"):
        model.get_latent_representation(elsewhere, modality="atac")
    renamed = query["rna"].copy()
    renamed.var_names = [f"other{i}" for i in range(N_GENES)]
    with pytest.raises(ValueError, match=f"0 of the model's {N_GENES} genes"):
        model.get_latent_representation(renamed, modality="rna")
    with pytest.raises(IndexError, match="60 cells"):
        model.get_latent_representation(query, indices=[60])
    with pytest.raises(ValueError, match="modality='both'"):
        model.get_latent_representation(query, modality="both")
    with pytest.raises(NotImplementedError, match="setup_mudata"):
        CRAFTModel.setup_anndata(anndata.AnnData(np.ones((2, 2))))
    with pytest.raises(ValueError, match="no modality 'atac'"), without_pull():
        model.get_latent_representation(
            mudata.MuData({"rna": query["rna"].copy()}), modality="atac"
        )
    with without_pull():
        untrained = pairs.copy()  # a second setup of the same object is the trained model's, too
    CRAFTModel.setup_mudata(untrained)
    with pytest.raises(RuntimeError, match="not trained"):
        build(untrained).get_latent_representation()


def test_what_is_given_as_the_wrong_modality(model, query):
    with pytest.raises(ValueError, match="modality='joint' needs both"):
        model.get_latent_representation(query["atac"])
    with pytest.raises(
        ValueError, match=f"{N_GENES} of the model's {N_GENES} genes.*look like RNA"
    ):
        model.get_latent_representation(query["rna"], "atac")
    with pytest.raises(ValueError, match="hold .* genes|look like RNA"):
        model.annotate(query["rna"], labels_key="cell_type")
    for use in (model.impute_rna, model.get_latent_representation):
        with pytest.raises(ValueError, match="batch_size=0"):
            use(query, batch_size=0)


def test_a_folder_whose_files_do_not_fit(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    weights = (tmp_path / "model.safetensors").read_bytes()
    universe = (tmp_path / "universe.bed.gz").read_bytes()
    Universe(["chr1:0-5", "chr1:9-20"]).save(tmp_path)
    with pytest.raises(ValueError, match="has 2 regions.*not the one that the weights"):
        CRAFTModel.from_pretrained(tmp_path)
    (tmp_path / "universe.bed.gz").write_bytes(universe)
    (tmp_path / "model.safetensors").write_bytes(weights[:300])
    with pytest.raises(ValueError, match="may be truncated"):
        CRAFTModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(config[:100])
    with pytest.raises(ValueError, match="is not JSON"):
        CRAFTModel.from_pretrained(tmp_path)


def test_a_model_without_data(model, query, tmp_path, capsys):
    model.save_pretrained(tmp_path / "checkpoint")
    alone = CRAFTModel.from_pretrained(tmp_path / "checkpoint")
    for use in (alone.view_anndata_setup, alone.train, lambda: alone.retrieve(query)):
        with pytest.raises(ValueError, match="holds no data"):
            use()
    names = alone.get_var_names()
    assert list(names["rna"]) == list(query["rna"].var_names)
    alone.save(str(tmp_path / "saved"))
    again = CRAFTModel.load(str(tmp_path / "saved"), adata=False, accelerator="cpu")
    np.testing.assert_array_equal(again.impute_rna(query), alone.impute_rna(query))


def test_no_epochs_and_the_plan(everything):
    data = everything[:80].copy()
    CRAFTModel.setup_mudata(data)
    model = train(build(data), max_epochs=0, imputation_epochs=0)
    assert model.is_trained
    assert model.history == {}
    assert len(model.train_indices) == 72
    for kwargs, message in (
        ({"max_epochs": -1}, "max_epochs=-1"),
        ({"imputation_epochs": -2}, "imputation_epochs=-2"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"n_workers": -1}, "n_workers=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            train(model, **kwargs)
    with pytest.raises(TypeError, match="'optim'.*It takes"):
        train(model, plan_kwargs={"optim": "Adam"})
    with pytest.raises(ValueError, match="is a view"):
        CRAFTModel.setup_mudata(everything[:40])
    with pytest.raises(TypeError, match="pretrained is int"):
        build(data, pretrained=3)


def test_genes_in_another_order_or_in_part(model, query):
    expected = model.get_latent_representation(query, modality="rna")
    turned = query["rna"][:, ::-1].copy()
    np.testing.assert_allclose(
        model.get_latent_representation(turned, modality="rna"), expected, atol=1e-5
    )
    part = model.get_latent_representation(query["rna"][:, :50].copy(), modality="rna")
    assert (part * expected).sum(axis=1).mean() > 0.8


# ---- linear components and the transformer --------------------------------------------------


def test_the_transformer_takes_no_part_unless_asked_for(pairs, model, query):
    assert not model.module.uses_transformer
    CRAFTModel.setup_mudata(pairs, batch_key="batch", labels_key="cell_type")
    fresh = build(pairs).module.atac_encoder.state_dict()
    found = model.module.atac_encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in fresh.items())
    full = model.get_latent_representation(query, modality="atac")
    short = model.get_latent_representation(query, modality="atac", max_tokens=3)
    np.testing.assert_array_equal(full, short)  # linear components see all regions


@pytest.mark.parametrize("n_components", [0, 24])
def test_the_transformer_can_take_part(pairs, query, n_components):
    CRAFTModel.setup_mudata(pairs, batch_key="batch", labels_key="cell_type")
    given = {"use_transformer": True} if n_components else {}
    model = train(build(pairs, n_components=n_components), max_epochs=1, max_tokens=30, **given)
    assert model.module.uses_transformer
    assert len(model.module.component_centre) == n_components
    full = model.get_latent_representation(query, modality="atac")
    short = model.get_latent_representation(query, modality="atac", max_tokens=3)
    assert not np.allclose(full, short)
    rna = model.get_latent_representation(query, modality="rna")
    assert metrics.foscttm(rna, full) < 0.3


def test_something_must_see_accessibility(pairs):
    CRAFTModel.setup_mudata(pairs)
    with pytest.raises(ValueError, match="use_transformer=False leaves nothing"):
        train(build(pairs, n_components=0), use_transformer=False)


def test_the_epochs_of_the_decoder_are_bounded_by_those_given(pairs):
    CRAFTModel.setup_mudata(pairs)
    model = train(build(pairs), max_epochs=1, imputation_epochs=None, early_stopping=False)
    assert len(model.history["imputation_nll_train"].dropna()) == 1


def test_a_loss_that_is_not_finite_leaves_the_last_good_weights(pairs):
    from lightning.pytorch.callbacks import Callback

    class Break(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                with torch.no_grad():
                    pl_module.module.gene_projection.weight.fill_(float("nan"))

    CRAFTModel.setup_mudata(pairs)
    good = train(build(pairs), max_epochs=1, stages=["alignment"], early_stopping=False)
    broken = build(pairs)
    with pytest.raises(FloatingPointError, match="end of epoch 0"):
        train(broken, max_epochs=3, stages=["alignment"], callbacks=[Break()])
    assert set(weights(good)) == set(weights(broken))
    assert all(value.isfinite().all() for value in weights(broken).values())
