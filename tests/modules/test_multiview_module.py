"""The module of MultiViewModel on tensors alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from atacvi.modules import MultiViewModule
from atacvi.nn import Posterior

N_CELLS, N_GENES, N_PEAKS = 12, 15, 40


def make(**kwargs: Any) -> MultiViewModule:
    """A tiny module off its start, where some parts are zero."""
    torch.manual_seed(0)
    options = {
        "n_batch": 2,
        "n_clusters": 3,
        "n_latent": 4,
        "n_hidden": 16,
        "n_embed": 8,
        "peak_block": torch.arange(N_PEAKS) // 10,
        **kwargs,
    }
    module = MultiViewModule(N_GENES, N_PEAKS, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module.eval()


def tensors(dense: bool = False) -> dict[str, torch.Tensor]:
    """Counts of both modalities, and two batches."""
    generator = torch.Generator().manual_seed(1)
    rna = torch.poisson(torch.full((N_CELLS, N_GENES), 1.0), generator)
    atac = torch.poisson(torch.full((N_CELLS, N_PEAKS), 0.3), generator)
    rna[:, 0] += 1
    atac[:, 0] += 1
    batch = (torch.arange(N_CELLS) % 2).view(-1, 1)
    if not dense:
        rna, atac = rna.to_sparse_csr(), atac.to_sparse_csr()
    return {"X": rna, "atac": atac, "batch": batch}


def at_the_mean(module: MultiViewModule, data: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """Inference at the posterior mean, and what is generated from it."""
    out = module.inference(**module._get_inference_input(data))
    out["z"] = out["qz"].loc
    return out, module.generative(**module._get_generative_input(data, out))


@pytest.mark.parametrize("atac_target", ["counts", "binary", "tfidf"])
@pytest.mark.parametrize("attention", ["tokens", "feature", "none"])
@pytest.mark.parametrize("fusion", ["experts", "concat"])
def test_loss_and_its_gradient_are_finite(atac_target, attention, fusion):
    module = make(atac_target=atac_target, attention=attention, fusion=fusion).train()
    module.mixture_active.fill_(True)
    module.cycle_weight = 1.0
    _, _, losses = module(tensors())
    assert losses.loss.isfinite()
    losses.loss.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_terms_are_per_cell_and_sum_to_the_loss():
    module = make()
    data = tensors()
    inference, generated = at_the_mean(module, data)
    losses = module.loss(data, inference, generated, kl_weight=0.5)
    rec, kl = losses.reconstruction_loss, losses.kl_local
    assert all(v.shape == (N_CELLS,) for v in (*rec.values(), *kl.values()))
    total = sum(rec.values()) + 0.5 * sum(kl.values())
    torch.testing.assert_close(losses.loss, total.mean())


def test_sparse_equals_dense():
    module = make()
    results = []
    for dense in (False, True):
        data = tensors(dense)
        losses = module.loss(data, *at_the_mean(module, data))
        results.append(losses.loss)
    torch.testing.assert_close(*results)


def test_a_cell_without_counts_has_a_finite_loss_and_the_prior():
    data = tensors(dense=True)
    data["X"][3], data["atac"][3], data["atac"][5] = 0, 0, 0
    module = make()
    inference, generated = at_the_mean(module, data)
    losses = module.loss(data, inference, generated)
    assert losses.loss.isfinite()
    assert losses.reconstruction_loss["reconstruction_rna"][3] == 0
    assert losses.reconstruction_loss["reconstruction_atac"][[3, 5]].eq(0).all()
    torch.testing.assert_close(inference["posterior"].mean[3], torch.zeros(4))
    torch.testing.assert_close(inference["posterior"].variance[3], torch.ones(4))


def test_the_joint_matrix_equals_two_matrices():
    data = tensors(dense=True)
    order = torch.randperm(N_GENES + N_PEAKS)
    joint = torch.cat([data["X"], data["atac"]], 1)[:, order]
    back = torch.argsort(order)
    one = make(gene_columns=back[:N_GENES], peak_columns=back[N_GENES:])
    first, _ = at_the_mean(one, {"X": joint.to_sparse_csr(), "batch": data["batch"]})
    second, _ = at_the_mean(make(), data)
    torch.testing.assert_close(first["z"], second["z"])


@pytest.mark.parametrize("atac_target", ["counts", "binary"])
def test_the_sampled_peaks_estimate_without_bias(atac_target):
    """The mean over many samples of peaks is the sum over all of them."""
    module = make(peaks_per_step=8, atac_target=atac_target)
    data = tensors()
    with torch.no_grad():
        inference, generated = at_the_mean(module, data)
        batch, vector = inference["batch"], generated["peak_vector"]
        full = module.atac_log_prob(batch, vector)
        module.train()
        draws = torch.stack([module.atac_log_prob(batch, vector) for _ in range(3000)])
    assert not torch.equal(draws[0], draws[1])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - full).abs() < 4 * error).all()


def test_evaluation_reads_all_peaks():
    module = make(peaks_per_step=8)
    data = tensors()
    inference, generated = at_the_mean(module, data)
    first, second = (
        module.atac_log_prob(inference["batch"], generated["peak_vector"]) for _ in range(2)
    )
    assert torch.equal(first, second)


class _Constant(torch.nn.Module):
    """A fusion that says the same of every cell."""

    def __init__(self, mean: float, variance: float) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, rna, atac, has_rna, has_atac):
        shape = (len(rna), 4)
        return Posterior(torch.full(shape, self.mean), torch.full(shape, self.variance))


def test_the_cycle_term_is_zero_where_the_posteriors_coincide():
    module = make()
    data = tensors()
    inference, generated = at_the_mean(module, data)
    module.fusion = _Constant(1.0, 1.0)
    same = Posterior(torch.full((N_CELLS, 4), 1.0), torch.ones(N_CELLS, 4))
    other = Posterior(torch.zeros(N_CELLS, 4), torch.ones(N_CELLS, 4))
    zero = module.cycle_loss(inference["batch"], same, generated)
    torch.testing.assert_close(zero, torch.zeros(N_CELLS))
    # KL(N(0, 1) || N(1, 1)) = 0.5 in each of 4 dimensions, for each of the two modalities
    four = module.cycle_loss(inference["batch"], other, generated)
    torch.testing.assert_close(four, torch.full((N_CELLS,), 4.0))


def test_the_cycle_term_enters_only_with_its_weight():
    module = make(dropout_rate=0.0, modality_dropout=0.0).train()
    data = tensors()
    _, _, losses = module(data)
    assert "cycle" not in losses.extra_metrics
    module.cycle_weight = 1.0
    _, _, losses = module(data)
    assert losses.extra_metrics["cycle"] > 0


def test_draws_follow_the_library():
    """The mean of drawn counts is the depth times the fractions."""
    module = make()
    data = tensors()
    _, generated = at_the_mean(module, data)
    fractions = generated["log_expression"].exp()
    torch.testing.assert_close(fractions.sum(1), torch.ones(N_CELLS))
    batch = module.read_batch(data)
    deep = batch._replace(rna_depth=1e5 * batch.rna_depth, atac_depth=1e5 * batch.atac_depth)
    rna, atac = module.draw(deep, generated)
    expected = fractions * deep.rna_depth
    torch.testing.assert_close(rna.mean(), expected.mean(), rtol=0.2, atol=0)
    assert atac.sum() > 0


def test_responsibilities_before_and_after_the_mixture():
    module = make()
    data = tensors()
    before = module.inference(**module._get_inference_input(data))["log_responsibilities"]
    torch.testing.assert_close(before.exp(), torch.full((N_CELLS, 3), 1 / 3))
    module.mixture_active.fill_(True)
    after = module.inference(**module._get_inference_input(data))["log_responsibilities"]
    torch.testing.assert_close(after.exp().sum(1), torch.ones(N_CELLS))
    assert not torch.allclose(before, after)


def test_the_mixture_is_resized():
    module = make()
    module.resize_mixture(7)
    module.mixture_active.fill_(True)
    out = module.inference(**module._get_inference_input(tensors()))
    assert out["log_responsibilities"].shape == (N_CELLS, 7)
    assert module(tensors())[2].loss.isfinite()


def test_decoding_as_another_batch():
    module = make()
    data = tensors()
    inference, own = at_the_mean(module, data)
    inputs = module._get_generative_input(data, inference, transform_batch=1)
    other = module.generative(**inputs)
    in_batch_one = data["batch"].view(-1) == 1
    for name, value in own.items():
        torch.testing.assert_close(value[in_batch_one], other[name][in_batch_one])
        assert not torch.allclose(value[~in_batch_one], other[name][~in_batch_one])


def test_the_marginal_likelihood_is_above_the_elbo():
    module = make()
    data = tensors()
    with torch.no_grad():
        elbo = -torch.stack([module(data)[2].loss for _ in range(50)]).mean()
    assert module.marginal_ll(data, 200, return_mean=True) > elbo - 0.5
