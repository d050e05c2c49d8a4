"""What training does, run for each way to build a model: results, seeds, stopping, resuming."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback

from .conformance.builders import (  # noqa: F401 (fixtures)
    BUILDERS,
    N_CELLS,
    N_EPOCHS,
    QUIET,
    assert_same_weights,
    one_thread,
    paired_case,
    short_epochs,
    simulate,
    trained_case,
    weights,
)


def test_trained(case):
    model = case.model
    assert model.is_trained
    assert not model.module.training
    assert case.builder.family.terms <= set(model.history)
    assert len(model.history[case.builder.family.elbo]) == N_EPOCHS
    assert all(np.isfinite(t.to_numpy(dtype=float)).all() for t in model.history.values())
    cells = np.concatenate([model.train_indices, model.validation_indices])
    assert sorted(cells) == list(range(N_CELLS))


def test_the_mixture_and_the_cycle_begin_in_order(paired):
    stages = paired.model.training_stages_
    assert 0 < stages["mixture"] < N_EPOCHS
    assert 0 < stages["cycle"] < N_EPOCHS


def test_same_seed_same_result_to_the_bit(case):
    again = case.builder.train(case.data.copy())
    assert_same_weights(case.model, again)
    for name, table in case.model.history.items():
        pd.testing.assert_frame_equal(table, again.history[name])
    np.testing.assert_array_equal(
        case.model.get_latent_representation(), again.get_latent_representation()
    )


def test_another_seed_another_result(case):
    data = case.data.copy()
    case.builder.setup(data)
    first = weights(case.builder.build(data))
    scvi.settings.seed = 1
    other = weights(
        case.builder.model(data, **{**case.builder.family.tiny, **case.builder.arguments})
    )
    scvi.settings.seed = 0
    end = case.builder.family.drawn
    drawn = [name for name in first if name.endswith(end) and first[name].any()]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


class NoteMode(Callback):
    """Notes whether the module is in training mode."""

    def __init__(self) -> None:
        self.training: list[bool] = []

    def on_train_batch_start(self, trainer, pl_module, *args):
        self.training.append(pl_module.module.training)


def test_training_goes_on_where_it_ended(paired):
    case = paired
    model = case.builder.train(case.data.copy(), 2)
    before, noted = weights(model), NoteMode()
    model.train(1, batch_size=48, callbacks=[noted], **QUIET)
    assert len(model.history["elbo_train"]) == 3
    assert not torch.equal(before["peak_table"], model.module.peak_table)
    assert all(noted.training)
    reconstruction = model.history["reconstruction_loss_train"].to_numpy(dtype=float).ravel()
    assert reconstruction[2] < reconstruction[0] + 5


def test_unknown_plan_argument(case):
    with pytest.raises(TypeError, match=r"'learning_rate'.*It takes: .*lr"):
        case.builder.train(case.data.copy(), 1, plan_kwargs={"learning_rate": 0.1})


def test_plan_arguments_take_effect(case):
    data = case.data.copy()
    model = case.builder.train(data, 1, plan_kwargs={"lr": 0.0, "weight_decay": 0.0})
    before = weights(model)
    case.builder.fit(model, 1, plan_kwargs={"lr": 0.0, "weight_decay": 0.0})
    trained = {name for name, _ in model.module.named_parameters()}
    # What is set in closed form is set again, and may differ by rounding.
    changed = {n for n, v in weights(model).items() if not torch.allclose(v, before[n], atol=1e-6)}
    assert not {n for n in changed & trained if not n.startswith("prior.")}


class Poison(Callback):
    """Makes a weight not a number after the first step."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_batch_end(self, trainer, pl_module, *args):
        with torch.no_grad():
            pl_module.module.get_parameter(self.name).fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_training(case):
    with pytest.raises(FloatingPointError, match=r"epoch 0, step \d+.*learning rate"):
        case.builder.train(case.data.copy(), 2, callbacks=[Poison(case.builder.family.poisoned)])


# ---- stopping and resuming ------------------------------------------------------------------


class StopAfter(Callback):
    """Interrupts training at the end of an epoch, as Ctrl-C does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_resumed_run_ends_as_an_uninterrupted_one(case, tmp_path):
    for stop in (1, 3):  # of four epochs, before and after the mixture
        folder = tmp_path / str(stop)
        data = case.data.copy()
        case.builder.setup(data)
        stopped = case.builder.build(data)
        try:
            case.builder.fit(stopped, checkpoint_dir=str(folder), callbacks=[StopAfter(stop)])
        except (KeyboardInterrupt, SystemExit):
            pass
        assert [p.name for p in folder.rglob("*") if p.is_file()] == ["last.ckpt"]
        resumed = case.builder.build(data)
        case.builder.fit(resumed, checkpoint_dir=str(folder), resume=True)
        assert_same_weights(case.model, resumed)
        elbo = case.builder.family.elbo
        assert len(resumed.history[elbo]) == N_EPOCHS
        pd.testing.assert_frame_equal(
            resumed.history[elbo], case.model.history[elbo], check_dtype=False
        )


class StopInPart(Callback):
    """Interrupts the second part of a training at the start of its second epoch."""

    def __init__(self) -> None:
        self.part = 0

    def on_fit_start(self, trainer, pl_module):
        self.part += 1

    def on_train_epoch_start(self, trainer, pl_module):
        if self.part == 2 and trainer.current_epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["atacformer-tuned", "craft"])
def test_a_run_that_stopped_in_its_second_part(name, one_thread, tmp_path):  # noqa: F811
    builder = next(b for b in BUILDERS if b.name == name)
    data = builder.convert(simulate()[:N_CELLS].copy())
    builder.setup(data)
    whole = builder.fit(builder.build(data), 2)
    stopped, folder = builder.build(data), str(tmp_path)
    try:
        builder.fit(stopped, 2, checkpoint_dir=folder, callbacks=[StopInPart()])
    except (KeyboardInterrupt, SystemExit):
        pass
    for _ in range(2):  # once from the stop, once from the end
        resumed = builder.fit(builder.build(data), 2, checkpoint_dir=folder, resume=True)
        assert_same_weights(whole, resumed)
        assert set(resumed.history) == set(whole.history)
        for term, table in whole.history.items():
            pd.testing.assert_frame_equal(table, resumed.history[term], check_dtype=False)


def test_resume_needs_a_folder(case):
    with pytest.raises(ValueError, match="checkpoint_dir"):
        case.builder.train(case.data.copy(), 1, resume=True)
