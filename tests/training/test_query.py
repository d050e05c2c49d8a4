"""Only the columns that are to be learnt change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from atacvi.nn import ClusterGatedTrunk
from atacvi.training import LearnNewColumns


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_only_new_columns_are_learnt(optimizer):
    module = ClusterGatedTrunk(3, 4, 8, n_clusters=2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    plan, learn = SimpleNamespace(module=module), LearnNewColumns([1, 3])
    learn.setup(None, plan, "fit")
    trained = [p for p in module.parameters() if p.requires_grad]
    assert [id(p) for p in trained] == [id(module.covariates.weight)]
    learn.on_fit_start(None, plan)
    step = optimizer(trained, lr=0.1, weight_decay=0.3)
    for _ in range(3):
        step.zero_grad()
        out = module(torch.randn(5, 3), torch.rand(5, 4), torch.full((5, 2), 0.5))
        out.square().sum().backward()
        assert (module.covariates.weight.grad[:, [0, 2]] == 0).all()
        step.step()
        learn.on_train_batch_end(None, plan, None, None, 0)
    learn.teardown(None, plan, "fit")
    for name, value in module.state_dict().items():
        kept = value[:, [0, 2]] if name == "covariates.weight" else value
        there = before[name][:, [0, 2]] if name == "covariates.weight" else before[name]
        assert torch.equal(kept, there), name
    changed = module.covariates.weight != before["covariates.weight"]
    assert changed[:, [1, 3]].all()
    assert all(p.requires_grad for p in module.parameters())


def test_nothing_to_learn():
    with pytest.raises(ValueError, match="nothing to learn"):
        LearnNewColumns([])
