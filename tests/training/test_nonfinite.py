"""Stopping on a loss that is not finite, with the last good weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atacvi.modules import MultiViewModule
from atacvi.training import StopOnNonFinite

GOOD, BAD = torch.tensor(1.0), torch.tensor(float("nan"))


@pytest.fixture
def module() -> MultiViewModule:
    return MultiViewModule(6, 9, n_clusters=2, n_latent=3, n_hidden=8, n_embed=8)


def step(check: StopOnNonFinite, plan: Any, number: int, loss: torch.Tensor, epoch: int = 0) -> Any:
    trainer = SimpleNamespace(current_epoch=epoch, global_step=number)
    check.on_train_batch_end(trainer, plan, {"loss": loss})
    return trainer


def test_epoch_step_and_stage_are_named(module):
    plan, check = SimpleNamespace(module=module), StopOnNonFinite(lambda: "mixture")
    step(check, plan, 16, GOOD, 4)
    with pytest.raises(FloatingPointError, match="mixture stage, epoch 4, step 17"):
        step(check, plan, 17, BAD, 4)


def test_an_accelerator_is_read_now_and_then_and_the_first_bad_step_named(module):
    """A meta tensor would raise if it were read, as an accelerator would wait."""
    plan, check = SimpleNamespace(module=module), StopOnNonFinite(check_every=10)
    for number in range(1, 10):
        step(check, plan, number, torch.tensor(1.0, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        step(check, plan, 10, torch.tensor(1.0, device="meta"))


def test_the_end_of_an_epoch_finds_what_is_between_two_looks(module, monkeypatch):
    plan, check = SimpleNamespace(module=module), StopOnNonFinite(lambda: "warm-up")
    looked = check._raise_if_bad
    monkeypatch.setattr(check, "_raise_if_bad", lambda *_: None)  # as between two looks
    for number, loss in enumerate((GOOD, BAD, GOOD, BAD)):
        trainer = step(check, plan, number, loss, 2)
    monkeypatch.setattr(check, "_raise_if_bad", looked)
    with pytest.raises(FloatingPointError, match="epoch 2, step 1[.]"):
        check.on_train_epoch_end(trainer, plan)


@torch.no_grad()
def test_the_last_good_weights_come_back(module):
    plan, check = SimpleNamespace(module=module), StopOnNonFinite()
    trainer = SimpleNamespace(current_epoch=0, global_step=0)
    check.on_train_start(trainer, plan)
    for epoch, value in enumerate((1.0, 2.0, float("inf"))):
        trainer.current_epoch = epoch
        module.rna_head.offset.fill_(value)
        check.on_train_epoch_end(trainer, plan)
    with pytest.raises(FloatingPointError, match="weights are those of the end of epoch 1"):
        step(check, plan, 9, BAD, 2)
    assert module.rna_head.offset.tolist() == [2.0] * 6


@torch.no_grad()
def test_a_mixture_of_another_size_is_taken_back(module):
    plan, check = SimpleNamespace(module=module), StopOnNonFinite()
    trainer = SimpleNamespace(current_epoch=0, global_step=0)
    check.on_train_start(trainer, plan)
    module.resize_mixture(5)
    with pytest.raises(FloatingPointError, match="weights are those of the start"):
        step(check, plan, 1, BAD)
    assert module.n_clusters == 2
    assert module.prior.means.shape == (2, 3)
