"""Getters of ATACDiffModel: latents, imputation, comparison; and setup."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from mudata import MuData
from sklearn.metrics import homogeneity_score

import atacvi
from atacvi._compat import without_pull
from atacvi.diffusion import cell_generators, draw_noise
from atacvi.modules import SamplerOptions

from .planted_peaks import N_CELLS, N_PEAKS, TINY, build, marker_shares, planted, train, trained

Model = atacvi.ATACDiffModel


@pytest.fixture(scope="module")
def model():
    return trained()


# ---- latents --------------------------------------------------------------------------------


def test_spaces(model):
    z, h = (model.get_latent_representation(space=space) for space in ("aux", "ae"))
    assert z.shape == (N_CELLS, 5)
    assert h.shape == (N_CELLS, 6)
    unit = model.get_latent_representation(normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(unit, z / np.linalg.norm(z, axis=1, keepdims=True), rtol=1e-5)
    mean, variance = model.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(mean, z)
    drawn = model.get_latent_representation(give_mean=False)
    assert np.mean((drawn - z) ** 2 / variance) == pytest.approx(1.0, abs=0.15)
    with pytest.raises(ValueError, match="choose one of aux, ae"):
        model.get_latent_representation(space="z")


def test_clusters_hold_one_type_each(model):
    types = model.adata.obs["cell_type"]
    assert homogeneity_score(types, model.predict_clusters()) > 0.85


def test_paper_latents_lie_on_the_sphere():
    model = trained(preset="paper")
    norm = np.linalg.norm(model.get_latent_representation(space="ae"), axis=1)
    np.testing.assert_allclose(norm, 1.0, rtol=1e-4)
    assert model.stages_done_ == ["autoencoder", "auxiliary", "prior"]
    assert model.module.joint
    assert model.module.process.n_steps == 1000


# ---- accessibility --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ae", "aux", "diffusion", "partial"])
def test_expected_accessibility_knows_the_types(model, mode):
    values = model.impute(mode=mode, n_samples=2)
    assert values.shape == (N_CELLS, N_PEAKS)
    assert (values.to_numpy() >= 0).all()
    types = np.asarray(model.adata.obs["cell_type"])
    first = values.to_numpy()[types == "B cell"].mean(0)
    assert first[:60].mean() > 3 * first[80:140].mean()


def test_partial_diffusion_from_the_data_is_the_autoencoder(model):
    plain = model.impute(mode="ae")
    np.testing.assert_allclose(model.impute(mode="partial", t_start=0.0), plain, rtol=1e-4)
    moved = model.impute(mode="partial", t_start=0.3)
    assert np.abs(moved / plain - 1).to_numpy().mean() > 0.01


def test_partial_diffusion_from_noise_is_generation_given_the_cell(model):
    whole = model.impute(mode="diffusion", seed=3)
    np.testing.assert_array_equal(model.impute(mode="partial", t_start=1.0, seed=3), whole)
    # It is what `generate` decodes: the same h from the same noise
    cells = np.arange(5)
    out = next(iter(model._inferred(model.adata, cells, None)))[1]
    generators = cell_generators(3, [int(c) * 1_000_003 for c in cells])
    noise = draw_noise((5, 6), generators)
    batch = out["batch"]
    with torch.inference_mode():
        h = model.module.sample_latents(
            out["auxiliary"].mean,
            batch.label,
            batch.batch,
            batch.depth.view(-1),
            noise,
            SamplerOptions(),
        )
        vector = model.module.autoencoder.decode(h, batch.covariates)
        expected = model.module.peak_log_rates(vector).exp() * model.module.atac_median_depth
    np.testing.assert_allclose(whole.iloc[:5], expected, rtol=1e-3)


def test_draws_do_not_depend_on_minibatches_and_differ_by_seed(model):
    one, two = (model.impute(mode="partial", n_samples=2, batch_size=b) for b in (240, 7))
    np.testing.assert_allclose(one, two, rtol=2e-3)
    assert not np.allclose(one, model.impute(mode="partial", n_samples=2, seed=1), rtol=1e-3)
    part = model.impute(indices=[7, 3], mode="partial", n_samples=2)
    np.testing.assert_allclose(part, one.iloc[[7, 3]], rtol=2e-3)


def test_more_draws_vary_less(model):
    single, many = (
        [model.denoise(indices=range(20), n_samples=n, t_start=0.6, seed=s) for s in (0, 1)]
        for n in (1, 16)
    )
    differences = [np.abs(np.log(a / b)).to_numpy().mean() for a, b in (single, many)]
    assert differences[1] < 0.5 * differences[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "vae"}, r"mode='vae'.*ae, aux, diffusion, partial"),
        ({"mode": "partial", "t_start": 1.5}, r"t_start=1.5.*between 0.*and 1"),
        ({"mode": "diffusion", "guidance_scale": -0.5}, "guidance scale"),
        ({"library_size": 0.0}, "library_size=0.0"),
        ({"transform_batch": "three"}, "'three' is not a batch"),
        ({"n_samples": 0}, "n_samples=0"),
    ],
)
def test_arguments_that_cannot_be(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.impute(**arguments)


def test_differential_accessibility_finds_the_planted_peaks(model):
    table = model.differential_accessibility(
        groupby="cell_type", group1="B cell", n_samples_overall=200, silent=True
    )
    rank = {name: i for i, name in enumerate(table.sort_values("effect_size").index)}
    own = np.mean([rank[name] for name in model.region_names[:60]])
    other = np.mean([rank[name] for name in model.region_names[80:140]])
    assert abs(own - other) > 100
    assert (table.loc[model.region_names[:60], "prob_da"] > 0.5).mean() > 0.8


# ---- setup ----------------------------------------------------------------------------------


def test_null_label_is_the_last_wherever_its_name_stands():
    adata = planted(60)
    adata.obs["label"] = adata.obs["label"].replace("unlabeled", "Missing")
    model = build(adata, {"labels_key": "label", "unlabeled_category": "Missing"})
    assert model.module.n_labels == 3
    assert list(model._label_names())[-1] == "Missing"
    train(model, 1)
    missing = np.flatnonzero(adata.obs["label"] == "Missing")
    batches = [model.module.read_batch(t) for _, t in model._minibatches(adata, missing, None)]
    assert (torch.cat([batch.label for batch in batches]) == 3).all()
    drawn = model.generate(300, seed=0).obs["label"]  # as often as cells have it, or none
    for label, share in adata.obs["label"].value_counts(normalize=True).items():
        assert (drawn == label).mean() == pytest.approx(share, abs=0.1)
    with pytest.raises(ValueError, match="'Missing'"):
        model.generate(2, labels="Missing")


def test_a_modality_of_a_mudata_is_the_same_as_an_anndata():
    adata = planted(90)
    with without_pull():
        mdata = MuData({"peaks": adata.copy()})
        mdata.obs["batch"] = adata.obs["batch"]
    Model.setup_mudata(
        mdata,
        batch_key="batch",
        labels_key="label",
        modalities={"layer": "peaks", "labels_key": "peaks"},
    )
    scvi.settings.seed = 0
    paired = train(Model(mdata, **TINY), 1)
    alone = train(build(adata), 1)
    np.testing.assert_array_equal(
        paired.get_latent_representation(), alone.get_latent_representation()
    )
    assert (paired.generate(3, labels="B cell").X != alone.generate(3, labels="B cell").X).nnz == 0


def test_another_view_enters_as_a_condition():
    adata = planted(90)
    adata.obsm["X_rna"] = np.eye(3)[adata.obs["cell_type"].cat.codes].astype(np.float32)
    model = train(build(adata, {"condition_key": "X_rna"}, n_clusters=3, n_spectral=0), 2)
    before = model.get_latent_representation()
    changed = adata.copy()
    changed.obsm["X_rna"] = np.zeros((90, 3), dtype=np.float32)
    assert not np.allclose(model.get_latent_representation(changed), before)
    del changed.obsm["X_rna"]
    with pytest.raises((KeyError, ValueError), match="X_rna"):
        model.get_latent_representation(changed)


@pytest.mark.parametrize(
    ("change", "setup", "error", "message"),
    [
        (None, {"condition_key": "X_rna"}, KeyError, r"X_rna.*not in adata.obsm"),
        (("obsm", np.full((30, 2), np.inf)), {"condition_key": "X"}, ValueError, "not finite"),
        (("obsm", np.array([["a", "b"]] * 30)), {"condition_key": "X"}, ValueError, "numeric"),
        (("size", 0.0), {"size_factor_key": "size"}, ValueError, "size"),
        (None, {"counts": "reads"}, ValueError, r"counts='reads'.*fragments, insertions"),
        (None, {"batch_key": "donor"}, KeyError, "donor"),
        (None, {"labels_key": "donor"}, KeyError, "donor"),
    ],
)
def test_setup_is_refused_before_anything_is_written(change, setup, error, message):
    adata = planted(30)
    if change is not None and change[0] == "obsm":
        adata.obsm["X"] = change[1]
    elif change is not None:
        adata.obs["size"] = change[1]
    columns = list(adata.obs.columns)
    with pytest.raises(error, match=message):
        Model.setup_anndata(adata, **setup)
    assert list(adata.obs.columns) == columns
    with without_pull():
        mdata = MuData({"atac": adata.copy()})
    places = {key: "atac" for key in setup if key != "counts"}
    with pytest.raises(error, match=message.replace("in adata", "in the object")):
        Model.setup_mudata(mdata, **setup, modalities={"layer": "atac", **places})


def test_a_size_factor_is_the_depth():
    adata = planted(60)
    adata.obs["size"] = 33.0
    model = train(build(adata, {"size_factor_key": "size"}, n_clusters=3), 1)
    assert (model.generate(indices=[0, 1], seed=0).obs["library_size"] == 33).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "best"}, r"preset='best'.*default, paper"),
        ({"n_latent": 0}, "n_latent=0"),
        ({"n_clusters": -1}, "n_clusters=-1"),
        ({"likelihood": "gaussian"}, "likelihood='gaussian'.*poisson, bernoulli, zip"),
    ],
)
def test_models_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(planted(30), **arguments)


def test_registry_without_data(model):
    empty = Model(registry=model.registry, **TINY)
    assert empty.module.n_peaks == N_PEAKS
    assert empty.module.n_labels == 3
    assert f"{N_PEAKS} peaks" in empty._model_summary_string


def test_planted_cells_tell_their_types():
    """What the tests of recovery rest on."""
    adata = planted()
    shares = marker_shares(adata.X)
    own = shares[np.arange(N_CELLS), adata.obs["cell_type"].cat.codes]
    assert own.mean() > 0.55
    assert isinstance(adata.obs["cell_type"].dtype, pd.CategoricalDtype)
