"""The module of ATACDiffModel on tensors alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Normal

from atacvi.likelihoods import SparseTarget
from atacvi.modules import ATACDiffModule, LatentPrior, SamplerOptions
from atacvi.nn import Posterior

N_CELLS, N_PEAKS, N_LATENT, N_AE = 12, 40, 4, 6


def make(**kwargs: Any) -> ATACDiffModule:
    """A tiny module off its start, where some parts are zero."""
    torch.manual_seed(0)
    options = {
        "n_batch": 2,
        "n_labels": 3,
        "n_clusters": 3,
        "n_latent": N_LATENT,
        "n_latent_ae": N_AE,
        "n_hidden": 16,
        "n_embed": 8,
        "n_hidden_denoiser": 16,
        "n_blocks": 1,
        "n_spectral": 5,
        **kwargs,
    }
    module = ATACDiffModule(N_PEAKS, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        spectral = module.auxiliary_encoder.spectral
        if spectral is not None:
            spectral.table.normal_()
            spectral.scale.fill_(0.5)
            spectral.input_scale.fill_(0.5)
    return module.eval()


PAPER = {
    "objective": "x0",
    "schedule": "linear",
    "sampling_variance": "fixed_large",
    "denoiser": "transformer",
    "n_spectral": 0,
    "unit_sphere": True,
    "information": "mmd",
    "information_weight": 0.1,
    "joint": True,
    "loading_precision": 0.0,
}


def tensors(counts: torch.Tensor | None = None, dense: bool = False) -> dict[str, torch.Tensor]:
    """Counts, two batches and labels, of which the last is the null label."""
    generator = torch.Generator().manual_seed(1)
    if counts is None:
        counts = torch.poisson(torch.full((N_CELLS, N_PEAKS), 0.6), generator)
        counts[:, 0] += 1
    codes = torch.arange(len(counts)).view(-1, 1)
    x = counts if dense else counts.to_sparse_csr()
    return {"X": x, "batch": codes % 2, "labels": codes % 4}


def auxiliary(module: ATACDiffModule, **kwargs: Any) -> Any:
    module.begin("auxiliary")
    return module.auxiliary_loss(module.read_batch(tensors(**kwargs)))


# ---- reading --------------------------------------------------------------------------------


def test_dense_and_sparse_are_the_same():
    module = make(likelihood="poisson")
    one, two = (module.inference(module.read_batch(tensors(dense=d))) for d in (True, False))
    torch.testing.assert_close(one["qz"].loc, two["qz"].loc)
    torch.testing.assert_close(one["auxiliary"].mean, two["auxiliary"].mean)


def test_insertions_are_halved_rounded_up():
    counts = torch.tensor([[0.0, 1, 2, 3, 4]])
    module = ATACDiffModule(5, likelihood="poisson", insertions=True)
    batch = module.read_batch(tensors(counts))
    assert batch.atac.to_dense().tolist() == [[0.0, 1, 1, 2, 2]]
    assert batch.depth.item() == 6
    opened = ATACDiffModule(5, likelihood="bernoulli", insertions=True).read_batch(tensors(counts))
    assert opened.atac.to_dense().tolist() == [[0.0, 1, 1, 1, 1]]
    assert opened.depth.item() == 4


def test_a_given_size_factor_is_the_depth():
    data = {**tensors(), "size_factor": torch.full((N_CELLS, 1), 7.0)}
    assert (make().read_batch(data).depth == 7).all()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("likelihood", "gaussian"),
        ("objective", "x1"),
        ("denoiser", "unet"),
        ("information", "mi"),
        ("kernel", "linear"),
    ],
)
def test_an_unknown_choice_is_refused(argument, value):
    with pytest.raises(ValueError, match=rf"{argument}='{value}'.*choose one of"):
        ATACDiffModule(5, **{argument: value})


# ---- losses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["poisson", "bernoulli", "zip"])
@pytest.mark.parametrize("preset", [{}, PAPER], ids=["default", "paper"])
@pytest.mark.parametrize("stage", ["autoencoder", "auxiliary", "diffusion"])
def test_each_stage_has_a_finite_loss_and_moves_its_parts_alone(likelihood, preset, stage):
    module = make(likelihood=likelihood, **preset).train()
    module.mixture_active.fill_(True)
    module.begin(stage)
    batch = module.read_batch(tensors())
    if stage == "diffusion":
        z = module.auxiliary_posterior(batch).mean
        loss = module.denoising_loss(module.standard_latents(batch), z, batch).mean()
    else:
        loss = module(tensors())[2].loss
    loss.backward()
    assert torch.isfinite(loss)
    moved = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    rooms = {name.split(".")[0] for name in moved}
    expected = {
        "autoencoder": {"autoencoder"} | ({"gate_logits"} if likelihood == "zip" else set()),
        "auxiliary": {"auxiliary_encoder", "auxiliary_decoder", "prior"},
        "diffusion": {"denoiser"},
    }[stage]
    if stage == "auxiliary" and preset:
        expected |= {"denoiser"}
    assert rooms == expected
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_divergence_of_one_standard_component_in_closed_form():
    """At mean (.3, -.5) and log-variance (-1, -.5) it is 0.407205; with the deviation 0.483792."""
    module = make(n_clusters=1, n_latent=2)
    mean, log_variance = torch.tensor([[0.3, -0.5]]), torch.tensor([[-1.0, -0.5]])
    module.mixture_active.fill_(True)
    module.prior.initialize(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
    many = 200_000
    posterior = Posterior(mean.expand(many, -1), log_variance.exp().expand(many, -1))
    z = Normal(posterior.mean, posterior.variance.sqrt()).sample()
    found = module.auxiliary_kl(posterior, z)
    assert abs(float(found.mean()) - 0.4072050) < 4 * float(found.std()) / many**0.5
    module.mixture_active.fill_(False)  # the standard normal is that component
    torch.testing.assert_close(module.auxiliary_kl(posterior, z), found, rtol=1e-3, atol=1e-4)


def test_divergence_of_three_components_is_not_biased():
    """0.714 by numerical integration; the bound with responsibilities is 1.002 at best."""
    module = make(n_clusters=3, n_latent=2)
    module.mixture_active.fill_(True)
    module.prior.initialize(
        torch.tensor([[0.0, 0], [1, -1], [-2, 2]]),
        torch.tensor([[1.0, 1], [0.5, 0.5], [1, 2]]),
        torch.tensor([0.2, 0.5, 0.3]),
    )
    many = 200_000
    mean, variance = torch.tensor([0.3, -0.5]), torch.tensor([-1.0, -0.5]).exp()
    posterior = Posterior(mean.expand(many, -1), variance.expand(many, -1))
    z = Normal(posterior.mean, posterior.variance.sqrt()).sample()
    found = float(module.auxiliary_kl(posterior, z).mean())
    assert found == pytest.approx(0.714, abs=0.01)
    assert found < float(module.prior.kl(mean, variance).total)


def test_divergence_is_information_plus_that_of_the_aggregate():
    """q = N(x, .3), x ~ N(0, .5), p = N(0, 1): 0.50198640 on both sides."""
    module = make(n_clusters=1, n_latent=1)
    many = 400_000
    x = 0.5**0.5 * torch.randn(many, 1, generator=torch.Generator().manual_seed(0))
    posterior = Posterior(x, torch.full_like(x, 0.3))
    z = Normal(posterior.mean, posterior.variance.sqrt()).sample()
    found = module.auxiliary_kl(posterior, z)
    assert abs(float(found.mean()) - 0.50198640) < 4 * float(found.std()) / many**0.5


@pytest.mark.parametrize("information", ["infonce", "mmd"])
def test_more_information_is_a_lower_loss(information):
    """A latent that tells cells apart, or has the prior's shape, costs less than a collapsed."""
    module = make(information=information, n_clusters=1, n_spectral=0)
    module.mixture_active.fill_(True)
    module.prior.initialize(torch.zeros(1, N_LATENT), torch.ones(1, N_LATENT), torch.ones(1))
    batch = module.read_batch(tensors())
    if information == "mmd":
        spread, collapsed = torch.randn(200, N_LATENT), 0.01 * torch.randn(200, N_LATENT)
        assert float(module.information_loss(batch, spread)) < 0.05
        assert float(module.information_loss(batch, collapsed)) > 0.1
        return
    types = torch.zeros(200, N_PEAKS)
    types[torch.arange(200), torch.arange(200) % N_PEAKS] = 50.0
    telling = make(information=information, n_spectral=0, likelihood="poisson")
    batch = telling.read_batch(tensors(types))
    with torch.no_grad():
        found = telling.information_loss(batch, torch.zeros(200, N_LATENT))
        telling.auxiliary_encoder.mean.weight.zero_()  # now every cell has the same latent
        collapsed = telling.information_loss(batch, torch.zeros(200, N_LATENT))
    assert float(found) < float(collapsed) - 0.5
    assert float(collapsed) == pytest.approx(0.0, abs=1e-4)


def test_weight_of_information_enters_with_its_sign():
    """The loss is the reconstruction and the divergence, less the information times its weight."""
    found = {}
    for weight in (0.0, 1.0, 10.0):
        module = make(information_weight=weight)
        torch.manual_seed(3)
        found[weight] = auxiliary(module)
    information = found[1.0].extra_metrics["information_loss"]
    assert information != 0
    for weight in (1.0, 10.0):
        difference = found[weight].loss - found[0.0].loss
        torch.testing.assert_close(difference, weight * information, rtol=1e-3, atol=1e-3)


def test_mixture_learns_in_the_paper_mode_only_where_its_divergence_has_a_weight():
    """λ = 1 + α takes the mixture out of the loss altogether; λ = 1.1001 does not."""
    gradients = {}
    for weight in (0.0, 1e-4):
        module = make(prior_weight=weight, **PAPER).train()
        module.mixture_active.fill_(True)
        auxiliary(module).loss.backward()
        gradients[weight] = torch.cat([p.grad.flatten() for p in module.prior.parameters()])
    assert (gradients[0.0] == 0).all()
    assert (gradients[1e-4] != 0).any()


def test_rates_of_the_auxiliary_decoder_have_the_rank_of_z():
    module = make(**PAPER).double()
    z, none = torch.randn(100, N_LATENT).double(), torch.zeros(100, 2).double()
    decoder = module.auxiliary_decoder
    rates = torch.addmm(decoder.offset, decoder.cell_vector(z, none), decoder.loadings.T)
    torch.testing.assert_close(module.auxiliary_log_rates(z, none), rates.float())
    assert torch.linalg.matrix_rank(rates - rates.mean(0)) == N_LATENT


def test_denoiser_starts_at_zero_and_its_loss_at_the_second_moment():
    """Of standardised data 1 for each dimension; of the unit sphere 1 in all."""
    for preset, expected in (({"objective": "x0"}, float(N_AE)), (PAPER, 1.0)):
        torch.manual_seed(0)
        module = ATACDiffModule(N_PEAKS, n_latent=4, n_latent_ae=N_AE, n_blocks=1, **preset).eval()
        h = torch.randn(4000, N_AE)
        if preset is PAPER:
            torch.nn.init.zeros_(module.denoiser.output.bias)
            h = torch.nn.functional.normalize(h, dim=-1)
        known = module.read_batch({**tensors(), "labels": torch.ones(N_CELLS, 1)})
        rows = torch.zeros(4000, dtype=torch.long)
        known = known._replace(label=rows, batch=rows, depth=torch.ones(4000, 1))
        loss = module.denoising_loss(h, torch.randn(4000, 4), known)
        assert float(loss.mean()) == pytest.approx(expected, rel=0.05)


def test_peaks_drawn_for_a_step_give_the_same_loss_in_the_mean():
    module = make(peaks_per_step=10, loading_precision=5.0).train()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    batch = module.read_batch(tensors())
    out = module.inference(batch)
    out["z"] = out["qz"].loc
    generated = module.generative(**module._get_generative_input({}, out))
    drawn = torch.stack(
        [module.autoencoder_loss(out, generated, 1.0).loss.detach() for _ in range(600)]
    )
    module.peaks_per_step = N_PEAKS
    whole = module.autoencoder_loss(out, generated, 1.0).loss
    assert abs(float(drawn.mean() - whole)) < 4 * float(drawn.std()) / 600**0.5


def test_conditions_that_are_always_hidden_never_matter():
    """Also where the loss of held-out cells chooses the epoch, and where cells are drawn."""
    module = make(condition_dropout=1.0).eval()
    torch.nn.init.normal_(module.denoiser.output.weight)
    z, h = torch.randn(40, N_LATENT), torch.randn(40, N_AE)
    rows = torch.arange(40) % 2
    module.gaussian_denoiser.fit(h + z[:, :1], z, rows, rows, torch.randn(40))
    x, time = torch.randn(6, N_AE), torch.rand(6)
    none = {"label": torch.zeros(6, dtype=torch.bool)}
    found = [
        module.predict_target(
            x, time, k * z[:6], drop=none, **module.conditions(rows[:6] ^ k, rows[:6], x[:, 0])
        )
        for k in (0, 1)
    ]
    torch.testing.assert_close(*found)
    module.condition_dropout = 0.1
    given = module.predict_target(
        x, time, z[:6], drop=none, **module.conditions(rows[:6], rows[:6], x[:, 0])
    )
    assert (given - found[0]).abs().max() > 0.1


def test_conditions_are_hidden_as_often_as_said_and_only_in_training():
    module = make(condition_dropout=0.3)
    seen: list[dict[str, torch.Tensor]] = []

    def note(x_t, time, z, drop, **_):
        seen.append(drop)
        return torch.zeros_like(x_t)

    module.denoiser.forward = note
    n = 20_000
    rows = torch.arange(n) % 4  # a quarter has no label
    batch = module.read_batch(tensors())
    batch = batch._replace(label=rows, batch=rows % 2, depth=torch.ones(n, 1))
    for training in (True, False):
        module.train(training)
        module.denoising_loss(torch.zeros(n, N_AE), torch.zeros(n, N_LATENT), batch)
    trained, evaluated = seen
    assert float(trained["z"].float().mean()) == pytest.approx(0.3, abs=0.02)
    labelled = trained["label"][rows < 3].float()
    assert float(labelled.mean()) == pytest.approx(0.3, abs=0.02)
    assert trained["label"][rows == 3].all()
    both = (trained["z"] & trained["label"])[rows < 3].float().mean()
    assert float(both) == pytest.approx(0.09, abs=0.01)  # each on its own
    assert not evaluated["z"].any()
    assert torch.equal(evaluated["label"], rows == 3)


# ---- sampling -------------------------------------------------------------------------------


def conditions(n: int = 8) -> dict[str, torch.Tensor]:
    codes = torch.arange(n)
    return {"label": codes % 3, "batch": codes % 2, "depth": 10.0 + codes}


def sample(module: ATACDiffModule, z: torch.Tensor, options: SamplerOptions, **kwargs: Any):
    given = {**conditions(len(z)), **kwargs}
    noise = given.pop("noise", None)
    if noise is None:
        noise = torch.randn(len(z), N_AE, generator=torch.Generator().manual_seed(5))
    return module.sample_latents(z, **given, noise=noise, options=options)


@pytest.mark.parametrize("preset", [{}, {"objective": "v"}, PAPER], ids=["flow", "v", "paper"])
def test_guidance_of_one_is_conditional_and_of_zero_ignores_the_conditions(preset):
    module = make(**preset)
    z = torch.randn(8, N_LATENT)
    steps = {"n_steps": 4}
    plain = sample(module, z, SamplerOptions(**steps))
    guided = sample(module, z, SamplerOptions(guidance_scale=1.0 + 1e-6, **steps))
    torch.testing.assert_close(plain, guided, rtol=1e-3, atol=1e-3)
    none = sample(module, z, SamplerOptions(guidance_scale=0.0, **steps))
    other = sample(module, z + 3, SamplerOptions(guidance_scale=0.0, **steps), label=torch.ones(8))
    torch.testing.assert_close(none, other)
    assert not torch.allclose(plain, sample(module, z + 3, SamplerOptions(**steps)))
    assert not torch.allclose(plain, none)


def test_an_unlabelled_cell_is_a_cell_whose_label_is_hidden():
    module = make()
    z, options = torch.randn(8, N_LATENT), SamplerOptions(n_steps=3)
    unlabelled = sample(module, z, options, label=torch.full((8,), 3))
    labelled = sample(module, z, options, label=torch.zeros(8, dtype=torch.long))
    assert not torch.allclose(unlabelled, labelled)
    module.denoiser.conditions.embeddings["label"].weight.data.normal_()
    torch.testing.assert_close(unlabelled, sample(module, z, options, label=torch.full((8,), 3)))


@pytest.mark.parametrize("preset", [{}, PAPER], ids=["default", "paper"])
def test_a_cell_does_not_depend_on_its_minibatch(preset):
    module = make(**preset)
    z = torch.randn(8, N_LATENT)
    noise = torch.randn(8, N_AE)
    options, given = SamplerOptions(n_steps=3), conditions()
    whole = module.sample_latents(z, **given, noise=noise, options=options)
    order = torch.tensor([5, 2])
    part = module.sample_latents(
        z[order], **{k: v[order] for k, v in given.items()}, noise=noise[order], options=options
    )
    torch.testing.assert_close(part, whole[order], rtol=1e-4, atol=1e-5)


def test_latents_come_back_in_the_units_of_the_autoencoder():
    module = make()
    module.latent_mean.copy_(torch.arange(N_AE).float())
    module.latent_scale.fill_(3.0)
    noise = torch.randn(8, N_AE)
    start = SamplerOptions(start=0.0)
    found = sample(module, torch.randn(8, N_LATENT), start, noise=noise)
    torch.testing.assert_close(found, 3 * noise + torch.arange(N_AE))


def test_prior_of_latents_draws_from_the_components_of_the_label():
    module = make(n_batch=1)
    width = N_LATENT + 1
    module.set_latent_prior(
        LatentPrior(
            torch.stack([torch.full((width,), m) for m in (-10.0, 10.0, 30.0)]),
            0.1 * torch.eye(width).expand(3, -1, -1),
            torch.tensor([0.5, 0.25, 0.25]),
            torch.tensor([0, 1, 1]),
            torch.ones(3, 1),
        )
    )

    def draw(label: int) -> Any:
        labels = torch.full((4000,), label)
        return module.sample_latent_prior(labels, torch.Generator().manual_seed(0))

    zero, one, any_label = draw(0), draw(1), draw(-1)
    assert float(zero.z.max()) < 0
    assert abs(float(zero.depth.log().mean()) + 10) < 0.01
    assert float((one.z[:, 0] > 20).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert (zero.label == 0).all()
    assert (one.label == 1).all()
    below = any_label.z[:, 0] < 0
    assert float(below.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(any_label.label, (~below).long())
    assert (any_label.batch == 0).all()


def test_prior_of_latents_draws_z_and_batch_as_they_go_together():
    module = make(n_batch=2)
    width = N_LATENT + 1
    module.set_latent_prior(
        LatentPrior(
            torch.stack([torch.full((width,), m) for m in (-10.0, 10.0)]),
            0.1 * torch.eye(width).expand(2, -1, -1),
            torch.tensor([0.5, 0.5]),
            torch.tensor([0, -1]),
            torch.tensor([[1.0, 0.0], [0.25, 0.75]]),
        )
    )
    n = 4000
    every = torch.full((n,), -1)
    drawn = module.sample_latent_prior(every, torch.Generator().manual_seed(0))
    above = drawn.z[:, 0] > 0
    assert (drawn.batch[~above] == 0).all()
    assert float(drawn.batch[above].float().mean()) == pytest.approx(0.75, abs=0.05)
    assert torch.equal(drawn.label, torch.where(above, module.n_labels, 0))
    second = module.sample_latent_prior(every, batch=torch.ones(n, dtype=torch.long))
    assert (second.batch == 1).all()
    assert (second.z > 0).all()
    first = module.sample_latent_prior(every, batch=torch.zeros(n, dtype=torch.long))
    assert float((first.z[:, 0] > 0).float().mean()) == pytest.approx(0.2, abs=0.05)
    # label 0 was never seen in batch 1: its cells are those of the other batch
    unseen = module.sample_latent_prior(torch.zeros_like(every), batch=torch.ones_like(every))
    assert (unseen.z < 0).all()
    assert (unseen.batch == 1).all()


def test_prior_of_latents_has_the_covariance_asked_for():
    module = make()
    factor = torch.tril(torch.randn(N_LATENT + 1, N_LATENT + 1))
    ones = torch.ones(1, N_LATENT + 1)
    module.set_latent_prior(
        LatentPrior(ones, factor[None], torch.ones(1), torch.tensor([-1]), torch.ones(1, 2))
    )
    found = module.sample_latent_prior(torch.full((50_000,), -1))
    drawn = torch.cat([found.z, found.depth.log()[:, None]], 1)
    torch.testing.assert_close(drawn.T.cov(), factor @ factor.T, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("likelihood", ["poisson", "zip", "bernoulli"])
def test_drawn_peaks_have_the_depth_and_the_means_of_the_likelihood(likelihood):
    module = make(likelihood=likelihood)
    n, depth = 4000, 15
    vector = module.generative(torch.randn(1, N_AE), torch.zeros(1, 2))["peak_vector"]
    vector = vector.expand(n, -1)
    drawn = module.draw_accessibility(vector, torch.full((n,), float(depth)), "counts")
    dense = drawn.to_dense()
    if likelihood == "bernoulli":
        assert (dense.sum(1) == depth).all()
        assert set(dense.unique().tolist()) == {0.0, 1.0}
        return
    p = torch.softmax(module.peak_log_rates(vector[:1])[0], 0)
    if likelihood == "poisson":
        assert (dense.sum(1) == depth).all()
    else:
        p = p * torch.sigmoid(-module.gate_logits)
    expected = depth * p
    assert ((dense.mean(0) - expected).abs() < 5 * (expected / n).sqrt() + 1e-3).all()
    binary = module.draw_accessibility(vector, torch.full((n,), float(depth)), "binary").to_dense()
    assert set(binary.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("likelihood", ["poisson", "zip", "bernoulli"])
def test_drawn_peaks_of_a_cell_with_its_own_generator(likelihood):
    module = make(likelihood=likelihood)
    vector = module.generative(torch.randn(5, N_AE), torch.zeros(5, 2))["peak_vector"]
    depth = torch.tensor([3.0, 20.0, 1.0, 10.0, 7.0])

    def draw(cells: list[int]) -> SparseTarget:
        generators = [torch.Generator().manual_seed(cell) for cell in cells]
        return module.draw_accessibility(vector[cells], depth[cells], "counts", generators)

    together = draw([0, 1, 2, 3, 4]).to_dense()
    assert torch.equal(draw([3, 1]).to_dense(), together[[3, 1]])


# ---- state ----------------------------------------------------------------------------------


def test_another_number_of_prior_components_loads():
    one, two = make(), make()
    width = N_LATENT + 1
    one.set_latent_prior(
        LatentPrior(
            torch.randn(7, width),
            torch.randn(7, width, width),
            torch.rand(7),
            torch.arange(7) % 3,
            torch.ones(7, 2),
        )
    )
    two.load_state_dict(one.state_dict())
    labels = torch.tensor([0, 1, 2, -1])
    drawn = [m.sample_latent_prior(labels, torch.Generator().manual_seed(0)).z for m in (one, two)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("n_batch", [1, 3])
def test_a_model_saved_before_batches_were_drawn_with_z_loads(n_batch):
    one, two = make(n_batch=n_batch), make(n_batch=n_batch)
    width = N_LATENT + 1
    parts = torch.randn(7, width), torch.randn(7, width, width), torch.rand(7), torch.arange(7) % 3
    one.set_latent_prior(LatentPrior(*parts, torch.zeros(7, n_batch)))
    shares = torch.rand(n_batch)
    if n_batch > 1:
        one.covariate_mean[:n_batch] = shares
    saved = one.state_dict()
    del saved["latent_prior_batches"]
    two.load_state_dict(saved)
    expected = shares if n_batch > 1 else torch.ones(1)
    torch.testing.assert_close(two.latent_prior_batches, expected.expand(7, -1))


def test_responsibilities_are_uniform_before_the_mixture_and_sharp_after():
    module = make(n_clusters=2)
    posterior = Posterior(torch.zeros(3, N_LATENT), torch.full((3, N_LATENT), 0.1))
    torch.testing.assert_close(
        module.log_responsibilities(posterior).exp(), torch.full((3, 2), 0.5)
    )
    module.mixture_active.fill_(True)
    apart = torch.zeros(2, N_LATENT)
    apart[1, 0] = 10.0
    module.prior.initialize(apart, torch.ones(2, N_LATENT), torch.ones(2))
    shares = module.log_responsibilities(posterior).exp()
    assert float(shares[:, 0].min()) > 1 - 1e-6
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
