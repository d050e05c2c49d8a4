"""Objectives: closed forms, labels that take no part, the adversary, and context that is learnt."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atacvi.modules import AtacformerConfig, AtacformerModule, AtacformerObjectives
from atacvi.modules._atacformer_loss import label_loss, replaced_token_loss
from atacvi.nn import PackedTokens

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "dropout": 0.0,
}
TOKENS = PackedTokens.from_cells([[3, 14, 15, 92], [65, 2], [35, 89, 7], [9, 79, 32]])
BATCH = {
    "tokens": TOKENS,
    "corrupted": TOKENS._replace(ids=(TOKENS.ids + 1) % 100),
    "replaced": torch.arange(12) % 2,
    "labels": torch.tensor([[0], [1], [0], [1]]),
    "batch": torch.tensor([[0], [0], [1], [1]]),
}


@pytest.fixture
def module() -> AtacformerModule:
    config = AtacformerConfig.for_regions(100, **SIZES)
    return AtacformerModule(config, n_labels=3, n_batch=2, n_projection=8)


def loss_of(module, **objectives):
    options = {"objectives": AtacformerObjectives(**objectives)}
    return module(BATCH, loss_kwargs=options)[2]


def test_loss_at_the_start_is_that_of_a_coin(module):
    loss = module.rtd_loss(BATCH["corrupted"], BATCH["replaced"])
    assert loss.item() == pytest.approx(math.log(2), abs=0.03)


@pytest.mark.parametrize(("rate", "entropy"), [(0.45, 0.6881), (0.30, 0.6109), (0.15, 0.4227)])
def test_best_constant_reaches_the_entropy(rate, entropy):
    replaced = torch.zeros(10_000)
    replaced[: int(rate * 10_000)] = 1
    logits = torch.full((10_000,), math.log(rate / (1 - rate)))
    assert replaced_token_loss(logits, replaced).item() == pytest.approx(entropy, abs=5e-5)


def test_tokens_that_do_not_count():
    logits = torch.randn(6, requires_grad=True)
    replaced = torch.tensor([0, 1, -100, 1, -100, 0])
    found = replaced_token_loss(logits, replaced)
    kept = torch.tensor([0, 1, 3, 5])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[kept], replaced[kept].float()
    )
    torch.testing.assert_close(found, expected)
    nothing = replaced_token_loss(logits, torch.full((6,), -100))
    nothing.backward()
    assert nothing.item() == 0.0
    assert (logits.grad == 0).all()
    torch.testing.assert_close(
        replaced_token_loss(logits, replaced == 1),  # bool labels are complete
        replaced_token_loss(logits, (replaced == 1).long()),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cells_without_a_label(smoothing):
    logits = torch.randn(4, 3)
    found = label_loss(logits, torch.tensor([[0], [-1], [2], [-1]]), smoothing)
    log_probability = logits[[0, 2]].log_softmax(1)
    picked = log_probability[[0, 1], [0, 2]]
    expected = -((1 - smoothing) * picked + smoothing * log_probability.mean(1)).mean()
    torch.testing.assert_close(found, expected)
    assert label_loss(logits, torch.full((4, 1), -1)).item() == 0.0


def test_total_is_the_weighted_sum(module):
    names = ["replaced", "contrastive", "triplet", "classification", "adversary"]
    module.eval()
    alone = {name: loss_of(module, **{name: 1.0}).loss for name in names}
    weights = {name: 0.5 + i for i, name in enumerate(names)}
    together = loss_of(module, **weights)
    expected = sum(weights[name] * alone[name] for name in names)
    torch.testing.assert_close(together.loss, expected)
    assert set(together.extra_metrics) == {f"{name}_loss" for name in names}
    assert together.n_obs_minibatch == 4
    together.loss.backward()
    assert all(p.grad is not None for p in module.parameters())


def test_pretraining_alone_needs_only_its_view(module):
    batch = {name: BATCH[name] for name in ("corrupted", "replaced")}
    outputs, _, loss = module(batch)
    assert "cells" not in outputs
    torch.testing.assert_close(loss.loss, module.rtd_loss(BATCH["corrupted"], BATCH["replaced"]))


def test_random_triplets_stay_in_their_labels(module):
    module.eval()
    cells = module.encode(TOKENS)
    far = cells + 1000 * BATCH["labels"]
    assert module.triplet_loss(far, BATCH["labels"], hard=False).item() == 0.0
    assert module.triplet_loss(far, BATCH["labels"], hard=True).item() == 0.0
    assert module.triplet_loss(far, torch.zeros(4, 1), hard=False).item() == 0.0


def test_adversary_pushes_the_encoder_against_the_head(module):
    """The head descends; the encoder gets minus the strength times the gradient."""

    def gradients(strength):
        module.zero_grad()
        loss_of(module, adversary=1.0, reversal_strength=strength).loss.backward()
        layer = module.encoder.layers[0].linear1.weight.grad
        return layer.clone(), module.batch_prediction_head.weight.grad.clone()

    module.eval()
    (layer, head), (layer_half, head_half) = gradients(1.0), gradients(0.5)
    torch.testing.assert_close(layer_half, 0.5 * layer)
    torch.testing.assert_close(head_half, head)
    module.zero_grad()
    label_loss(module.batch_prediction_head(module.encode(TOKENS)), BATCH["batch"]).backward()
    torch.testing.assert_close(module.encoder.layers[0].linear1.weight.grad, -layer)


def test_without_weight_the_adversary_changes_no_step(module):
    module.eval()
    steps = []
    for objectives in ({"replaced": 1.0}, {"replaced": 1.0, "adversary": 0.0}):
        module.zero_grad()
        loss_of(module, **objectives).loss.backward()
        steps.append([p.grad.clone() for p in module.encoder.parameters()])
    for one, other in zip(*steps, strict=True):
        assert torch.equal(one, other)
    # and with a strength of 0 only the head learns from it
    module.zero_grad()
    loss_of(module, replaced=1.0, adversary=1.0, reversal_strength=0.0).loss.backward()
    for one, parameter in zip(steps[0], module.encoder.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({}, "one must be positive"),
        ({"replaced": -1.0, "triplet": 1.0}, "must not be negative"),
        ({"contrastive": 1.0, "temperature": 0.0}, "temperature must be positive"),
        ({"classification": 1.0, "label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_objectives_are_checked(objectives, message):
    with pytest.raises(ValueError, match=message):
        AtacformerObjectives(**objectives)


@pytest.mark.parametrize("seed", [0, 1])
def test_context_is_learnt(seed):
    """Regions open in modules, all equally often: a token alone tells nothing, its context all.

    Without context no prediction goes below the entropy of the labels, here of rate 0.45.
    """
    n_modules, size, rate = 4, 8, 0.45
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def draw(n_cells):
        module_of = rng.integers(0, n_modules, n_cells)
        clean = module_of[:, None] * size + np.arange(size)
        other = rng.integers(0, n_modules * size, clean.shape)
        corrupted = np.where(rng.random(clean.shape) < rate, other, clean)
        offsets = torch.arange(n_cells + 1) * size
        ids = torch.as_tensor(corrupted).flatten()
        return PackedTokens(ids, offsets), torch.as_tensor(corrupted != clean).flatten()

    config = AtacformerConfig.for_regions(
        n_modules * size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        dropout=0.0,
    )
    module = AtacformerModule(config)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        module.rtd_loss(*draw(32)).backward()
        optimizer.step()
    with torch.no_grad():
        loss = module.eval().rtd_loss(*draw(300)).item()
    share = rate * (1 - 1 / (n_modules * size))
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert entropy == pytest.approx(0.685, abs=1e-3)
    assert loss < 0.8 * entropy
