"""The stages of ATACDiffModel's training: order, one split, stopping, resuming, failing."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import atacvi
from atacvi.modules import LatentPrior
from atacvi.training import denoiser_plan

from .planted_peaks import QUIET, TINY, build, planted, train, trained

N_CELLS = 90


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(denoiser_plan, "_MIN_STEPS", 3)


def small(**kwargs):
    return build(planted(N_CELLS), n_clusters=3, **kwargs)


def state(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert set(one) == set(two)
    assert not [name for name in one if not torch.equal(one[name], two[name])]


# ---- the stages -----------------------------------------------------------------------------


def test_stages_in_one_call_and_one_by_one_share_split_and_history():
    whole = train(small(), 2)
    assert whole.stages_done_ == ["autoencoder", "auxiliary", "diffusion", "prior"]
    parts = small()
    for stage in ("autoencoder", ["auxiliary"], ["diffusion"], ["prior"]):
        with pytest.raises(RuntimeError, match="[Tt]rain"):
            parts.generate(2)
        train(parts, 2, stages=stage)
    assert parts.generate(2).shape[0] == 2
    np.testing.assert_array_equal(parts.train_indices_, whole.train_indices_)
    assert set(parts.history) == set(whole.history)
    for term in ("autoencoder_elbo_train", "auxiliary_elbo_train", "diffusion_denoising_train"):
        assert len(whole.history[term]) == 2
        assert np.isfinite(whole.history[term].to_numpy(dtype=float)).all()


def test_order_of_stages_does_not_depend_on_that_of_the_list():
    model = train(small(), 1, stages=["auxiliary", "autoencoder"])
    assert model.stages_done_ == ["autoencoder", "auxiliary"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["diffusion"], r"'diffusion' rests on 'autoencoder', 'auxiliary'.*stages="),
        (["autoencoder", "prior"], r"'prior' rests on 'auxiliary'"),
        (["decoder"], r"\['decoder'\].*autoencoder, auxiliary, diffusion, prior"),
    ],
)
def test_stages_that_rest_on_others(stages, message):
    model = small()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        train(model, 1, stages=stages)
    assert_same(before, state(model))


def test_a_joint_second_stage_rests_on_the_first():
    with pytest.raises(ValueError, match=r"'auxiliary' rests on 'autoencoder'"):
        train(small(preset="paper"), 1, stages=["auxiliary"])


def test_getters_need_their_stages_alone():
    model = train(small(), 1, stages=["auxiliary"])
    assert model.get_latent_representation().shape == (N_CELLS, 5)
    with pytest.raises(RuntimeError, match="'autoencoder'.*train"):
        model.get_latent_representation(space="ae")
    with pytest.raises(RuntimeError, match="'diffusion'.*train"):
        model.impute(mode="diffusion")
    with pytest.raises(RuntimeError, match="'prior'.*train"):
        model.sample_prior(2)
    other = train(small(), 1, stages=["autoencoder"])
    assert other.get_latent_representation(space="ae").shape == (N_CELLS, 6)
    with pytest.raises(RuntimeError, match="'auxiliary'.*train"):
        other.get_latent_representation()
    with pytest.raises(RuntimeError, match="'auxiliary'.*train"):
        other.predict_clusters()


def test_each_stage_changes_its_parts_alone():
    model = train(small(), 1, stages=["autoencoder"])
    rooms = {
        "auxiliary": {"auxiliary_encoder", "auxiliary_decoder", "prior", "mixture_active"},
        "diffusion": {"denoiser", "gaussian_denoiser"},
        "prior": {f"latent_prior_{part}" for part in LatentPrior._fields}
        | {"covariate_mean", "label_guidance", "spread_centre", "spread_matrix"},
    }
    for stage, allowed in rooms.items():
        before = state(model)
        train(model, 1, stages=[stage])
        after = state(model)
        changed = {
            name.split(".")[0]
            for name in after
            if before[name].shape != after[name].shape or not torch.equal(before[name], after[name])
        }
        assert changed <= allowed, stage
        assert changed, stage
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert not model.module.training


def test_cells_are_calibrated_once_they_can_be_drawn():
    """Guidance and spread rest on denoiser and prior, whichever is trained last."""
    model = train(small(), 1, stages=["autoencoder", "auxiliary", "prior"])
    identity = torch.eye(TINY["n_embed"])
    assert torch.equal(model.module.spread_matrix, identity)
    train(model, 1, stages=["diffusion"])
    first = model.module.spread_matrix.clone()
    assert not torch.equal(first, identity)
    train(model, 1, stages=["prior"])  # from what is stored now, not from the last calibration
    torch.testing.assert_close(model.module.spread_matrix, first)


def test_cells_are_left_as_they_come_where_that_is_asked_for():
    for options in ({"calibrate": False}, {"preset": "paper"}):
        module = train(small(**options), 1).module
        assert torch.equal(module.spread_matrix, torch.eye(TINY["n_embed"]))
        assert float(module.label_guidance) == 1.0


def test_an_interrupted_calibration_stretches_nothing(monkeypatch):
    model = train(small(), 1)

    def stop(vectors, draw, components):
        draw(np.full((TINY["n_embed"],) * 2, 7.0), 0)
        raise KeyboardInterrupt

    monkeypatch.setattr("atacvi.models._atacdiff_cells.match_spread", stop)
    with pytest.raises(KeyboardInterrupt):
        train(model, 1, stages=["prior"])
    assert torch.equal(model.module.spread_matrix, torch.eye(TINY["n_embed"]))
    assert model.generate(3).shape[0] == 3


def test_the_denoiser_learns_posteriors_within_labels(monkeypatch):
    model = train(build(planted()), 8, stages=["autoencoder", "auxiliary"])
    seen = {}
    original = denoiser_plan.start_denoiser

    def note(module, cells, random_state):
        seen["cells"] = cells
        original(module, cells, random_state)

    monkeypatch.setattr("atacvi.models._atacdiff_training.start_denoiser", note)
    plain = model._latents(model.train_indices_)
    train(model, 1, stages=["diffusion"])
    within = seen["cells"]
    torch.testing.assert_close(within.z_mean, plain.z_mean)
    assert not torch.allclose(within.h_mean, plain.h_mean)
    spread = [
        (cells.h_mean[own].var(0) + cells.h_variance[own].mean(0)).sum()
        for cells in (plain, within)
        for own in [cells.label == 0]
    ]
    assert spread[1] < spread[0]


def test_a_network_that_learnt_without_the_closed_form_goes_on_without():
    """Models of earlier versions: the closed form would come on top of what the network knows."""
    model = train(small(), 1)
    assert model.module.gaussian_denoiser.fitted
    model.module.gaussian_denoiser.fitted.fill_(False)
    train(model, 1, stages=["diffusion"])
    assert not model.module.gaussian_denoiser.fitted


def test_a_stage_alone_goes_on_from_what_was_learnt():
    model = train(small(), 2)
    before = state(model)
    frozen = {"plan_kwargs": {"lr": 0.0, "weight_decay": 0.0}}
    train(model, 1, stages=["autoencoder"], **frozen)
    after = state(model)
    assert_same(
        {k: v for k, v in before.items() if k.startswith("autoencoder.")},
        {k: v for k, v in after.items() if k.startswith("autoencoder.")},
    )
    assert model.is_trained


def test_held_out_cells_never_train():
    """Encoders of open peaks: the spectral map, where there is one, is fitted to all cells."""
    plain = {"n_clusters": 3, "n_spectral": 0}
    model = train(build(planted(N_CELLS), **plain), 1)
    changed = planted(N_CELLS)
    counts = changed.X.tolil()
    counts[model.validation_indices_] = counts[model.validation_indices_[::-1]]
    changed.X = counts.tocsr()
    other = build(changed, **plain)
    train(other, 2, early_stopping=False)
    again = build(planted(N_CELLS), **plain)
    train(again, 2, early_stopping=False)
    assert_same(state(other), state(again))


def test_best_epoch_is_kept_by_the_held_out_likelihood():
    """With a high learning rate the best epoch is not the last."""
    model = train(small(), 4, stages=["autoencoder"], plan_kwargs={"lr": 0.2})
    scores = model.history["autoencoder_probe_held_out"].to_numpy(dtype=float).ravel()
    probe = model._probe("autoencoder", model.validation_indices_)
    assert probe()["held_out"] >= scores.max()


@pytest.mark.parametrize("validation", [{"train_size": 1.0}, {"early_stopping": False}])
def test_without_held_out_cells(validation):
    model = train(small(), 1, **validation)
    assert model.is_trained


def test_arguments_of_the_denoiser_alone():
    model = train(small(), 1, plan_kwargs={"ema_decay": 0.5, "n_warmup": 2, "lr": 1e-3})
    assert model.is_trained
    with pytest.raises(TypeError, match="'ema'"):
        train(small(), 1, plan_kwargs={"ema": 0.5})


def test_clusters_are_counted_by_labels_only_where_every_cell_has_one():
    data = planted(N_CELLS)
    every = build(data, {"labels_key": "cell_type"})
    train(every, 1)
    assert every.module.n_clusters == 3
    assert train(build(data, n_clusters=5), 1).module.n_clusters == 5


# ---- stopping and resuming ------------------------------------------------------------------


class StopIn(Callback):
    """Interrupts a stage at the start of an epoch, as Ctrl-C does."""

    def __init__(self, stage: str, epoch: int) -> None:
        self.stage, self.epoch = stage, epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if pl_module.module.stage == self.stage and trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def interrupt(model, stage: str, epoch: int = 1, **kwargs) -> None:
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(model, 3, callbacks=[StopIn(stage, epoch)], **kwargs)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_run_stopped_in_any_stage_ends_as_an_uninterrupted_one(preset, tmp_path):
    whole = train(small(preset=preset), 3)
    stages = ["autoencoder", "auxiliary", "diffusion"][: 2 if preset == "paper" else 3]
    for stage in stages:
        folder = tmp_path / stage
        stopped = small(preset=preset)
        interrupt(stopped, stage, 2, checkpoint_dir=folder)
        done = sorted(path.stem for path in folder.glob("*.done"))
        assert done == sorted(stages[: stages.index(stage)])
        assert not list(folder.rglob("*.tmp"))
        resumed = small(preset=preset)
        torch.manual_seed(77)
        train(resumed, 3, checkpoint_dir=folder, resume=True)
        assert_same(state(whole), state(resumed))
        assert set(resumed.history) >= set(whole.history)
        assert all(len(resumed.history[k]) == len(table) for k, table in whole.history.items())


def test_a_resumed_model_is_saved_with_the_clusters_that_training_chose(tmp_path):
    model = build(planted(N_CELLS))
    interrupt(model, "diffusion", 1, checkpoint_dir=tmp_path / "run")
    resumed = build(planted(N_CELLS))
    train(resumed, 2, checkpoint_dir=tmp_path / "run", resume=True)
    assert resumed.module.n_clusters != 10  # what an untrained model has
    resumed.save(str(tmp_path / "model"))
    loaded = atacvi.ATACDiffModel.load(str(tmp_path / "model"), resumed.adata, accelerator="cpu")
    assert_same(state(resumed), state(loaded))


def test_a_finished_run_is_taken_up_without_training(tmp_path):
    whole = train(small(), 1, checkpoint_dir=tmp_path)
    again = small()
    train(again, 1, checkpoint_dir=tmp_path, resume=True, callbacks=[StopIn("autoencoder", 0)])
    assert again.is_trained
    assert_same(state(whole), state(again))


def test_a_stopped_run_keeps_its_split_whatever_the_seed_is_now(tmp_path):
    import scvi

    stopped = small()
    interrupt(stopped, "autoencoder", 1, checkpoint_dir=tmp_path)
    resumed = small()
    scvi.settings.seed = 5
    train(resumed, 2, checkpoint_dir=tmp_path, resume=True)
    scvi.settings.seed = 0
    np.testing.assert_array_equal(resumed.train_indices_, stopped.train_indices_)


def test_nothing_to_resume_is_a_new_run(tmp_path):
    model = train(small(), 1, checkpoint_dir=tmp_path / "empty", resume=True)
    assert model.is_trained
    with pytest.raises(ValueError, match="checkpoint_dir"):
        train(small(), 1, resume=True)


def test_an_interrupted_training_leaves_an_untrained_model():
    model = small()
    interrupt(model, "autoencoder")
    assert not model.is_trained
    interrupt(model, "auxiliary")
    assert model.stages_done_ == ["autoencoder"]
    with pytest.raises(RuntimeError, match="[Tt]rain"):
        model.generate(2)
    train(model, 1, stages=["auxiliary", "diffusion", "prior"])
    assert model.is_trained


def test_an_interrupted_second_training_leaves_a_trained_model():
    model = train(small(), 2)
    interrupt(model, "autoencoder")
    assert model.is_trained
    assert not model.module.training
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert model.generate(2).shape[0] == 2


# ---- losses that are not finite -------------------------------------------------------------


class Poison(Callback):
    """Makes a weight of a stage not a number after a step of an epoch."""

    def __init__(self, stage: str, name: str, epoch: int) -> None:
        self.stage, self.name, self.epoch = stage, name, epoch

    def on_train_batch_end(self, trainer, pl_module, *args):
        if pl_module.module.stage == self.stage and trainer.current_epoch == self.epoch:
            with torch.no_grad():
                pl_module.module.get_parameter(self.name).fill_(float("nan"))


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("autoencoder", "autoencoder.head.offset"),
        ("auxiliary", "auxiliary_decoder.offset"),
        ("diffusion", "denoiser.output.weight"),
    ],
)
def test_a_loss_that_is_not_finite_names_the_stage_and_keeps_the_last_good_weights(stage, name):
    model = small()
    message = rf"not finite in the {stage} stage, epoch 1, step \d+.*end of epoch 0.*learning rate"
    with pytest.raises(FloatingPointError, match=message):
        train(model, 3, callbacks=[Poison(stage, name, 1)])
    assert all(torch.isfinite(value).all() for value in state(model).values())
    assert stage not in model.stages_done_
    assert not model.module.training
    rest = [s for s in ("autoencoder", "auxiliary", "diffusion", "prior")
            if s not in model.stages_done_]  # fmt: skip
    train(model, 1, stages=rest)
    assert model.is_trained
    assert model.generate(2).shape[0] == 2


# ---- queries --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    return trained()


def query(n_cells: int = 60, batch: str = "new"):
    cells = planted(n_cells, seed=7)
    cells.obs["batch"] = batch
    return cells


def test_new_batches_start_at_the_mean_and_all_else_stays(reference):
    before = state(reference)
    mapped = atacvi.ATACDiffModel.load_query_data(query(), reference)
    assert not mapped.is_trained
    after = state(mapped)
    for name, value in before.items():
        if name.endswith("covariates.weight"):
            torch.testing.assert_close(after[name][:, 2], value[:, :2].mean(1))
            assert torch.equal(after[name][:, :2], value)
        elif name.endswith(("embeddings.batch.weight", "batch_coefficients")):
            torch.testing.assert_close(after[name][2], value.mean(0))
            assert torch.equal(after[name][:2], value)
        elif name == "covariate_mean":
            assert torch.equal(after[name], torch.cat([value, torch.zeros(1)]))
        elif name == "latent_prior_batches":  # no component is of the new batch
            assert torch.equal(after[name], torch.cat([value, torch.zeros(len(value), 1)], 1))
        else:
            assert torch.equal(after[name], value), name
    assert any(name.endswith("embeddings.batch.weight") for name in before)


def test_a_trained_query_differs_in_the_new_columns_alone(reference):
    mapped = atacvi.ATACDiffModel.load_query_data(query(), reference)
    before = state(mapped)
    interrupted = atacvi.ATACDiffModel.load_query_data(query(), reference)
    interrupt(interrupted, "autoencoder")
    assert not interrupted.is_trained
    mapped.train(2, batch_size=32, **QUIET)
    assert mapped.is_trained
    for name, value in state(mapped).items():
        if name.startswith("autoencoder.") and name.endswith("covariates.weight"):
            assert torch.equal(value[:, :2], before[name][:, :2])
            assert not torch.equal(value[:, 2], before[name][:, 2])
        else:
            assert torch.equal(value, before[name]), name
    types = mapped.adata.obs["cell_type"].to_numpy()
    z, real = mapped.get_latent_representation(), reference.get_latent_representation()
    own = reference.adata.obs["cell_type"].to_numpy()
    centres = {name: real[own == name].mean(0) for name in set(own)}
    found = [min(centres, key=lambda name: np.linalg.norm(cell - centres[name])) for cell in z]
    assert (np.asarray(found) == types).mean() > 0.8
    assert set(mapped.generate(30, seed=0).obs["batch"]) <= {"one", "two"}
    assert (mapped.generate(3, batch="new", labels="B cell").obs["batch"] == "new").all()


def test_a_query_of_known_batches_is_ready_and_gives_what_the_reference_gives(reference):
    cells = query(batch="two")
    mapped = atacvi.ATACDiffModel.load_query_data(cells, reference)
    assert mapped.is_trained
    np.testing.assert_array_equal(
        mapped.get_latent_representation(), reference.get_latent_representation(cells.copy())
    )
    with pytest.raises(ValueError, match="nothing to learn"):
        mapped.train(1, **QUIET)
    assert mapped.is_trained


def test_a_query_without_labels_and_one_with_unseen_labels(reference, caplog):
    cells = query()
    del cells.obs["label"]
    with caplog.at_level(logging.ERROR), pytest.warns(UserWarning, match="Missing labels"):
        mapped = atacvi.ATACDiffModel.load_query_data(cells, reference)
    assert (mapped.adata.obs["label"] == "unlabeled").all()
    assert mapped.module.n_labels == 3
    cells = query()
    cells.obs["label"] = "NK cell"
    with pytest.raises(ValueError, match="NK cell"):
        atacvi.ATACDiffModel.load_query_data(cells, reference)


def test_foreign_peaks_are_projected(reference):
    cells = query(batch="two")
    expected = reference.get_latent_representation(cells.copy())
    foreign = cells[:, ::-1].copy()
    foreign.var["start"] += 20
    foreign.var["end"] += 20
    foreign.var_names = [f"chr1:{s}-{e}" for s, e in zip(foreign.var.start, foreign.var.end)]  # noqa: B905
    with pytest.raises(ValueError, match=r"0 of the reference's 240.*prepare_query_anndata"):
        atacvi.ATACDiffModel.load_query_data(foreign, reference)
    prepared = atacvi.ATACDiffModel.prepare_query_anndata(foreign, reference)
    assert list(prepared.var_names) == list(reference.region_names)
    mapped = atacvi.ATACDiffModel.load_query_data(prepared, reference)
    np.testing.assert_allclose(mapped.get_latent_representation(), expected, rtol=1e-4, atol=1e-5)
    names = atacvi.ATACDiffModel.prepare_query_anndata(foreign, reference, True)
    assert list(names) == list(reference.region_names)


def test_a_query_as_mudata_needs_the_peaks_alone():
    from mudata import MuData

    from atacvi._compat import without_pull

    def pair(cells, genes: int):
        with without_pull():
            return MuData({"atac": cells, "rna": cells[:, :genes].copy()})

    data = pair(planted(N_CELLS), 10)
    atacvi.ATACDiffModel.setup_mudata(data)
    model = train(atacvi.ATACDiffModel(data, n_clusters=3, **TINY), 1)
    other = pair(planted(30, seed=7), 5)
    mapped = atacvi.ATACDiffModel.load_query_data(other, model)
    assert mapped.get_latent_representation().shape == (30, 5)
    foreign = pair(planted(30, seed=7)[:, ::-1].copy(), 5)
    with pytest.raises(ValueError, match="prepare_query_mudata"):
        atacvi.ATACDiffModel.load_query_data(foreign, model)
    prepared = atacvi.ATACDiffModel.prepare_query_mudata(foreign, model)
    mapped = atacvi.ATACDiffModel.load_query_data(prepared, model)
    np.testing.assert_allclose(
        mapped.get_latent_representation(),
        model.get_latent_representation(other),
        rtol=1e-4,
        atol=1e-5,
    )
