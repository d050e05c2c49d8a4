"""Cells drawn from ATACDiffModel: what enters, what comes out, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import atacvi

from .planted_peaks import (
    N_PEAKS,
    TINY,
    TYPES,
    build,
    marker_shares,
    planted,
    recovered,
    train,
    trained,
    without_labels,
)


@pytest.fixture(scope="module")
def model():
    return trained()


# ---- what comes out -------------------------------------------------------------------------


def test_cells_are_described(model):
    cells = model.generate(7, labels="T cell", batch="two", seed=1)
    assert cells.shape == (7, N_PEAKS)
    assert sp.issparse(cells.X)
    assert list(cells.var_names) == list(model.region_names)
    assert (cells.obs["label"] == "T cell").all()
    assert (cells.obs["batch"] == "two").all()
    assert cells.obsm["X_latent"].shape == (7, 5)
    assert cells.obsm["X_ae"].shape == (7, 6)
    assert set(np.unique(cells.X.data)) == {1}
    drawn = np.asarray(cells.X.sum(1)).ravel()
    np.testing.assert_array_equal(drawn, cells.obs["library_size"].round().clip(1))


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "zip"])
def test_outputs_of_one_seed_belong_together(likelihood):
    model = trained(likelihood)
    options = {"n": 300, "seed": 3, "library_size": 40.0}
    counts, binary, chance, latent = (
        model.generate(**options, output=output)
        for output in ("counts", "binary", "probabilities", "latent")
    )
    assert latent.n_vars == 0
    for other in (binary, chance, latent):
        np.testing.assert_array_equal(other.obsm["X_ae"], counts.obsm["X_ae"])
    assert ((counts.X > 0) != (binary.X > 0)).nnz == 0
    assert isinstance(chance.X, np.ndarray)
    assert 0 <= chance.X.min() <= chance.X.max() <= 1
    expected, found = chance.X.mean(0), np.asarray((counts.X > 0).mean(0)).ravel()
    if likelihood == "bernoulli":  # conditioned on the number of open peaks
        expected = expected * found.sum() / expected.sum()
    error = np.sqrt(expected * (1 - expected) / 300)
    assert (np.abs(found - expected) < 5 * error + 0.02).all()


def test_drawn_cells_look_like_the_real_ones(model):
    real, drawn = model.adata.X, model.generate(600, seed=0).X
    assert drawn.sum() / 600 == pytest.approx((real > 0).sum() / real.shape[0], rel=0.15)
    frequency = [np.asarray((x > 0).mean(0)).ravel() for x in (real, drawn)]
    assert np.corrcoef(*frequency)[0, 1] > 0.85


# ---- seeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [None, "euler"])
def test_minibatches_do_not_matter(model, sampler):
    one, two = (model.generate(20, batch_size=b, sampler=sampler, seed=4) for b in (256, 3))
    np.testing.assert_array_equal(one.obsm["X_latent"], two.obsm["X_latent"])
    np.testing.assert_allclose(one.obsm["X_ae"], two.obsm["X_ae"], rtol=1e-3, atol=1e-4)
    assert (one.X != two.X).nnz <= 2  # rounding may move an event, no more


def test_seeds(model):
    one, again, other = (model.generate(20, seed=seed) for seed in (4, 4, 5))
    assert (one.X != again.X).nnz == 0
    assert (one.X != other.X).nnz > 20


def test_stochastic_samplers_draw_from_the_generator_of_the_cell():
    model = trained(preset="paper")
    options = {"n": 12, "sampler": "ddpm", "n_steps": 4, "output": "latent", "seed": 2}
    one, two = (model.generate(**options, batch_size=b) for b in (12, 5))
    np.testing.assert_allclose(one.obsm["X_ae"], two.obsm["X_ae"], rtol=1e-3, atol=1e-4)
    ddim = {**options, "sampler": "ddim"}
    plain, noisy = (model.generate(**ddim, eta=eta).obsm["X_ae"] for eta in (0.0, 1.0))
    assert not np.allclose(plain, noisy)


def test_same_cells_after_saving(model, tmp_path):
    model.save(str(tmp_path / "model"))
    loaded = atacvi.ATACDiffModel.load(str(tmp_path / "model"), model.adata, accelerator="cpu")
    one, two = (m.generate(15, labels="B cell", seed=6) for m in (model, loaded))
    assert (one.X != two.X).nnz == 0
    np.testing.assert_array_equal(one.obsm["X_ae"], two.obsm["X_ae"])
    assert loaded.stages_done_ == model.stages_done_


# ---- how far they lie apart ---------------------------------------------------------------------


def test_stretched_effects_change_peaks_and_no_latent(model):
    """`spread_matrix` acts on generated cells alone: denoising explains a cell as it is."""
    module = model.module
    matrix, centre = module.spread_matrix.clone(), module.spread_centre.clone()
    of_cells = model.denoise(indices=range(4), seed=0)
    options = {"n": 300, "seed": 2, "output": "probabilities"}
    try:
        found = {}
        for factor in (0.0, 1.0, 1.5):
            module.set_spread(factor * torch.eye(len(matrix)), centre)
            found[factor] = model.generate(**options)
        for cells in found.values():
            np.testing.assert_array_equal(cells.obsm["X_ae"], found[1.0].obsm["X_ae"])
        depth = found[0.0].obs["library_size"].to_numpy()
        rates = -np.log1p(-found[0.0].X.clip(max=1 - 1e-6)) / depth[:, None]
        np.testing.assert_allclose(rates, np.broadcast_to(rates[0], rates.shape), rtol=1e-3)
        apart = [np.log(cells.X).std(0).mean() for cells in found.values()]
        assert apart[0] < apart[1] < apart[2]
        np.testing.assert_array_equal(model.denoise(indices=range(4), seed=0), of_cells)
    finally:
        module.set_spread(matrix, centre)


def test_types_lie_as_far_apart_as_real_ones(model):
    """Shares of the markers of a type vary over cells as they do in real cells."""
    real = marker_shares(model.adata.X).std(0)
    drawn = marker_shares(model.generate(600, seed=4).X).std(0)
    np.testing.assert_allclose(drawn, real, rtol=0.2)


def test_models_saved_before_cells_were_stretched_are_drawn_from_as_they_were(model):
    saved = {k: v for k, v in model.module.state_dict().items() if not k.startswith("spread_")}
    fresh = build(planted(), n_clusters=model.module.n_clusters).module
    fresh.load_state_dict(saved)
    torch.testing.assert_close(fresh.spread_matrix, torch.eye(TINY["n_embed"]))
    h, batch = torch.randn(5, TINY["n_latent_ae"]), torch.tensor([0, 1, 0, 1, 0])
    plain = fresh.autoencoder.decode(h, fresh.average_covariates(batch))
    torch.testing.assert_close(fresh.generated_vectors(h, batch), plain)


# ---- conditions -----------------------------------------------------------------------------


def test_types_asked_for_are_drawn(model):
    labels = np.repeat(TYPES, 60)
    real = recovered(model.adata.X, model.adata.obs["cell_type"])
    assert real > 0.95
    assert recovered(model.generate(labels=labels, seed=0).X, labels) > 0.9 * real


def test_latents_between_types_exchanged_destroy_the_types(model):
    """z decides the type: of the same noise, cells with another's z are of that type."""
    types = np.asarray(model.adata.obs["cell_type"])
    z = model.get_latent_representation()
    own = model.generate(latent=z, seed=0)
    assert recovered(own.X, types) > 0.85
    order = np.random.default_rng(0).permutation(len(z))
    shuffled = model.generate(latent=z[order], seed=0)
    assert recovered(shuffled.X, types) < 0.5
    assert recovered(shuffled.X, types[order]) > 0.85


def test_cells_given_pass_on_what_is_known_of_them(model):
    cells = model.generate(indices=[5, 2, 9], seed=0)
    np.testing.assert_allclose(
        cells.obsm["X_latent"], model.get_latent_representation(indices=[5, 2, 9]), rtol=1e-5
    )
    opened = np.asarray((model.adata.X[[5, 2, 9]] > 0).sum(1)).ravel()
    np.testing.assert_array_equal(cells.obs["library_size"], opened)
    np.testing.assert_array_equal(cells.obs["batch"], model.adata.obs["batch"].iloc[[5, 2, 9]])
    np.testing.assert_array_equal(cells.obs["label"], model.adata.obs["label"].iloc[[5, 2, 9]])
    for given in ({"adata": model.adata}, {}):
        other = model.generate(**given, indices=[5, 2, 9], library_size="observed", seed=0)
        assert (other.X != cells.X).nnz == 0


def test_guidance(model):
    labels = np.repeat(TYPES, 40)
    plain = model.generate(labels=labels, seed=0, library_size=60)
    strong = model.generate(labels=labels, seed=0, library_size=60, guidance_scale=3.0)
    none = model.generate(labels=labels, seed=0, library_size=60, guidance_scale=0.0)
    assert recovered(none.X, labels) < recovered(plain.X, labels) - 0.2
    assert recovered(strong.X, labels) >= recovered(plain.X, labels) - 0.05
    assert (plain.X != strong.X).nnz > 0


def test_cells_of_a_label_take_the_guidance_that_training_found(model):
    found = float(model.module.label_guidance)
    assert 1.0 <= found <= 1.5
    labels = np.repeat(TYPES, 5)
    try:
        model.module.label_guidance.fill_(1.4)
        of_label = model.generate(labels=labels, seed=0)
        explicit = model.generate(labels=labels, seed=0, guidance_scale=1.4)
        assert (of_label.X != explicit.X).nnz == 0
        assert (of_label.X != model.generate(labels=labels, seed=0, guidance_scale=1.0).X).nnz > 0
        drawn = model.generate(6, seed=0, guidance_scale=1.4)
        assert (model.generate(6, seed=0).X != drawn.X).nnz == 0
        # cells of which z is given are drawn from the conditional distribution as it is
        for given in ({"latent": model.sample_prior(6)}, {"indices": [5, 2, 9]}):
            plain = model.generate(**given, seed=0, guidance_scale=1.0)
            assert (model.generate(**given, seed=0).X != plain.X).nnz == 0
    finally:
        model.module.label_guidance.fill_(found)


def test_library_sizes(model):
    sizes = [10.0, 20.0, 30.0]
    np.testing.assert_array_equal(model.generate(3, library_size=sizes).X.sum(1).ravel(), [sizes])
    assert (model.generate(4, library_size=12).X.sum(1) == 12).all()
    beyond = model.generate(1, library_size=1e6).X.sum()
    assert beyond <= N_PEAKS


def test_labels_are_drawn_as_in_training(model):
    drawn = model.generate(600, output="latent", seed=0).obs["label"]
    trained_on = model.adata.obs["cell_type"].value_counts(normalize=True)
    for label, share in trained_on.items():
        assert (drawn == label).mean() == pytest.approx(share, abs=0.1)
    named = model.generate(latent=model.sample_prior(3), output="latent")
    assert "label" not in named.obs


def test_labels_and_batches_are_drawn_as_they_go_together():
    adata = planted(300)
    adata.obs["batch"] = np.where(adata.obs["label"] == TYPES[0], "one", "two")
    model = train(build(adata), 1)
    drawn = model.generate(400, output="latent", seed=0).obs
    of_first = drawn["label"] == TYPES[0]
    assert of_first.any()
    assert (drawn["batch"][of_first] == "one").all()
    assert (drawn["batch"][~of_first] == "two").all()
    assert not (model.generate(200, batch="two", output="latent").obs["label"] == TYPES[0]).any()
    # what never went together can be asked for
    asked = model.generate(3, labels=TYPES[0], batch="two", output="latent").obs
    assert (asked["batch"] == "two").all()


def test_batches_are_drawn_as_in_training(model):
    batch = model.generate(600, output="latent", seed=0).obs["batch"]
    assert (batch == "one").mean() == pytest.approx(0.5, abs=0.1)
    named = model.generate(2, batch=["two", "one"], output="latent").obs["batch"]
    assert list(named) == ["two", "one"]


def test_without_labels_and_batches():
    cells = without_labels().generate(4)
    assert list(cells.obs.columns) == ["library_size"]
    cells = without_labels().generate(indices=[0, 1])
    assert cells.shape == (2, N_PEAKS)


def test_latents_of_the_prior(model):
    drawn = model.sample_prior(500, seed=0)
    assert drawn.shape == (500, 5)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, model.sample_prior(500, seed=0))
    real = model.get_latent_representation()
    np.testing.assert_allclose(drawn.mean(0), real.mean(0), atol=0.3)
    types = np.asarray(model.adata.obs["cell_type"])
    for name in TYPES:
        centre = model.sample_prior(200, labels=name).mean(0)
        distance = [np.linalg.norm(centre - real[types == other].mean(0)) for other in TYPES]
        assert TYPES[int(np.argmin(distance))] == name


# ---- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 3, "labels": "NK cell"}, r"'NK cell'.*not trained with.*'B cell', 'T cell'"),
        ({"n": 3, "labels": "unlabeled"}, r"'unlabeled'.*not\s+trained with"),
        ({"n": 3, "guidance_scale": -1.0}, r"guidance_scale=-1.0.*0 or more"),
        ({"n": 3, "guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"n": 3, "library_size": 0}, r"library_size.*smallest 0.*at least 1"),
        ({"n": 3, "library_size": [5.0, 0.0, 5.0]}, r"library_size.*smallest 0"),
        ({"n": 3, "library_size": [5.0, 5.0]}, r"library_size holds 2 value.*each of 3 cells"),
        ({"n": 3, "library_size": []}, "library_size holds 0 value"),
        ({"n": 3, "library_size": float("nan")}, "library_size"),
        ({"n": 3, "library_size": "median"}, r"library_size='median'"),
        ({"n": 3, "library_size": "observed"}, "needs adata"),
        ({"latent": np.zeros((3, 4))}, r"latent has shape \(3, 4\).*\(3, 5\)"),
        ({"latent": np.full((3, 5), np.nan)}, "not finite"),
        ({"n": 2, "latent": np.zeros((3, 5))}, "different numbers of cells"),
        ({"labels": ["B cell", "T cell"], "n": 3}, "different numbers of cells"),
        ({"labels": []}, "at least 1"),
        ({}, "number of cells"),
        ({"n": 0}, "at least 1"),
        ({"n": 3, "indices": [0]}, "already says which cells"),
        ({"n": 3, "batch": "three"}, r"^batch='three' is not a batch"),
        ({"n": 3, "batch": ["one"]}, "batch holds 1 names for 3 cells"),
        ({"n": 3, "output": "sparse"}, r"output='sparse'.*counts"),
        ({"n": 3, "sampler": "ddpm"}, r"sampler.*heun"),
        ({"n": 3, "eta": 0.5}, "eta"),
        ({"n": 3, "n_steps": 0}, "n_steps"),
    ],
)
def test_arguments_that_cannot_be(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.generate(**arguments)


def test_more_steps_than_levels():
    with pytest.raises(ValueError, match=r"n_steps.*1000.*1001"):
        trained(preset="paper").generate(2, n_steps=1001)


def test_conditions_that_the_model_was_not_given():
    with pytest.raises(ValueError, match="labels were given.*labels_key"):
        without_labels().generate(2, labels="B cell")
    with pytest.raises(ValueError, match="labels were given.*labels_key"):
        without_labels().sample_prior(2, labels="B cell")
    with pytest.raises(ValueError, match="^batch='one' is not a batch.*knows 0"):
        without_labels().generate(2, batch="one")


def test_cells_outside_the_data(model):
    with pytest.raises(IndexError, match="0 ... 239"):
        model.generate(indices=[240])


def test_before_training():
    model = build(planted())
    with pytest.raises(RuntimeError, match="[Tt]rain"):
        model.generate(2)
    with pytest.raises(RuntimeError, match="[Tt]rain"):
        model.sample_prior(2)
