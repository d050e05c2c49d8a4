"""What training leaves behind: weights of the latent, and a usable model after a failure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import atacvi
from atacvi.training import LatentWeights, emphasis_of

from .conftest import QUIET, train


class Poison(Callback):
    """Make the weights infinite at one epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                pl_module.module.rna_head.offset.fill_(float("inf"))


def small(mdata):
    atacvi.MultiViewModel.setup_mudata(mdata)
    return atacvi.MultiViewModel(mdata, n_clusters=3, n_latent=6, n_hidden=16, n_embed=8)


def test_the_latent_is_weighted_as_training_chose(model):
    mean, _ = model.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(model.get_latent_representation(weighted=False), mean)
    assert model.latent_units_ in ("latent", "noise")
    if model.latent_units_ == "latent":  # set from a part of the cells
        weights = emphasis_of(mean, model.latent_exponent_)
        np.testing.assert_allclose(model.module.latent_weights.numpy(), weights, atol=0.2)
    expected = mean @ model.module.latent_weights.numpy()
    np.testing.assert_allclose(model.get_latent_representation(), expected, rtol=1e-5)


def test_weights_in_units_of_noise_are_taken_where_they_are_chosen(mdata, monkeypatch):
    weights = np.diag(np.arange(1.0, 7.0)).astype(np.float32)
    monkeypatch.setattr(
        "atacvi.models._calibration.choose_weights",
        lambda *_: LatentWeights("noise", 0.0, weights),
    )
    model = small(mdata)
    model.train(1, batch_size=64, **QUIET)
    assert (model.latent_units_, model.latent_exponent_) == ("noise", 0.0)
    expected = model.get_latent_representation(weighted=False) @ weights
    np.testing.assert_allclose(model.get_latent_representation(), expected, rtol=1e-5)


def test_weights_of_the_latent_are_saved(mdata, tmp_path):
    model = small(mdata)
    model.train(1, batch_size=64, **QUIET)
    model.module.latent_weights.copy_(torch.diag(torch.arange(1.0, 7.0)))
    model.save(tmp_path / "model")
    loaded = atacvi.MultiViewModel.load(tmp_path / "model", mdata)
    expected = model.get_latent_representation()
    assert not np.allclose(expected, model.get_latent_representation(weighted=False))
    np.testing.assert_array_equal(loaded.get_latent_representation(), expected)
    assert loaded.latent_exponent_ == model.latent_exponent_
    assert loaded.latent_units_ == model.latent_units_


def test_a_model_without_weights_of_the_latent_gives_it_as_it_is(mdata):
    model = small(mdata)
    state = model.module.state_dict()
    state["latent_emphasis"] = 3.0 * state.pop("latent_weights")
    model.module.latent_weights.fill_(7.0)
    model.module.load_state_dict(state)
    torch.testing.assert_close(model.module.latent_weights, torch.eye(6))


def test_cells_that_choose_the_weights_are_not_their_own_neighbours(model):
    asked, others = model._split_for_neighbours(np.random.default_rng(0))
    assert not set(asked) & set(others)
    assert set(model.validation_indices) <= set(asked)
    assert len(asked) == len(model.train_indices) // 2
    assert set(others) == set(model.train_indices) - set(asked)


def test_after_a_loss_that_is_not_finite_the_last_good_weights_can_be_used(mdata):
    model = small(mdata)
    with pytest.raises(FloatingPointError, match="epoch 2, step .* the end of epoch 1"):
        model.train(5, batch_size=64, callbacks=[Poison(2)], **QUIET)
    assert model.is_trained
    assert not model.module.training
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_loss_that_is_never_finite_leaves_an_untrained_model(mdata):
    model = small(mdata)
    with pytest.raises(FloatingPointError, match="epoch 0, step .* weights are those of the start"):
        model.train(5, batch_size=64, callbacks=[Poison(0)], **QUIET)
    assert not model.is_trained


def test_a_given_kl_weight_is_kept(mdata):
    atacvi.MultiViewModel.setup_mudata(mdata)
    seen = []

    class Note(Callback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            seen.append(pl_module.max_kl_weight)

    model = small(mdata)
    options = {"callbacks": [Note()], "early_stopping_patience": 1, **QUIET}
    model.train(6, batch_size=64, plan_kwargs={"max_kl_weight": 1.0}, **options)
    assert set(seen) == {1.0}


def test_few_epochs_are_enough_for_a_mixture(mdata):
    atacvi.MultiViewModel.setup_mudata(mdata)
    model = train(mdata, max_epochs=2)
    assert model.get_cluster_probabilities().shape == (mdata.n_obs, 3)


def test_effects_are_scaled_by_held_out_counts_and_noted(model, mdata, tmp_path):
    assert set(model.effect_scale_) == {"rna", "atac"}
    assert all(0.1 <= scale <= 1 for scale in model.effect_scale_.values())
    model.save(tmp_path / "model")
    loaded = atacvi.MultiViewModel.load(tmp_path / "model", mdata)
    assert loaded.effect_scale_ == model.effect_scale_


@pytest.mark.parametrize(
    "options", [{"early_stopping": False}, {"train_size": 1.0}, {"preset": "paper"}]
)
def test_effects_stay_as_learnt_where_nothing_is_held_out_or_the_paper_is_followed(mdata, options):
    atacvi.MultiViewModel.setup_mudata(mdata)
    preset = options.pop("preset", "default")
    model = atacvi.MultiViewModel(
        mdata, n_clusters=3, n_latent=6, n_hidden=16, n_embed=8, preset=preset
    )
    model.train(2, batch_size=64, **options, **QUIET)
    assert not hasattr(model, "effect_scale_")
    assert not hasattr(model, "latent_exponent_")
    assert not hasattr(model, "latent_units_")
    torch.testing.assert_close(model.module.latent_weights, torch.eye(6))


def test_a_scale_of_an_earlier_run_is_not_kept(mdata):
    model = small(mdata)
    model.train(2, batch_size=64, **QUIET)
    assert hasattr(model, "effect_scale_")
    model.module.latent_weights.fill_(7.0)
    model.train(1, batch_size=64, early_stopping=False, **QUIET)
    assert not hasattr(model, "effect_scale_")
    assert not hasattr(model, "latent_units_")
    torch.testing.assert_close(model.module.latent_weights, torch.eye(6))
