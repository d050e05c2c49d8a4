"""Contrastive and triplet losses against loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from atacvi.nn import (
    batch_hard_triplet_loss,
    paired_contrastive_loss,
    sample_triplets,
    supervised_contrastive_loss,
    triplet_loss,
)

LABELS = torch.tensor([0, 1, 0, -1, 1, 2, 0])
LOGIT_SCALE = torch.tensor(2.6592)


def supervised_by_loop(embeddings, labels, temperature):
    known = [i for i in range(len(labels)) if labels[i] >= 0]
    z = F.normalize(embeddings, dim=1)
    terms = []
    for i in known:
        others = [j for j in known if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            total = sum(math.exp(float(z[i] @ z[j]) / temperature) for j in others)
            logs = [float(z[i] @ z[p]) / temperature - math.log(total) for p in positives]
            terms.append(-sum(logs) / len(logs))
    return sum(terms) / len(terms)


def hard_by_loop(embeddings, labels, margin):
    known = [i for i in range(len(labels)) if labels[i] >= 0]
    terms = []
    for i in known:
        distances = {j: float((embeddings[i] - embeddings[j]).norm()) for j in known if j != i}
        positive = [d for j, d in distances.items() if labels[j] == labels[i]]
        negative = [d for j, d in distances.items() if labels[j] != labels[i]]
        if positive and negative:
            terms.append(max(max(positive) - min(negative) + margin, 0.0))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_supervised_contrastive_by_loop(temperature):
    cells = torch.randn(7, 4)
    found = supervised_contrastive_loss(cells, LABELS, temperature).item()
    assert found == pytest.approx(supervised_by_loop(cells, LABELS, temperature), rel=1e-5)


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_batch_hard_triplets_by_loop(margin):
    cells = torch.randn(7, 4)
    found = batch_hard_triplet_loss(cells, LABELS, margin).item()
    assert found == pytest.approx(hard_by_loop(cells, LABELS, margin), rel=1e-5)


@given(st.lists(st.integers(-1, 2), min_size=1, max_size=6))
def test_losses_and_gradients_are_finite_for_any_labels(labels):
    for loss in (supervised_contrastive_loss, batch_hard_triplet_loss):
        cells = torch.ones(len(labels), 3, requires_grad=True)  # all alike: the worst case
        value = loss(cells, torch.tensor(labels))
        value.backward()
        assert value.isfinite()
        assert cells.grad.isfinite().all()


def test_triplet_closed_form():
    """A distant negative costs nothing; three equal vectors cost the margin."""
    a = torch.randn(5, 8)
    assert triplet_loss(a, a, a + 100).item() == 0.0
    assert triplet_loss(a, a, a).item() == pytest.approx(1.0, abs=1e-5)
    assert triplet_loss(a, a, a, margin=0.3).item() == pytest.approx(0.3, abs=1e-5)
    assert batch_hard_triplet_loss(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])).item() == 1.0


def test_triplets_are_what_they_are_called():
    labels = torch.randint(-1, 4, (60,))
    anchor, positive, negative = sample_triplets(labels, torch.Generator().manual_seed(0))
    assert len(anchor) == (labels >= 0).sum()
    assert (labels[anchor] == labels[positive]).all()
    assert (anchor != positive).all()
    assert (labels[anchor] != labels[negative]).all()
    assert (labels[torch.cat([anchor, positive, negative])] >= 0).all()


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [-1, -1], [0]])
def test_no_triplets_without_both(labels):
    assert all(len(x) == 0 for x in sample_triplets(torch.tensor(labels)))


def test_paired_loss_is_symmetric():
    first, second = torch.randn(2, 9, 6)
    one = paired_contrastive_loss(first, second, LOGIT_SCALE)
    torch.testing.assert_close(one, paired_contrastive_loss(second, first, LOGIT_SCALE))


def test_paired_loss_of_random_vectors_is_the_logarithm_of_the_batch():
    assert LOGIT_SCALE.exp().item() == pytest.approx(1 / 0.07, abs=1e-2)
    first, second = torch.randn(2, 256, 4096)  # in many dimensions nearly orthogonal
    loss = paired_contrastive_loss(first, second, LOGIT_SCALE).item()
    assert loss == pytest.approx(math.log(256), abs=0.1)


@pytest.mark.parametrize("logit_scale", [0.0, 1.0, 2.6592])
def test_paired_loss_of_perfect_alignment(logit_scale):
    """Orthogonal cells: ln(1 + (n - 1) exp(-e^s)), which vanishes as s grows."""
    cells = torch.linalg.qr(torch.randn(16, 16)).Q
    found = paired_contrastive_loss(cells, cells, torch.tensor(logit_scale)).item()
    expected = math.log1p(15 * math.exp(-math.exp(logit_scale)))
    assert found == pytest.approx(expected, abs=1e-5)
    shifted = paired_contrastive_loss(cells, cells.roll(1, 0), torch.tensor(logit_scale)).item()
    assert shifted == pytest.approx(expected + math.exp(logit_scale), abs=1e-4)
