"""Denoisers: their start, their conditions, and what a cell's output may depend on."""

from __future__ import annotations

import pytest
import torch

from atacvi.diffusion import FlowMatching, guide
from atacvi.nn import CrossAttention, ResidualDenoiser, TransformerDenoiser

N, N_LATENT, N_CONDITION, N_LABELS, N_BATCH = 7, 6, 3, 4, 2
CONDITIONS = ("z", "label", "batch", "log_depth")
KINDS = {
    "residual": lambda **kwargs: ResidualDenoiser(
        N_LATENT, N_CONDITION, n_hidden=16, n_blocks=2, **kwargs
    ),
    "transformer": lambda **kwargs: TransformerDenoiser(
        N_LATENT, N_CONDITION, n_hidden=16, n_blocks=2, n_heads=2, head_width=8, **kwargs
    ),
}


def build(kind: str, *, trained: bool = True, **kwargs) -> torch.nn.Module:
    """Return a network with all conditions; `trained` stirs the weights that start at zero."""
    torch.manual_seed(0)
    options = {"n_labels": N_LABELS, "n_batch": N_BATCH, "use_log_depth": True} | kwargs
    network = KINDS[kind](**options)
    if trained:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def cells(seed: int = 0, n: int = N) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x_t": torch.randn(n, N_LATENT, generator=generator),
        "time": torch.rand(n, generator=generator),
        "z": torch.randn(n, N_CONDITION, generator=generator),
        "label": torch.randint(N_LABELS, (n,), generator=generator),
        "batch": torch.randint(N_BATCH, (n, 1), generator=generator),
        "log_depth": torch.randn(n, 1, generator=generator),
    }


def other(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return another value of a condition for every cell."""
    if name == "label":
        return (value + 1) % N_LABELS
    return (value + 1) % N_BATCH if name == "batch" else value + 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_constant(kind):
    network = build(kind, trained=False)
    first, second = network(**cells(0)), network(**cells(1))
    assert first.shape == (N, N_LATENT)
    bias = network.output.bias.expand(N, -1)
    torch.testing.assert_close(first, bias, rtol=0, atol=0)
    torch.testing.assert_close(second, bias, rtol=0, atol=0)
    if kind == "residual":
        assert (bias == 0).all()


def test_the_loss_starts_at_the_spread_of_the_data():
    """With output 0, the squared error of x0 is its second moment."""
    network = build("residual", trained=False)
    x0 = torch.randn(2000, N_LATENT)
    error = (network(x0, torch.rand(2000), None) - x0).square().mean()
    assert error.item() == pytest.approx(1.0, abs=0.05)
    sphere = torch.nn.functional.normalize(torch.randn(100, N_LATENT))
    error = (network(sphere, torch.rand(100), None) - sphere).square().mean()
    assert error.item() == pytest.approx(1 / N_LATENT, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x_t", "time", *CONDITIONS])
def test_everything_given_counts(kind, name):
    network, given = build(kind), cells()
    before = network(**given)
    changed = 1 - given[name] if name == "time" else other(name, given[name])
    after = network(**given | {name: changed})
    assert ((before - after).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_dropping_everything_makes_conditions_irrelevant(kind):
    network, given = build(kind), cells()
    changed = given | {name: other(name, given[name]) for name in CONDITIONS}
    drop = {name: torch.ones(N, dtype=torch.bool) for name in CONDITIONS}
    dropped = network(**given, drop=drop)
    assert torch.equal(dropped, network(**changed, drop=drop))
    absent = network(given["x_t"], given["time"], None)
    torch.testing.assert_close(dropped, absent, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(dropped, network(**given), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_dropped_cell_by_cell(kind, name):
    network, given = build(kind), cells()
    mask = torch.arange(N) % 2 == 0
    mixed = network(**given, drop={name: mask})
    kept, null = network(**given), network(**given | {name: None})
    torch.testing.assert_close(mixed[mask], null[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mixed[~mask], kept[~mask], rtol=1e-5, atol=1e-5)
    assert ((null - kept).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_null_vectors_are_learned_apart(kind):
    network, given = build(kind), cells()
    network(given["x_t"], given["time"], None, label=given["label"]).square().sum().backward()
    moved = {name for name, null in network.conditions.null.items() if null.grad is not None}
    assert set(network.conditions.null) == set(CONDITIONS)
    assert moved == {"z", "batch", "log_depth"}
    assert all(network.conditions.null[name].grad.abs().sum() > 0 for name in moved)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_ends_at_both_outputs(kind):
    network, given = build(kind), cells()
    conditional = network(**given)
    unconditional = network(given["x_t"], given["time"], None)
    assert torch.equal(guide(conditional, unconditional, 1.0), conditional)
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_a_cell_does_not_depend_on_the_others(kind, training):
    """Nothing is normalised over the minibatch, in training neither."""
    network, given = build(kind, dropout_rate=0.0).train(training), cells()
    whole = network(**given)
    part = network(**{name: value[2:4] for name, value in given.items()})
    torch.testing.assert_close(part, whole[2:4], rtol=1e-5, atol=1e-5)
    assert not [m for m in network.modules() if "BatchNorm" in type(m).__name__]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite(kind):
    """Of extreme input, at the start and later; later every parameter takes part."""
    given = cells()
    given["time"][:2] = torch.tensor([0.0, 1.0])
    given["x_t"][0] = 1e4
    given["z"][1] = 0.0
    mask = torch.arange(N) % 2 == 0
    for trained in (False, True):
        network = build(kind, trained=trained).train()
        drop = dict.fromkeys(CONDITIONS, mask)
        loss = (network(**given, drop=drop) - 1).square().mean()
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert not trained or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_of_codes_do_not_matter(kind):
    network, given = build(kind), cells()
    flat = given | {"batch": given["batch"][:, 0], "log_depth": given["log_depth"][:, 0]}
    column = given | {"label": given["label"][:, None].float()}
    expected = network(**given)
    assert torch.equal(network(**flat), expected)
    assert torch.equal(network(**column), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_conditions_are_refused(kind):
    network = build(kind, n_labels=0, use_log_depth=False)
    given = cells()
    with pytest.raises(ValueError, match=r"without the conditions label, log_depth.*z, batch"):
        network(**given)
    given = given | {"label": None, "log_depth": None}
    assert network(**given).shape == (N, N_LATENT)
    with pytest.raises(ValueError, match=r"No condition is called y; .*z, label, batch"):
        network(**given, drop={"y": torch.ones(N, dtype=torch.bool)})


def test_one_context_token_hides_the_query():
    """Softmax over one key is 1: the attention adds the same whatever the latent is."""
    torch.manual_seed(0)
    layer = CrossAttention(16, n_heads=2, head_width=8)
    context = torch.randn(5, 1, 16)
    token = torch.randn(5, 16, requires_grad=True)
    attended = layer.attend(token, context)
    torch.testing.assert_close(layer.attend(torch.randn(5, 16), context), attended)
    attended.square().sum().backward()
    torch.testing.assert_close(token.grad, torch.zeros(5, 16), rtol=0, atol=1e-6)
    linear = layer.output(layer.value(context[:, 0]))
    torch.testing.assert_close(attended, linear)


def test_two_context_tokens_do_not():
    torch.manual_seed(0)
    layer = CrossAttention(16, n_heads=2, head_width=8)
    context = torch.randn(5, 2, 16)
    first, second = (layer.attend(3 * torch.randn(5, 16), context) for _ in range(2))
    assert (first - second).abs().amax(1).min() > 1e-3


def test_attention_of_the_published_network_sees_z_only():
    network = TransformerDenoiser(8, 3).eval()
    assert list(network.conditions.embeddings) == ["z"]
    seen = []
    attend = network.blocks[3].attend
    network.blocks[3].attend = lambda token, context: (
        seen.append(attend(token, context)) or seen[-1]
    )
    z = torch.randn(4, 3)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        x_t, time = torch.randn(4, 8, generator=generator), torch.rand(4, generator=generator)
        network(x_t, time, z)
    torch.testing.assert_close(seen[0], seen[1])
    network(x_t, time, z + 1)
    assert not torch.allclose(seen[2], seen[1], atol=1e-3)


def test_size_of_the_published_network():
    n_parameters = sum(p.numel() for p in TransformerDenoiser(128, 32).parameters())
    # 2.982 M, of which 128 are the null vector; without the affine of a batch norm
    assert n_parameters == pytest.approx(2.98e6, rel=2e-3)


def test_a_short_training_learns_the_conditions():
    """Two labels at -1 and 1: a small network sends each label to its place."""
    torch.manual_seed(0)
    flow = FlowMatching()
    network = ResidualDenoiser(2, 3, n_hidden=32, n_blocks=2, n_labels=2, use_log_depth=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(300):
        label = torch.randint(2, (128,))
        x0 = (2.0 * label[:, None] - 1) + 0.1 * torch.randn(128, 2)
        noise, time = torch.randn(128, 2), flow.sample_time(128)
        predicted = network(flow.corrupt(x0, noise, time), time, None, label)
        loss = (predicted - flow.target(x0, noise, time)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    label = torch.arange(200) % 2
    with torch.no_grad():
        found = flow.sample(
            lambda x, time: network(x, time, None, label), torch.randn(200, 2), n_steps=10
        )
    expected = (2.0 * label[:, None] - 1).expand(-1, 2)
    assert ((found - expected).abs() < 0.6).float().mean() > 0.95
