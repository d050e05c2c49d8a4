"""Which epoch a stage keeps, and when its mixture begins."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from atacvi.training import BeginMixture, SelectFromStart


def plan(value: float = 0.0) -> SimpleNamespace:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return SimpleNamespace(module=module, log=lambda *args, **kwargs: None)


def trainer(epoch: int, max_epochs: int = 99) -> SimpleNamespace:
    return SimpleNamespace(
        current_epoch=epoch,
        max_epochs=max_epochs,
        should_stop=False,
        callback_metrics={},
        strategy=SimpleNamespace(setup_optimizers=lambda _: None),
    )


def run(select: SelectFromStart, scores: list[float]) -> tuple[float, int]:
    """Train with a weight that counts the epochs; return what is kept and the epochs run."""
    made, values = plan(-1.0), iter(scores)
    select.probe = lambda: {"held_out": next(values)}
    select.on_train_start(trainer(0), made)
    for epoch in range(len(scores) - 1):
        nn.init.constant_(made.module.weight, float(epoch))
        now = trainer(epoch)
        select.on_train_epoch_end(now, made)
        if now.should_stop:
            break
    select.on_fit_end(now, made)
    return made.module.weight.item(), epoch + 1


def test_start_is_kept_where_training_makes_it_worse():
    assert run(SelectFromStart("", dict, patience=3), [5.0, 4, 3, 2, 1, 0]) == (-1.0, 3)


def test_best_epoch_is_kept_where_training_helps():
    assert run(SelectFromStart("", dict, patience=9), [0.0, 1, 3, 2]) == (1.0, 3)


def test_a_score_that_is_not_a_number_is_never_kept():
    assert run(SelectFromStart("", dict, patience=9), [0.0, float("nan"), 1.0, 0.5])[0] == 1.0


def test_a_resumed_run_does_not_score_its_start_again():
    select = SelectFromStart("", dict, patience=3)
    select.load_state_dict(
        {"best": 7.0, "best_epoch": 2, "best_state": {"weight": torch.ones(1, 1)}, "waited": 1}
    )
    select.probe = lambda: pytest.fail("scored again")
    select.on_train_start(trainer(3), plan())
    assert select.best == 7.0


def test_mixture_begins_once_at_its_epoch_and_the_selection_starts_anew():
    made = plan()
    made.module.mixture_active = False
    begun: list[int] = []

    def begin() -> None:
        made.module.mixture_active = True
        begun.append(now.current_epoch)

    select = SelectFromStart("", lambda: {"held_out": 1.0})
    select.on_train_start(trainer(0), made)
    assert select.best_state is not None
    callback = BeginMixture(2, begin, select)
    for epoch in range(5):
        now = trainer(epoch)
        callback.on_train_epoch_start(now, made)
    assert begun == [2]
    assert select.best_state is None
    assert select.best == -float("inf")
    BeginMixture(0, lambda: pytest.fail("again"), None).on_train_epoch_start(trainer(9), made)
