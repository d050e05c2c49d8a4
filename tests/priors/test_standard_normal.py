"""The standard normal prior agrees with a one-component mixture."""

from __future__ import annotations

import pytest
import torch

from atacvi.priors import GaussianMixturePrior, StandardNormalPrior


def test_equals_a_one_component_mixture():
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(5, 3, generator=generator), torch.rand(5, 3, generator=generator)
    mixture = GaussianMixturePrior(1, 3)
    mixture.initialize(torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1))
    ours, theirs = StandardNormalPrior(3).kl(mean, variance), mixture.kl(mean, variance)
    torch.testing.assert_close(ours.z, theirs.z)
    torch.testing.assert_close(ours.total, theirs.total)
    assert ours.c.tolist() == [0.0] * 5
    torch.testing.assert_close(StandardNormalPrior(3).log_prob(mean), mixture.log_prob(mean))
    torch.testing.assert_close(
        StandardNormalPrior(3).responsibilities(mean), mixture.responsibilities(mean)
    )


def test_known_value_and_zero():
    prior = StandardNormalPrior(3)
    kl = prior.kl(torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[0.5, 1.0, 2.0]]))
    assert kl.total.item() == pytest.approx(2.875)
    assert prior.kl(torch.zeros(1, 3), torch.ones(1, 3)).total.item() == 0


def test_samples_follow_the_generator():
    prior = StandardNormalPrior(3)
    draws = [prior.sample(4, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (4, 3)


def test_has_no_parameters():
    assert not list(StandardNormalPrior(2).parameters())
