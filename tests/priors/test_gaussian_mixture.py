"""The Gaussian mixture prior: known values, log-space behaviour, bounds, initialisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atacvi.priors import GaussianMixturePrior

DOUBLE = torch.float64


def build(means, variances, weights) -> GaussianMixturePrior:
    means = torch.as_tensor(means, dtype=DOUBLE)
    prior = GaussianMixturePrior(*means.shape).double()
    prior.initialize(means, torch.as_tensor(variances), torch.as_tensor(weights))
    return prior


def random_prior(seed: int, n_components: int = 4, n_latent: int = 3) -> GaussianMixturePrior:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(n_components, n_latent, generator=generator)
    variances = torch.rand(n_components, n_latent, generator=generator) + 0.1
    return build(means, variances, torch.rand(n_components, generator=generator) + 0.1)


def tensor(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=DOUBLE)


TWO = ([[0, 0, 0], [1, -1, 1]], [[1, 1, 1], [0.5, 2, 1]], [0.3, 0.7])
MEAN, VARIANCE = tensor([0.5, -1, 2]), tensor([0.5, 1, 2])


def test_one_standard_component_is_the_closed_form():
    prior = build([[0, 0, 0]], [[1, 1, 1]], [1])
    assert prior.kl(MEAN, VARIANCE).total.item() == pytest.approx(2.875, abs=1e-8)
    at_prior = prior.kl(torch.zeros(1, 3, dtype=DOUBLE), torch.ones(1, 3, dtype=DOUBLE))
    assert at_prior.total.item() == pytest.approx(0.0, abs=1e-12)
    # Feeding a log-variance or a standard deviation as the variance gives other numbers.
    prior = build([[0, 0]], [[1, 1]], [1])
    kl = prior.kl(tensor([0.3, -0.5]), tensor([-1, -0.5]).exp())
    assert kl.total.item() == pytest.approx(0.4072050, abs=1e-7)


def test_two_components_by_both_forms():
    prior = build(*TWO)
    gamma = prior.responsibilities(MEAN)
    assert gamma[0].tolist() == pytest.approx([0.06167036, 0.93832964], abs=1e-7)
    assert prior.kl(MEAN, VARIANCE).total.item() == pytest.approx(1.29302098, abs=1e-7)
    means, variances, weights = (torch.as_tensor(t, dtype=DOUBLE) for t in TWO)
    log_p_z = (
        -0.5
        * (
            gamma[0]
            * (
                math.log(2 * math.pi)
                + variances.log()
                + VARIANCE / variances
                + (MEAN - means) ** 2 / variances
            ).sum(-1)
        ).sum()
    )
    log_q_z = -0.5 * (1 + VARIANCE.log() + math.log(2 * math.pi)).sum()
    log_c = (gamma * (gamma.log() - weights.log())).sum()
    assert (-log_p_z + log_q_z + log_c).item() == pytest.approx(1.29302098, abs=1e-7)


def test_bounds_the_true_divergence():
    prior = build([[0, 0], [1, -1], [-2, 2]], [[1, 1], [0.5, 0.5], [1, 2]], [0.2, 0.5, 0.3])
    mean, variance = tensor([0.3, -0.5]), tensor([-1, -0.5]).exp()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 2, generator=generator, dtype=DOUBLE)
    z = mean + variance.sqrt() * noise
    log_q = -0.5 * ((z - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
    truth = (log_q - prior.log_prob(z)).mean().item()
    assert truth == pytest.approx(0.714, abs=0.01)
    best = prior.kl(mean, variance, prior.log_responsibilities(mean, variance)).total.item()
    assert best == pytest.approx(1.0018, abs=1e-4)
    averaged = prior.responsibilities(z).mean(0, keepdim=True).log()
    assert prior.kl(mean, variance, averaged).total.item() == pytest.approx(1.0247, abs=1e-3)
    for seed in range(20):
        scores = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        assert prior.kl(mean, variance, scores.log_softmax(-1)).total.item() >= best


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e4])
def test_responsibilities_sum_to_one_far_away(scale):
    prior = random_prior(0, 8, 20).float()
    direction = torch.nn.functional.normalize(torch.ones(1, 20), dim=-1)
    gamma = prior.responsibilities(scale * direction)
    assert torch.isfinite(gamma).all()
    assert gamma.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert torch.isfinite(prior.kl(scale * direction, torch.ones(1, 20)).total).all()


def test_components_may_be_permuted_and_logits_shifted():
    prior, order = random_prior(1), torch.tensor([2, 0, 3, 1])
    permuted = build(prior.means[order], prior.variances[order], prior.weights[order])
    torch.testing.assert_close(
        prior.responsibilities(MEAN)[:, order], permuted.responsibilities(MEAN)
    )
    torch.testing.assert_close(prior.kl(MEAN, VARIANCE).total, permuted.kl(MEAN, VARIANCE).total)
    before = prior.responsibilities(MEAN)
    prior.logits.data += 7
    torch.testing.assert_close(prior.responsibilities(MEAN), before)


def test_assigns_where_densities_in_linear_space_drown_in_their_floor():
    means = torch.zeros(8, 20, dtype=DOUBLE)
    means[torch.arange(8), torch.arange(8)] = 6
    prior = build(means, torch.ones(8, 20), torch.ones(8))
    generator = torch.Generator().manual_seed(0)
    z = means[0] + torch.randn(100, 20, generator=generator, dtype=DOUBLE)
    linear = (prior.log_weights + prior.component_log_prob(z)).exp() + 1e-10
    linear = linear / linear.sum(-1, keepdim=True)
    assert (linear[:, 0] < 0.2).float().mean() > 0.9
    assert prior.responsibilities(z)[:, 0].min() > 0.99


def test_two_distant_components_in_32_dimensions_are_certain():
    means = torch.zeros(2, 32)
    means[1, 0] = 10
    prior = build(means, torch.ones(2, 32), torch.ones(2))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(100, 32, generator=generator, dtype=DOUBLE)
    assert prior.responsibilities(z)[:, 0].min() > 0.999


@pytest.mark.parametrize("seed", range(10))
def test_divergence_is_not_negative(seed):
    prior = random_prior(seed)
    generator = torch.Generator().manual_seed(100 + seed)
    mean = 3 * torch.randn(50, 3, generator=generator, dtype=DOUBLE)
    variance = torch.rand(50, 3, generator=generator, dtype=DOUBLE) * 3 + 1e-3
    kl = prior.kl(mean, variance)
    assert (kl.z >= 0).all()
    assert (kl.c >= -1e-12).all()


def test_best_variance_is_that_of_the_component():
    prior = build([[1, -2, 0.5]], [[0.5, 1, 3]], [1])
    variance = tensor([0.5, 1, 3]).requires_grad_()
    total = prior.kl(prior.means.detach(), variance).total
    total.sum().backward()
    assert variance.grad.abs().max().item() < 1e-12
    # A variance mistaken for its logarithm would cost 0.359 per dimension here.
    assert total.item() == pytest.approx(0.0, abs=1e-12)


def test_gradcheck():
    prior = random_prior(3)
    mean, variance = MEAN.clone().requires_grad_(), VARIANCE.clone().requires_grad_()
    parameters = tuple(prior.parameters())
    assert torch.autograd.gradcheck(
        lambda m, v, *_: prior.kl(m, v).total, (mean, variance, *parameters)
    )


def test_variance_floor_holds():
    prior = GaussianMixturePrior(2, 3, min_variance=1e-2)
    prior.initialize(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([1.0, 0.0]))
    assert prior.variances.min().item() == pytest.approx(1e-2, rel=1e-5)
    prior.unconstrained_variances.data.fill_(-1e4)
    assert prior.variances.min().item() == pytest.approx(1e-2)
    assert torch.isfinite(prior.kl(torch.zeros(1, 3), torch.ones(1, 3)).total).all()


def test_a_component_without_mass_adds_nothing():
    prior = build(*TWO)
    certain = tensor([0.0, -torch.inf])
    kl = prior.kl(MEAN, VARIANCE, certain)
    assert kl.c.item() == pytest.approx(-math.log(0.3))
    assert kl.z.item() == pytest.approx(prior.component_kl(MEAN, VARIANCE)[0, 0].item())


def test_density_equals_torch_and_samples_have_its_moments():
    prior = build(*TWO)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(prior.weights),
        torch.distributions.Independent(
            torch.distributions.Normal(prior.means, prior.variances.sqrt()), 1
        ),
    )
    z = prior.sample(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior.log_prob(z), mixture.log_prob(z))
    torch.testing.assert_close(z.mean(0), mixture.mean.detach(), atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0), mixture.variance.detach(), atol=0.03, rtol=0)
    assert torch.equal(z, prior.sample(100_000, torch.Generator().manual_seed(0)))
    assert not z.requires_grad


def test_labels_give_moments():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 3))
    labels = np.array(["b", "a", "c"])[rng.integers(3, size=60)]
    prior = GaussianMixturePrior(3, 3).double()
    prior.initialize_from_labels(z, labels)
    for k, label in enumerate("abc"):
        group = z[labels == label]
        np.testing.assert_allclose(prior.means[k].detach(), group.mean(0), rtol=1e-10)
        np.testing.assert_allclose(prior.variances[k].detach(), group.var(0), rtol=1e-7)
        assert prior.weights[k].item() == pytest.approx(len(group) / 60)


def test_start_does_not_depend_on_the_global_seed():
    torch.manual_seed(1)
    first = GaussianMixturePrior(4, 3)
    torch.manual_seed(2)
    assert torch.equal(first.means, GaussianMixturePrior(4, 3).means)
    assert torch.unique(first.means, dim=0).shape[0] == 4


@pytest.mark.parametrize("method", ["kmeans", "gmm", "leiden"])
def test_fit_recovers_groups(method):
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [30, 60, 90])
    centres = np.array([[0.0, 0], [12, 0], [0, 12]])
    z = torch.as_tensor(centres[truth] + rng.normal(size=(180, 2)))
    prior = GaussianMixturePrior(3, 2)
    fit = prior.fit(z, method, n_init=3)
    assert sorted(np.bincount(fit.labels)) == [30, 60, 90]
    assert sorted(prior.weights.tolist()) == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=1e-4)
    assert prior.weights.sum().item() == pytest.approx(1.0)
    assigned = prior.responsibilities(z.float()).argmax(-1).numpy()
    assert (assigned == fit.labels).all()


@pytest.mark.slow
def test_from_data_chooses_the_number_of_components():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [12, 0], [0, 12]])
    z = np.repeat(centres, 60, axis=0) + rng.normal(size=(180, 2))
    for method in ("kmeans", "gmm", "leiden"):
        prior = GaussianMixturePrior.from_data(z, method, n_init=3, resolution=0.1)
        assert prior.n_components == 3
        assert prior.weights.tolist() == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_errors_say_what_to_do():
    prior = GaussianMixturePrior(2, 3)
    with pytest.raises(ValueError, match="n_components=3"):
        prior.initialize_from_labels(np.zeros((3, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="means of shape"):
        prior.initialize(torch.zeros(3, 3), torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match="not finite"):
        prior.initialize(torch.full((2, 3), torch.nan), torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match="negative"):
        prior.initialize(torch.zeros(2, 3), -torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match="positive"):
        GaussianMixturePrior(0, 3)
