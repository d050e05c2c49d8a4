"""Training of the denoiser on stored latents."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from atacvi.modules import ATACDiffModule, SamplerOptions
from atacvi.training import (
    CellLatents,
    DenoiserPlan,
    LatentDataModule,
    SelectDenoiser,
    denoiser_plan,
    held_out_denoising_loss,
    start_denoiser,
)

N_AE, N_LATENT = 2, 1
SILENT = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def make(**kwargs) -> ATACDiffModule:
    torch.manual_seed(0)
    options = {"n_latent": N_LATENT, "n_latent_ae": N_AE, "n_hidden": 8, "n_embed": 4, **kwargs}
    return ATACDiffModule(10, n_hidden_denoiser=32, n_blocks=1, n_labels=2, **options)


def latents(n: int = 400) -> CellLatents:
    """h lies at +2 or -2 in its first dimension, as z and the label say."""
    generator = torch.Generator().manual_seed(0)
    sign = 2.0 * (torch.arange(n) % 2) - 1
    h = 0.2 * torch.randn(n, N_AE, generator=generator)
    h[:, 0] += 2 * sign
    return CellLatents(
        h_mean=h,
        h_variance=torch.full((n, N_AE), 0.01),
        z_mean=sign[:, None],
        z_variance=torch.full((n, N_LATENT), 0.01),
        label=(torch.arange(n) % 2),
        batch=torch.zeros(n, dtype=torch.long),
        depth=torch.full((n,), 10.0),
    )


def data(n: int = 400, batch_size: int = 64) -> LatentDataModule:
    cells = np.arange(n)
    return LatentDataModule(latents(n), cells[: n - 40], cells[n - 40 :], cells[:0], batch_size)


# ---- minibatches ----------------------------------------------------------------------------


def test_small_data_fill_an_epoch_and_validation_cells_never_enter():
    module = data(100, 16)
    assert (module.n_train, module.n_val) == (60, 40)
    batches = list(module.train_dataloader())
    assert len(batches) == module.steps_per_epoch == denoiser_plan._MIN_STEPS
    known = {tuple(row) for row in module.latents.h_mean[:60].tolist()}
    seen = {tuple(row) for part in batches for row in part[0].tolist()}
    assert seen <= known
    assert len(seen) > 50


def test_large_data_are_seen_about_once(monkeypatch):
    monkeypatch.setattr(denoiser_plan, "_MIN_STEPS", 1)
    module = data(400, 64)
    assert module.steps_per_epoch == 6
    parts = [part[0] for part in module.train_dataloader()]
    assert len(parts) == 6
    assert sum(len(part) for part in parts) == module.n_train
    assert len(torch.cat(parts).unique(dim=0)) == module.n_train


def test_cells_keep_their_conditions():
    for part in data().train_dataloader():
        cells = CellLatents(*part)
        assert torch.equal(cells.h_mean[:, 0] > 0, cells.label == 1)
        assert torch.equal(cells.z_mean[:, 0] > 0, cells.label == 1)


# ---- the average ----------------------------------------------------------------------------


def test_average_of_the_weights_against_the_recursion():
    module = make()
    plan = DenoiserPlan(module, 100, ema_decay=0.5)
    name = "output.bias"
    expected = None
    for step in range(12):
        with torch.no_grad():
            module.denoiser.get_parameter(name).fill_(float(step**2))
        plan.on_train_batch_end()
        decay = min(0.5, (1.0 + step) / (10.0 + step))
        expected = float(step**2) if expected is None else decay * expected + (1 - decay) * step**2
        assert plan.average.module.get_parameter(name)[0].item() == pytest.approx(expected)
    plan.take_average()
    assert module.denoiser.get_parameter(name)[0].item() == pytest.approx(expected)


def test_only_the_denoiser_learns():
    module = make()
    module.begin("diffusion")
    plan = DenoiserPlan(module, 100)
    learnt = {
        id(p) for g in plan.configure_optimizers()["optimizer"].param_groups for p in g["params"]
    }
    assert learnt == {id(p) for p in module.denoiser.parameters()}


def test_learning_rate_rises_and_falls_to_nothing():
    module = make()
    module.begin("diffusion")
    made = DenoiserPlan(module, 200, lr=1.0, n_warmup=20).configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(200):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] < 0.2
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates.index(max(rates)) in range(15, 25)
    assert rates[-1] < 0.01
    assert DenoiserPlan(module, 10, n_warmup=100).n_warmup == 1


# ---- losses ---------------------------------------------------------------------------------


def test_held_out_loss_is_fixed_and_leaves_all_as_it_was():
    module = make().train()
    network = DenoiserPlan(module, 10).average.module
    before = torch.get_rng_state()
    own = module.denoiser
    values = [held_out_denoising_loss(module, network, latents(40)) for _ in range(2)]
    assert values[0] == values[1]
    assert values[0] != held_out_denoising_loss(module, network, latents(40), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.denoiser is own
    assert module.training


def test_held_out_loss_is_of_the_network_given():
    module = make()
    network = DenoiserPlan(module, 10).average.module
    plain = held_out_denoising_loss(module, network, latents(40))
    torch.nn.init.constant_(network.output.bias, 5.0)
    assert held_out_denoising_loss(module, network, latents(40)) > plain + 5


@pytest.mark.parametrize("patience", [2, None])
def test_best_network_is_kept_and_training_ends_when_it_gets_worse(patience):
    module = make()
    plan = DenoiserPlan(module, 10)
    plan.log = lambda *args, **kwargs: None
    select = SelectDenoiser(latents(40), patience)
    stopped = []
    for bias in (3.0, 0.0, 4.0, 5.0):
        torch.nn.init.constant_(plan.average.module.output.bias, bias)
        trainer = SimpleNamespace(should_stop=False)
        select.on_train_epoch_end(trainer, plan)
        stopped.append(trainer.should_stop)
    other = SelectDenoiser(latents(40), patience)
    other.load_state_dict(select.state_dict())
    other.on_fit_end(trainer, plan)
    kept = plan.average.module.output.bias[0].item()
    assert (stopped, kept) == (
        ([False] * 4, 5.0) if patience is None else ([False, False, False, True], 0.0)
    )


def test_a_start_that_no_epoch_beats_is_kept():
    module = make()
    plan = DenoiserPlan(module, 10)
    plan.log = lambda *args, **kwargs: None
    select = SelectDenoiser(latents(40), 2)
    trainer = SimpleNamespace(should_stop=False)
    select.on_fit_start(trainer, plan)
    for bias in (3.0, 4.0):
        torch.nn.init.constant_(plan.average.module.output.bias, bias)
        select.on_train_epoch_end(trainer, plan)
    assert trainer.should_stop
    # a run that is taken up goes on with its own best, not with the network it stopped at
    other = SelectDenoiser(latents(40), 2)
    other.load_state_dict(select.state_dict())
    other.on_fit_start(trainer, plan)
    assert other.best == select.best
    other.on_fit_end(trainer, plan)
    assert plan.average.module.output.bias[0].item() == 0.0


@pytest.mark.parametrize("objective", ["flow", "v", "x0", "eps"])
def test_closed_form_is_the_best_start(objective):
    """Of latents that are Gaussian given z nothing predicts better, whatever the target."""
    generator = torch.Generator().manual_seed(1)
    n = 4000
    z = torch.randn(n, N_LATENT, generator=generator)
    h = z @ torch.tensor([[1.5, -0.5]]) + 0.5 * torch.randn(n, N_AE, generator=generator)
    zeros = torch.zeros(n, dtype=torch.long)
    none = torch.full((n, N_AE), 1e-8)
    cells = CellLatents(h, none, z, none[:, :1], zeros + 2, zeros, torch.ones(n))
    module = make(objective=objective)
    plain = held_out_denoising_loss(module, module.denoiser, cells)
    start_denoiser(module, CellLatents(*(part[:2000] for part in cells)), 0)
    held_out = CellLatents(*(part[2000:] for part in cells))
    start = held_out_denoising_loss(module, module.denoiser, held_out)
    # E Var(h | x, z) at each time, and the target's variance from it
    time = module.process.time_grid(1000)
    one, zero = torch.ones(1000, 1), torch.zeros(1000, 1)
    a, s = (module.process.corrupt(*pair, time) for pair in ((one, zero), (zero, one)))
    variance = 1 / (1 / 0.25 + (a / s).square())
    of_h, of_noise = (module.process.target(*pair, time) for pair in ((one, zero), (zero, one)))
    lost = (of_h - of_noise * a / s).square() * variance * N_AE
    expected = float((module.process.weight(time) * lost.squeeze(1)).mean())
    assert start == pytest.approx(expected, rel=0.1)
    assert start < plain


@pytest.mark.parametrize("objective", ["flow", "v", "x0"])
def test_training_learns_the_latents_given_the_conditions(objective):
    module = make(objective=objective)
    module.latent_scale.fill_(2.0)
    cells = data()
    plan = DenoiserPlan(module, 4 * cells.steps_per_epoch, lr=5e-3, n_warmup=10)
    held_out = CellLatents(*(part[-40:] for part in cells.latents))
    before = held_out_denoising_loss(module, module.denoiser, held_out)
    module.begin("diffusion")
    Trainer(max_epochs=4, callbacks=[SelectDenoiser(held_out, 4)], **SILENT).fit(plan, cells)
    plan.take_average()
    module.eval()
    assert held_out_denoising_loss(module, module.denoiser, held_out) < 0.6 * before
    n = 200
    label = torch.arange(n) % 2
    z = 2.0 * label[:, None] - 1
    given = {"batch": torch.zeros(n, dtype=torch.long), "depth": torch.full((n,), 10.0)}
    noise = torch.randn(n, N_AE)
    h = module.sample_latents(z, label, **given, noise=noise, options=SamplerOptions())
    assert float(((h[:, 0] > 0) == (label == 1)).float().mean()) > 0.95
    assert float(h[label == 1, 0].mean()) == pytest.approx(2.0, abs=0.4)
    # Without conditions the same noise gives the same cell, whatever z and label say
    free = SamplerOptions(guidance_scale=0.0)
    h, other = (
        module.sample_latents(v, k, **given, noise=noise, options=free)
        for v, k in ((z, label), (-z, 1 - label))
    )
    torch.testing.assert_close(h, other)
