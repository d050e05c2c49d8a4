"""Transitions between stages, early stopping and the best weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from atacvi.modules import MultiViewModule
from atacvi.training import MultiViewStages, StageSchedule

N_CELLS, N_LATENT = 90, 3


@pytest.fixture
def module() -> MultiViewModule:
    return MultiViewModule(6, 9, n_clusters=2, n_latent=N_LATENT, n_hidden=8, n_embed=8)


class FakeTrainer:
    """The few things of Lightning's trainer that the stages read."""

    def __init__(self) -> None:
        self.current_epoch, self.global_step = 0, 0
        self.should_stop = self.sanity_checking = False
        self.callback_metrics: dict[str, float] = {}
        self.n_optimizers = 0
        self.plan = SimpleNamespace()
        self.optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)]
        self.strategy = SimpleNamespace(setup_optimizers=self._count)

    def _count(self, trainer: Any) -> None:
        self.n_optimizers += 1
        self.optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)]

    @property
    def lr(self) -> float:
        return self.optimizers[0].param_groups[0]["lr"]


def latent() -> np.ndarray:
    """Three well separated groups."""
    rng = np.random.default_rng(0)
    centres = 6 * np.eye(3, N_LATENT)
    return (np.repeat(centres, N_CELLS // 3, 0) + rng.normal(size=(N_CELLS, N_LATENT))).astype("f")


def posteriors() -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of the cells."""
    return latent(), np.full((N_CELLS, N_LATENT), 0.5, dtype="f")


def run(stages: MultiViewStages, module: MultiViewModule, scores: list[float]) -> FakeTrainer:
    """Walk through epochs with these held-out scores, until the stages stop."""
    trainer, plan = FakeTrainer(), SimpleNamespace(module=module, max_kl_weight=2.0)
    trainer.plan = plan
    for epoch, score in enumerate(scores):
        trainer.current_epoch = epoch
        stages.on_train_epoch_start(trainer, plan)
        trainer.callback_metrics = {"elbo_validation": score}
        with torch.no_grad():
            module.rna_head.offset.fill_(float(epoch))
        stages.on_validation_epoch_end(trainer, plan)
        if trainer.should_stop:
            break
    return trainer


def make(schedule: StageSchedule, **kwargs: Any) -> MultiViewStages:
    return MultiViewStages(schedule, posteriors, **{"n_clusters": 3, **kwargs})


def test_stages_begin_at_their_epochs(module):
    stages = make(StageSchedule(mixture_start=2, cycle_start=3, cycle_ramp=2, cycle_weight=0.5))
    weights = []
    trainer, plan = FakeTrainer(), SimpleNamespace(module=module)
    for epoch in range(6):
        trainer.current_epoch = epoch
        stages.on_train_epoch_start(trainer, plan)
        weights.append(module.cycle_weight)
        assert bool(module.mixture_active) == (epoch >= 2)
    assert weights == [0, 0, 0, 0.25, 0.5, 0.5]
    assert stages.borders == {"mixture": 2, "cycle": 3}
    assert trainer.n_optimizers == 1
    assert module.n_clusters == 3


def test_the_mixture_finds_the_groups(module):
    run(make(StageSchedule(mixture_start=0, cycle_start=None)), module, [1.0])
    shares = module.prior.responsibilities(torch.as_tensor(latent())).detach()
    clusters = shares.argmax(1).view(3, -1)
    assert (clusters == clusters[:, :1]).float().mean() > 0.95
    assert len(clusters[:, 0].unique()) == 3


def test_the_mixture_starts_from_labels(module):
    labels = np.repeat([0, 1, 2], N_CELLS // 3)
    stages = make(StageSchedule(0, None), labels=lambda: labels, n_clusters=None)
    run(stages, module, [1.0])
    for k in range(3):
        expected = torch.as_tensor(latent()[labels == k].mean(0))
        distance = (module.prior.means.detach() - expected).norm(dim=1)
        assert distance.min() < 1e-3
        # Wide enough for the posteriors: the variance of the means and that of each cell
        spread = torch.as_tensor(latent()[labels == k].var(0)) + 0.5
        found = module.prior.variances.detach()[distance.argmin()]
        torch.testing.assert_close(found, spread, rtol=1e-3, atol=1e-3)


def test_the_number_of_clusters_is_chosen(module):
    run(make(StageSchedule(0, None), n_clusters=None), module, [1.0])
    assert module.n_clusters >= 3


def test_a_plateau_begins_the_mixture_and_then_ends_training(module):
    stages = make(StageSchedule(mixture_start=100, cycle_start=None, patience=2))
    trainer = run(stages, module, [5, 4, 4, 4, 3, 3, 3, 3, 3])
    assert stages.borders["mixture"] == 4
    assert trainer.should_stop
    assert trainer.current_epoch == 6


def test_without_patience_nothing_stops(module):
    trainer = run(make(StageSchedule(None, None)), module, [1.0] * 20)
    assert not trainer.should_stop
    assert not bool(module.mixture_active)


def test_the_best_weights_of_the_last_stage_come_back(module):
    stages = make(StageSchedule(mixture_start=2, cycle_start=None, patience=9))
    trainer = run(stages, module, [0.1, 0.1, 5.0, 3.0, 4.0])
    stages.on_fit_end(trainer, SimpleNamespace(module=module))
    # Epoch 3 is the best with the mixture; scores of the warm-up do not count
    assert module.rna_head.offset[0] == 3.0


def test_the_last_weights_stay_where_asked(module):
    stages = make(StageSchedule(None, None), restore_best=False)
    trainer = run(stages, module, [1.0, 2.0, 3.0])
    stages.on_fit_end(trainer, SimpleNamespace(module=module))
    assert module.rna_head.offset[0] == 2.0


def test_a_score_that_is_not_finite_is_no_improvement(module):
    stages = make(StageSchedule(None, None, patience=3))
    run(stages, module, [2.0, float("nan"), float("-inf")])
    assert stages.best == 2.0


def test_state_of_a_stopped_run(module):
    stages = make(StageSchedule(None, None, patience=3))
    run(stages, module, [2.0, 3.0])
    other = make(StageSchedule(None, None, patience=3))
    other.load_state_dict(stages.state_dict())
    assert (other.best, other.waited) == (2.0, 1)


def test_the_mixture_starts_from_the_best_weights_of_the_warm_up(module):
    seen = []

    def get_latent() -> tuple[np.ndarray, np.ndarray]:
        seen.append(module.rna_head.offset[0].item())
        return posteriors()

    stages = MultiViewStages(StageSchedule(4, None), get_latent, n_clusters=3)
    run(stages, module, [3.0, 1.0, 2.0, 5.0, 4.0])
    assert seen == [1.0]  # the second epoch was the best


def test_the_mixture_starts_from_the_last_weights_where_asked(module):
    seen = []

    def get_latent() -> tuple[np.ndarray, np.ndarray]:
        seen.append(module.rna_head.offset[0].item())
        return posteriors()

    stages = MultiViewStages(StageSchedule(4, None), get_latent, n_clusters=3, restore_best=False)
    run(stages, module, [3.0, 1.0, 2.0, 5.0, 4.0])
    assert seen == [3.0]


def test_the_stage_has_a_name(module):
    stages = make(StageSchedule(1, None))
    assert stages.stage == "warm-up"
    run(stages, module, [1.0, 1.0])
    assert stages.stage == "mixture"


def test_a_plateau_cuts_the_learning_rate_and_goes_back_to_the_best(module):
    schedule = StageSchedule(None, None, patience=2, lr_cuts=1, lr_factor=0.5)
    stages = make(schedule)
    trainer = run(stages, module, [3.0, 1.0, 2.0, 2.0])
    assert trainer.lr == 0.5
    assert not trainer.should_stop
    assert module.rna_head.offset[0].item() == 1.0  # that of the second epoch
    stages = make(schedule)
    trainer = run(stages, module, [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    assert trainer.should_stop
    assert trainer.current_epoch == 5
    assert trainer.lr == 0.5


def test_the_mixture_begins_after_the_last_cut_and_one_cut_down(module):
    schedule = StageSchedule(100, None, patience=1, lr_cuts=1, lr_factor=0.5)
    stages = make(schedule)
    trainer = run(stages, module, [3.0, 4.0, 4.0, 3.0])
    assert stages.borders["mixture"] == 3
    assert trainer.n_optimizers == 1
    assert (trainer.lr, stages.cuts) == (0.5, 1)
