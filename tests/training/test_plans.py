"""The training plan: groups of the optimiser, the warm-up, unknown arguments."""

from __future__ import annotations

import pytest
import torch

from atacvi.modules import MultiViewModule
from atacvi.training import MultiViewTrainingPlan, check_plan_kwargs


@pytest.fixture
def module() -> MultiViewModule:
    return MultiViewModule(6, 9, n_clusters=2, n_latent=3, n_hidden=8, n_embed=8)


def test_fused_adamw_with_groups(module):
    plan = MultiViewTrainingPlan(module, lr=1e-2, weight_decay=0.1, prior_lr_factor=0.5)
    optimizer = plan.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["fused"] for group in optimizer.param_groups)
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decay[id(module.rna_encoder.table)] == 0.1
    assert decay[id(module.rna_head.offset)] == 0.0
    assert decay[id(module.trunk.norm.weight)] == 0.0
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(module.prior.means)] == pytest.approx(5e-3)
    assert set(decay) == {id(p) for p in module.parameters()}


def test_frozen_parameters_are_left_out(module):
    module.peak_table.requires_grad_(False)
    optimizer = MultiViewTrainingPlan(module).configure_optimizers()["optimizer"]
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(module.peak_table) not in known


def test_an_optimiser_of_the_user_is_used(module):
    plan = MultiViewTrainingPlan(module, optimizer="Adam", lr=0.2)
    optimizer = plan.configure_optimizers()["optimizer"]
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 0.2
    custom = MultiViewTrainingPlan(
        module, optimizer="Custom", optimizer_creator=lambda p: torch.optim.SGD(p, lr=0.1)
    )
    assert type(custom.configure_optimizers()["optimizer"]) is torch.optim.SGD


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)])
def test_kl_weight_rises_to_one(module, monkeypatch, epoch, weight):
    plan = MultiViewTrainingPlan(module, n_epochs_kl_warmup=4)
    monkeypatch.setattr(MultiViewTrainingPlan, "current_epoch", epoch)
    assert float(plan.kl_weight) == weight


def test_unknown_arguments_are_named(module):
    check_plan_kwargs(MultiViewTrainingPlan, {"lr": 1, "kl_weight": 1}, module.loss)
    with pytest.raises(TypeError, match=r"'learning_rate', which MultiViewTrainingPlan.*lr"):
        check_plan_kwargs(MultiViewTrainingPlan, {"learning_rate": 1}, module.loss)
