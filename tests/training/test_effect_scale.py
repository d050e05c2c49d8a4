"""Effects of the latent are scaled as counts that were not encoded ask for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from atacvi.modules import MultiViewModule
from atacvi.training import EFFECT_SCALES, calibrate_effects

N_CELLS, N_GENES, N_PEAKS, N_LATENT = 400, 60, 150, 3
DEPTH = 200.0


def overfitted(true_scale: float) -> tuple[MultiViewModule, dict[str, torch.Tensor]]:
    """A module that knows z, and counts of which z says `true_scale` of what the peak head says."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    module = MultiViewModule(N_GENES, N_PEAKS, n_clusters=2, n_latent=N_LATENT, n_embed=8)
    module.eval()
    z = torch.randn(N_CELLS, N_LATENT, generator=generator) + 1.0
    with torch.no_grad():
        for head in (module.rna_head, module.atac_head):
            head.loadings.weight.copy_(torch.randn(head.loadings.weight.shape) * 0.4)
        module.peak_table.copy_(torch.randn(N_PEAKS, 8) * 0.2)
        module.rna_head.offset.copy_(torch.randn(N_GENES) * 0.3)
        module.gate_logits.fill_(-12.0)  # no gate
        module.log_inverse_dispersion.fill_(8.0)  # nearly Poisson
        genes = module.rna_head.offset + module.rna_head.loadings(z)
        effects = module.atac_head.loadings(z) @ module.peak_table.T
        centred = effects - effects.mean(0)
        peaks = torch.log_softmax(true_scale * centred, 1)
        of_peak = torch.logsumexp(peaks, 0) - torch.logsumexp(effects, 0)
        module.atac_head.offset.copy_(of_peak)  # means are right, as after training
    counts = {
        "X": torch.poisson(DEPTH * torch.softmax(genes, 1), generator=generator),
        "atac": torch.poisson(DEPTH * peaks.exp(), generator=generator),
        "batch": torch.zeros(N_CELLS, 1),
        "cell": torch.arange(N_CELLS).view(-1, 1),
    }
    module.known = z
    return module, counts


@pytest.fixture
def at(monkeypatch):
    """Let the encoder return the true z, whatever it is shown."""

    def prepare(true_scale: float):
        module, counts = overfitted(true_scale)
        shown = []

        def inference(batch):
            rows = slice(sum(shown), sum(shown) + batch.rna.shape[0])
            shown.append(batch.rna.shape[0])
            z = module.known[rows]
            return {
                "posterior": SimpleNamespace(mean=z),
                "log_responsibilities": torch.full((len(z), 2), 0.5).log(),
            }

        monkeypatch.setattr(module, "inference", inference)
        parts = torch.arange(N_CELLS).split(150)
        return module, [{key: value[part] for key, value in counts.items()} for part in parts]

    return prepare


@pytest.mark.parametrize("true_scale", [1.0, 0.5, 0.1])
def test_the_scale_of_the_truth_is_found(at, true_scale):
    module, minibatches = at(true_scale)
    scales = calibrate_effects(module, minibatches, 0)
    assert scales["rna"] == 1.0
    grid = sorted(EFFECT_SCALES)
    assert abs(grid.index(scales["atac"]) - grid.index(true_scale)) <= 1


def test_effects_are_never_enlarged(at):
    module, minibatches = at(1.3)
    assert calibrate_effects(module, minibatches, 0) == {"rna": 1.0, "atac": 1.0}


def test_heads_are_scaled_around_the_mean_effect(at):
    module, minibatches = at(0.2)
    z, trunk = module.known, torch.zeros(N_CELLS, module.n_hidden)
    covariates = torch.zeros(N_CELLS, 0)

    def rates() -> torch.Tensor:
        return module.peak_log_rates(module.atac_head.cell_vector(z, covariates, trunk)).detach()

    before, expression = rates(), module.rna_head(z, covariates, trunk).detach()
    scale = calibrate_effects(module, minibatches, 0)["atac"]
    assert scale < 1
    after = rates()
    torch.testing.assert_close(after.exp().mean(0), before.exp().mean(0), rtol=1e-3, atol=0)
    centred = before - before.mean(0)
    torch.testing.assert_close(after - after.mean(0), scale * centred, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(module.rna_head(z, covariates, trunk), expression)


def test_the_same_seed_gives_the_same_and_the_global_generator_is_left_alone(at):
    state = torch.random.get_rng_state()
    module, minibatches = at(0.5)
    torch.random.set_rng_state(state)
    one = calibrate_effects(module, minibatches, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    module, minibatches = at(0.5)
    assert calibrate_effects(module, minibatches, 3) == one


def test_one_cell_changes_nothing(at):
    module, minibatches = at(0.1)
    first = {key: value[:1] for key, value in minibatches[0].items()}
    assert calibrate_effects(module, [first], 0) == {"rna": 1.0, "atac": 1.0}


def test_values_of_tfidf_stay_as_learnt(at):
    module, minibatches = at(0.1)
    module.atac_target = "tfidf"
    before = module.atac_head.loadings.weight.clone()
    assert calibrate_effects(module, minibatches, 0)["atac"] == 1.0
    assert torch.equal(module.atac_head.loadings.weight, before)
