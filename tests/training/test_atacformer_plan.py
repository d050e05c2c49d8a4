from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from atacvi.modules import AtacformerConfig, AtacformerModule, AtacformerObjectives
from atacvi.nn import PackedTokens
from atacvi.pp._spectral import fit_spectral, map_spectral
from atacvi.training import (
    FinetuningPlan,
    PretrainingPlan,
    balanced_rows,
    directed_rows,
    ramp,
    spectral_loadings,
    start_atacformer,
    warmup_cosine,
)

SIZES = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "dropout": 0.0,
    "pooling": "idf",
}


def module(n_regions=60, **kwargs) -> AtacformerModule:
    torch.manual_seed(0)
    return AtacformerModule(AtacformerConfig.for_regions(n_regions, **SIZES), **kwargs)


def planted(n_cells=300, n_regions=60, n_groups=3, seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n_cells)
    own = np.arange(n_regions) % n_groups == groups[:, None]
    return sp.csr_matrix(rng.random((n_cells, n_regions)) < np.where(own, 0.5, 0.05)), groups


# ---- schedule -------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(51, 400), st.integers(1, 4))
def test_schedule(n_warmup, n_steps, n_cycles):
    factor = [warmup_cosine(t, n_warmup, n_steps, n_cycles) for t in range(n_steps + 1)]
    assert factor[0] == 0.0
    assert factor[n_warmup] == pytest.approx(1.0)
    assert factor[n_steps] == 0.0
    assert all(0 <= f <= 1 + 1e-12 for f in factor)


def test_amplitude_of_the_restarts_falls():
    # two cycles of 100 steps: the second starts lower than the first
    first, second = (warmup_cosine(t, 10, 210, 2) for t in (10, 110))
    assert first == pytest.approx(1.0)
    assert second == pytest.approx(2 * (210 + 10 - 110) / (2 * 210))
    with pytest.raises(ValueError, match="shorter"):
        warmup_cosine(0, 10, 10)


def test_ramp():
    values = [ramp(x) for x in np.linspace(0, 1, 11)]
    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(2 / (1 + math.exp(-10)) - 1)


# ---- start ----------------------------------------------------------------------------------


def test_balanced_rows_pass_a_layer_norm_unchanged(rng):
    loadings = rng.normal(size=(50, 6)) * rng.lognormal(0, 0.5, (50, 1))
    rows = torch.as_tensor(balanced_rows(loadings, 10, rng))
    torch.testing.assert_close(torch.nn.LayerNorm(10)(rows), rows, rtol=1e-4, atol=1e-4)


def pooled(net, tokens):
    packed = PackedTokens.from_cells([row.indices.tolist() for row in tokens])
    with torch.no_grad():
        return net.eval().encode(packed).double().numpy()


def test_directed_rows_add_up_to_the_loadings(rng):
    loadings = rng.normal(size=(50, 6)) * rng.lognormal(0, 2, (50, 1))
    loadings[3] = 0.0
    rows, weights = directed_rows(loadings, 10, rng)
    norm = torch.nn.LayerNorm(10)(torch.as_tensor(rows))
    torch.testing.assert_close(norm, torch.as_tensor(rows), rtol=1e-4, atol=1e-4)
    assert weights[3] == 0.0
    # a turn of the loadings: inner products of weighted rows are theirs, but for a factor
    weighted = rows.astype(float) * weights[:, None]
    gram, wanted = weighted @ weighted.T, loadings @ loadings.T
    np.testing.assert_allclose(gram / gram.max(), wanted / wanted.max(), atol=1e-5)


def test_rows_without_loadings_have_equal_weights(rng):
    rows, weights = directed_rows(np.zeros((5, 0)), 8, rng)
    assert rows.shape == (5, 8)
    np.testing.assert_array_equal(weights, 1.0)


def test_a_module_starts_in_the_direction_of_the_spectral_embedding():
    tokens, groups = planted()
    net = module()
    start_atacformer(net, tokens)
    cells = pooled(net, tokens)
    fit = fit_spectral(tokens.astype(np.float32), 10)
    scale = np.maximum(fit.scale, 0.05)
    spectral = map_spectral(tokens.astype(np.float32), fit, scaled=False) * scale
    one, two = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (cells, spectral))
    np.testing.assert_allclose(one @ one.T, two @ two.T, atol=1e-3)
    means = np.stack([one[groups == g].mean(0) for g in range(3)])
    nearest = ((one[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == groups).mean() > 0.95


def test_with_equal_weights_a_module_starts_close_to_the_spectral_embedding():
    tokens, _ = planted()
    torch.manual_seed(0)
    sizes = {**SIZES, "pooling": "mean", "hidden_size": 16}
    net = AtacformerModule(AtacformerConfig.for_regions(60, **sizes))
    start_atacformer(net, tokens)
    cells = pooled(net, tokens)
    spectral = np.asarray(tokens @ spectral_loadings(tokens, 14)) / np.asarray(tokens.sum(1))
    pairs = np.random.default_rng(0).integers(0, 300, (200, 2))
    one, two = (np.linalg.norm(z[pairs[:, 0]] - z[pairs[:, 1]], axis=1) for z in (cells, spectral))
    assert np.corrcoef(one, two)[0, 1] > 0.95


def test_a_start_from_few_cells_is_finite():
    net = module()
    start_atacformer(net, sp.csr_matrix(np.eye(3, 60)))
    assert all(torch.isfinite(p).all() for p in net.parameters())


# ---- plans ----------------------------------------------------------------------------------


def views(n_cells=8, seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(60)[:10] for _ in range(n_cells)]
    return {
        "first": PackedTokens.from_cells([p[:5].tolist() for p in parts]),
        "second": PackedTokens.from_cells([p[5:].tolist() for p in parts]),
        "corrupted": PackedTokens.from_cells([p.tolist() for p in parts]),
        "replaced": torch.as_tensor(rng.random(n_cells * 10) < 0.45),
    }


def test_pretraining_loss_is_the_weighted_sum_and_tells_the_gain_over_no_context():
    plan = PretrainingPlan(
        module(), lr=1e-3, bayes_losses={"train": 0.68}, replaced_weight=2.0, agreement_weight=0.5
    )
    loss, parts, n_cells = plan.losses(views())
    assert n_cells == 8
    expected = 2 * parts["replaced_loss"] + 0.5 * parts["agreement_loss"]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["context_gain"], 0.68 - parts["replaced_loss"])
    information = math.log(8) - parts["agreement_loss"]
    torch.testing.assert_close(parts["agreement_information"], information)
    torch.testing.assert_close(parts["score"], parts["context_gain"] + information)


def test_a_new_module_knows_nothing_of_replacements():
    _, parts, _ = PretrainingPlan(module(), lr=1e-3).losses(views())
    assert parts["replaced_loss"].item() == pytest.approx(math.log(2), abs=0.02)


def test_cells_with_an_empty_part_take_no_part_in_the_agreement():
    plan = PretrainingPlan(module(), lr=1e-3)
    batch = views()
    whole = plan.losses(batch)[1]["agreement_loss"]
    for name, ids in (("first", [1]), ("second", [])):
        cells = batch[name].ids.split(5)
        batch[name] = PackedTokens.from_cells([*[c.tolist() for c in cells], ids])
    torch.testing.assert_close(plan.losses(batch)[1]["agreement_loss"], whole)


def test_finetuning_loss_and_score():
    net = module(n_labels=3, n_batch=2)
    objectives = AtacformerObjectives(contrastive=1.0, classification=1.0, adversary=1.0)
    plan = FinetuningPlan(net, objectives, centre=torch.zeros(12), lr=1e-3, n_ramp_epochs=4)
    batch = {
        "tokens": views()["corrupted"],
        "labels": torch.tensor([[0, 1, 2, 0, 1, 2, -1, 0]]).T,
        "batch": torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1]]).T,
    }
    loss, parts, n_cells = plan.losses(batch)
    assert n_cells == 8
    names = ("contrastive_loss", "classification_loss", "adversary_loss")
    torch.testing.assert_close(loss, torch.stack([parts[n] for n in names]).sum())
    torch.testing.assert_close(
        parts["score"], -(parts["contrastive_loss"] + parts["classification_loss"])
    )
    assert 0 <= parts["accuracy"] <= 1
    loss.backward()
    # the adversary learns from the start, the encoder does not feel it before the ramp rises
    assert net.batch_prediction_head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": -1.0}, "not negative"),
        ({"lr": 1e-3, "warmup": 1.0}, "share of the steps"),
        ({"lr": 1e-3, "replaced_weight": 0.0, "agreement_weight": 0.0}, "one is positive"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PretrainingPlan(module(), **kwargs)
