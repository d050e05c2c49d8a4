"""Starting values of ATACDiffModule, and the prior that is fitted after training."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from atacvi.modules import ATACDiffModule
from atacvi.pp import fit_spectral, map_spectral
from atacvi.training import (
    atacdiff_start,
    cell_parts,
    fit_latent_prior,
    standardise_latents,
    start_from_data,
)

N_PEAKS = 240


def planted(n_cells: int = 200, seed: int = 0) -> sp.csr_matrix:
    """Open peaks of cells of three types, at varying depth."""
    rng = np.random.default_rng(seed)
    rates = np.full((3, N_PEAKS), 0.04)
    for k in range(3):
        rates[k, 80 * k : 80 * k + 50] = 0.3
    depth = rng.uniform(0.5, 1.5, n_cells)
    counts = rng.poisson(rates[np.arange(n_cells) % 3] * depth[:, None])
    return sp.csr_matrix((counts > 0).astype(np.float32))


def every(counts: sp.csr_matrix) -> np.ndarray:
    """All cells are training cells."""
    return np.ones(counts.shape[0], dtype=bool)


def make(**kwargs) -> ATACDiffModule:
    torch.manual_seed(0)
    options = {"n_latent": 5, "n_latent_ae": 6, "n_hidden": 16, "n_embed": 8, "n_spectral": 8}
    options |= kwargs
    return ATACDiffModule(N_PEAKS, **options)


def minibatch(counts: sp.csr_matrix) -> dict[str, torch.Tensor]:
    codes = torch.zeros(counts.shape[0], 1)
    return {"X": torch.as_tensor(counts.toarray()), "batch": codes, "labels": codes}


def errors(module: ATACDiffModule, counts: sp.csr_matrix) -> dict[str, float]:
    """Negative log-likelihood of each branch at its posterior mean, per cell."""
    module.eval()
    with torch.no_grad():
        batch = module.read_batch(minibatch(counts))
        h, z = module.latent_posterior(batch).mean, module.auxiliary_posterior(batch).mean
        vector = module.generative(h, batch.covariates)["peak_vector"]
        of_z = module._auxiliary_reconstruction(batch, z, module._draw_peaks(batch))[0]
        return {
            "autoencoder": -float(module.atac_log_prob(batch, vector).mean()),
            "auxiliary": float(of_z.mean()),
        }


@pytest.mark.parametrize("n_spectral", [0, 8])
def test_statistics_of_depth(n_spectral):
    counts, module = planted(), make(n_spectral=n_spectral)
    start_from_data(module, counts, every(counts), 0)
    depth = np.asarray(counts.sum(1)).ravel()
    assert float(module.atac_median_depth) == np.median(depth)
    standard = module.standard_log_depth(torch.as_tensor(depth)).numpy()
    assert abs(standard.mean()) < 1e-3
    assert standard.std() == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("n_spectral", [0, 8])
def test_empty_cells_and_unseen_peaks_leave_all_finite(n_spectral):
    counts = planted().tolil()
    counts[3] = 0
    counts[:, 7] = 0
    module = make(n_spectral=n_spectral)
    start_from_data(module, sp.csr_matrix(counts), every(counts), 0)
    assert all(torch.isfinite(v).all() for v in module.state_dict().values())


@pytest.mark.parametrize("n_spectral", [0, 8])
def test_statistics_and_decoders_see_training_cells_only(n_spectral, monkeypatch):
    """Held-out cells move the spectral map, and nothing else."""
    monkeypatch.setattr(cell_parts, "_CELLS_A_BLOCK", 64)
    counts = planted()
    train = np.arange(200) % 4 > 0
    fit = fit_spectral(counts, 8, random_state=0)
    monkeypatch.setattr(atacdiff_start, "fit_spectral", lambda *args, **kwargs: fit)
    with_others, alone = make(n_spectral=n_spectral), make(n_spectral=n_spectral)
    start_from_data(with_others, counts, train, 0)
    start_from_data(alone, counts[train], every(counts[train]), 0)
    expected = alone.state_dict()
    for name, value in with_others.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_same_seed_same_start():
    one, two = make(), make()
    for module in (one, two):
        start_from_data(module, planted(), every(planted()), 3)
    other = two.state_dict()
    assert all(torch.equal(v, other[k]) for k, v in one.state_dict().items())


# ---- encoders of open peaks -----------------------------------------------------------------


def test_offsets_give_the_frequencies_of_the_peaks():
    counts, module = planted(), make(likelihood="poisson", n_spectral=0)
    start_from_data(module, counts, every(counts), 0)
    total = np.asarray(counts.sum(0)).ravel()
    for head in (module.autoencoder.head, module.auxiliary_decoder):
        rates = head.offset.exp().numpy(force=True)
        np.testing.assert_allclose(rates.sum(), 1.0, rtol=1e-4)
        np.testing.assert_allclose(rates, total / total.sum(), rtol=0.5, atol=1e-4)


def test_both_branches_start_from_the_same_rows_of_peaks():
    module = make(n_spectral=0)
    before = module.autoencoder.table.clone()
    start_from_data(module, planted(), every(planted()), 0)
    assert torch.equal(module.autoencoder.table, module.auxiliary_encoder.table)
    assert not torch.equal(module.autoencoder.table, before)


# ---- encoders of spectral components --------------------------------------------------------


def test_z_starts_at_the_spectral_embedding():
    counts, module = planted(), make()
    start_from_data(module, counts, every(counts), 0)
    module.eval()
    with torch.no_grad():
        batch = module.read_batch(minibatch(counts))
        z, h = module.auxiliary_posterior(batch).mean, module.latent_posterior(batch).mean
    fit = fit_spectral(counts, 8, random_state=0)
    np.testing.assert_allclose(z.numpy(), map_spectral(counts, fit)[:, :5], rtol=1e-3, atol=1e-4)
    components = map_spectral(counts, fit, scaled=False)
    np.testing.assert_allclose(h.numpy(), components[:, :6], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson"])
def test_the_start_explains_other_cells_better_than_a_random_one(likelihood):
    counts, other = planted(), planted(90, seed=1)
    random, plain, started = (make(likelihood=likelihood, n_spectral=k) for k in (8, 0, 8))
    start_from_data(
        plain, counts, every(counts), 0
    )  # offsets that are right, and loadings by chance
    start_from_data(started, counts, every(counts), 0)
    found = [errors(module, other) for module in (random, plain, started)]
    for branch in ("autoencoder", "auxiliary"):
        assert found[2][branch] < found[0][branch] - 1.0
        assert found[2][branch] < found[1][branch] - 1.0


def test_more_components_than_the_cells_have():
    counts = planted(8)
    module = make(n_latent=30, n_spectral=64)
    start_from_data(module, counts, every(counts), 0)
    assert (module.auxiliary_encoder.spectral.table[:, 5:] == 0).all()
    assert all(np.isfinite(value) for value in errors(module, counts).values())


# ---- between the stages ---------------------------------------------------------------------


def test_standardised_latents_have_unit_moments():
    rng, module = np.random.default_rng(0), make()
    mean = 3 * rng.standard_normal((4000, 6)) + np.arange(6)
    variance = np.full((4000, 6), 4.0)
    standardise_latents(module, mean, variance)
    sample = mean + 2 * rng.standard_normal(mean.shape)
    standard = (sample - module.latent_mean.numpy()) / module.latent_scale.numpy()
    np.testing.assert_allclose(standard.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(standard.std(0), 1, atol=0.05)
    sphere = make(unit_sphere=True)
    standardise_latents(sphere, mean, variance)
    assert (sphere.latent_scale == 1).all()


# ---- the prior of z and depth ---------------------------------------------------------------


def moments(prior, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the mixture, of one label or of all."""
    keep = slice(None) if label is None else (prior.labels == label).numpy()
    weights = prior.weights.double().numpy()[keep]
    weights = weights / weights.sum()
    means, factors = prior.means.double().numpy()[keep], prior.factors.double().numpy()[keep]
    mean = weights @ means
    within = np.einsum("k,kij,klj->il", weights, factors, factors)
    centred = means - mean
    return mean, within + np.einsum("k,ki,kj->ij", weights, centred, centred)


def cells(n: int = 1500, seed: int = 0):
    rng = np.random.default_rng(seed)
    root = np.array([[1.0, 0, 0], [0.8, 0.5, 0], [0.0, 0.3, 0.2]])
    values = rng.standard_normal((n, 3)) @ root.T + np.array([1.0, -2.0, 7.0])
    return values[:, :2], np.full((n, 2), 0.04), np.exp(values[:, 2])


def test_prior_has_the_moments_of_samples_of_z_and_log_depth():
    mean, variance, depth = cells(4000)
    prior = fit_latent_prior(mean, variance, depth, np.full(4000, -1), 0)
    found_mean, found = moments(prior)
    whole = np.column_stack([mean, np.log(depth)])
    expected = np.cov(whole.T) + np.diag([0.04, 0.04, 0.0])
    np.testing.assert_allclose(found_mean, whole.mean(0), atol=0.02)
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert float(prior.weights.sum()) == pytest.approx(1.0)


def test_one_component_for_gaussian_cells_and_several_for_groups():
    mean, variance, depth = cells()
    labels = np.full(len(depth), -1)
    assert len(fit_latent_prior(mean, variance, depth, labels, 0).weights) == 1
    apart = mean + 15 * (np.arange(len(mean)) % 3)[:, None]
    grouped = fit_latent_prior(apart, variance, depth, labels, 0)
    assert len(grouped.weights) >= 3
    assert len(fit_latent_prior(apart, variance, depth, labels, 0, 2).weights) <= 2


def test_each_label_has_its_own_components_and_weight():
    mean, variance, depth = cells(900)
    labels = np.repeat([0, 1, -1], [600, 200, 100])
    mean = mean + 10 * labels[:, None]
    prior = fit_latent_prior(mean, variance, depth, labels, 0)
    for label, share in ((0, 600), (1, 200), (-1, 100)):
        weight = float(prior.weights[prior.labels == label].sum())
        assert weight == pytest.approx(share / 900, abs=1e-5)
        np.testing.assert_allclose(
            moments(prior, label)[0][:2], mean[labels == label].mean(0), atol=0.1
        )


def test_components_know_the_batches_of_their_cells():
    mean, variance, depth = cells(900)
    labels = np.repeat([0, 1, 2], 300)
    batch = np.where(labels == 0, 0, np.arange(900) % 3)
    prior = fit_latent_prior(mean, variance, depth, labels, 0, batch=batch, n_batch=3)
    torch.testing.assert_close(prior.batches.sum(1), torch.ones(len(prior.batches)))
    assert (prior.batches[prior.labels == 0] == torch.tensor([1.0, 0.0, 0.0])).all()
    of_two = prior.weights[prior.labels == 2] @ prior.batches[prior.labels == 2]
    torch.testing.assert_close(3 * of_two, torch.full((3,), 1 / 3), atol=1e-3, rtol=0)
    alone = fit_latent_prior(mean, variance, depth, labels, 0)
    assert torch.equal(alone.batches, torch.ones(len(alone.weights), 1))


@pytest.mark.parametrize("n_rare", [1, 2, 3])
def test_a_label_of_few_cells(n_rare):
    mean, variance, depth = cells(300)
    labels = np.zeros(300, dtype=int)
    labels[:n_rare] = 1
    prior = fit_latent_prior(mean, variance, depth, labels, 0)
    assert all(torch.isfinite(part).all() for part in prior)
    found, _ = moments(prior, 1)
    np.testing.assert_allclose(found[:2], mean[:n_rare].mean(0), atol=0.5)


def test_same_seed_same_prior():
    mean, variance, depth = cells(300)
    one, two = (fit_latent_prior(mean, variance, depth, np.full(300, -1), 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_constant_dimension():
    mean, variance, depth = cells(300)
    mean[:, 1], variance[:, 1] = 2.0, 0.0
    prior = fit_latent_prior(mean, variance, np.full(300, 50.0), np.full(300, -1), 0)
    found, covariance = moments(prior)
    assert found[1] == pytest.approx(2.0, abs=1e-3)
    assert covariance[1, 1] < 1e-6
