"""The closed form that the denoiser adds to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atacvi.nn import GaussianDenoiser

N, D, N_Z, N_LABELS, N_BATCH = 4000, 3, 2, 3, 2


def cells(seed: int = 0) -> dict[str, torch.Tensor]:
    """Latents that are linear in z, label, batch and depth, plus correlated noise."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(N, N_Z, generator=g)
    label, batch = (torch.randint(0, n, (N,), generator=g) for n in (N_LABELS, N_BATCH))
    depth = torch.randn(N, generator=g)
    noise = torch.randn(N, D, generator=g) @ torch.tensor(
        [[0.5, 0.3, 0.0], [0.0, 0.4, 0.1], [0.0, 0.0, 0.2]]
    )
    h = z @ torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]])
    h = h + torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])[label]
    h = h + 0.5 * batch[:, None] + 0.25 * depth[:, None] + noise + 1.0
    return {"h": h, "z": z, "label": label, "batch": batch, "log_depth": depth}


@pytest.fixture(scope="module")
def fitted() -> tuple[GaussianDenoiser, dict[str, torch.Tensor]]:
    exact, data = GaussianDenoiser(D, N_Z, N_LABELS, N_BATCH), cells()
    assert not exact.fitted
    exact.fit(**data)
    assert exact.fitted
    return exact, data


def posterior(h: np.ndarray, given: np.ndarray, x: np.ndarray, a: float, s: float, rows: slice):
    """Textbook conditioning of the joint Gaussian of h and x, with the regression of numpy."""
    design = np.column_stack([np.ones(len(h)), given])
    coefficients, *_ = np.linalg.lstsq(design, h, rcond=None)
    covariance = np.cov((h - design @ coefficients).T)
    mean = design[rows] @ coefficients
    gain = a * covariance @ np.linalg.inv(a**2 * covariance + s**2 * np.eye(D))
    expected = mean + (x - a * mean) @ gain.T
    return expected, (x - a * expected) / s


@pytest.mark.parametrize(("no_z", "no_label"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("time", [0.05, 0.5, 0.95])
def test_equals_conditioning_of_a_joint_gaussian(fitted, no_z, no_label, time):
    exact, data = fitted
    rows = slice(0, 50)
    x = torch.randn(50, D, generator=torch.Generator().manual_seed(1))
    a, s = 1 - time, time
    some = {k: v[rows] for k, v in data.items() if k != "h"}
    drop = {"z": torch.full((50,), bool(no_z)), "label": torch.full((50,), bool(no_label))}
    h, noise = exact(x, torch.full((50, 1), a), torch.full((50, 1), s), **some, drop=drop)
    given = [data["batch"].numpy(), data["log_depth"].numpy()]
    given += [] if no_z else [data["z"].numpy()]
    given += [] if no_label else [np.eye(N_LABELS)[data["label"].numpy()][:, 1:]]
    expected = posterior(data["h"].numpy(), np.column_stack(given), x.numpy(), a, s, rows)
    np.testing.assert_allclose(h.numpy(), expected[0], rtol=0.01, atol=0.01)
    np.testing.assert_allclose(noise.numpy(), expected[1], rtol=0.01, atol=0.01)


def test_means_add_up_to_what_was_seen(fitted):
    exact, data = fitted
    x = torch.randn(N, D)
    a, s = torch.rand(N, 1), torch.rand(N, 1)
    given = {k: v for k, v in data.items() if k != "h"}
    h, noise = exact(x, a, s, **given)
    torch.testing.assert_close(a * h + s * noise, x, rtol=1e-4, atol=1e-4)


def test_no_linear_prediction_is_better(fitted):
    """Of fresh cells: the error is that of the posterior, and each hidden condition adds to it."""
    exact, _ = fitted
    data = cells(seed=3)
    h = data.pop("h")
    noise = torch.randn(N, D)
    half = torch.full((N, 1), 0.5)
    x = 0.5 * h + 0.5 * noise
    hidden = torch.ones(N, dtype=torch.bool)
    errors = [
        float((exact(x, half, half, **data, drop=drop)[0] - h).square().sum(1).mean())
        for drop in ({}, {"label": hidden}, {"z": hidden}, {"z": hidden, "label": hidden})
    ]
    trace = float((1 / (1 / exact.variances[0] + 1.0)).sum())  # (Λ^-1 + a^2/s^2)^-1
    assert errors[0] == pytest.approx(trace, rel=0.05)
    assert errors[0] < errors[1] < errors[3]
    assert errors[0] < errors[2] < errors[3]


def test_none_hides_and_unknown_labels_have_no_effect(fitted):
    exact, data = fitted
    x, one = torch.randn(8, D), torch.ones(8, 1)
    some = {k: v[:8] for k, v in data.items() if k != "h"}
    hidden = torch.ones(8, dtype=torch.bool)
    without = exact(x, one, one, **{**some, "z": None, "label": None})
    dropped = exact(x, one, one, **some, drop={"z": hidden, "label": hidden})
    torch.testing.assert_close(without, dropped)
    other = exact(x, one, one, **{**some, "z": some["z"] + 5}, drop={"z": hidden, "label": hidden})
    torch.testing.assert_close(other, dropped)


def test_cells_of_a_minibatch_do_not_matter_to_each_other(fitted):
    exact, data = fitted
    some = {k: v[:6] for k, v in data.items() if k != "h"}
    x, one = torch.randn(6, D), torch.ones(6, 1)
    drop = {"z": torch.tensor([1, 0, 1, 0, 0, 1]).bool(), "label": torch.arange(6) > 2}
    whole = exact(x, one, one, **some, drop=drop)
    for i in range(6):
        k = slice(i, i + 1)
        alone = exact(
            x[k], one[k], one[k],
            **{n: v[k] for n, v in some.items()},
            drop={n: v[k] for n, v in drop.items()},
        )  # fmt: skip
        torch.testing.assert_close(tuple(part[k] for part in whole), alone)


def test_draws_of_one_cell_do_not_count_as_many_cells():
    """Five copies of few cells: the penalty and the freedom are those of the cells."""
    data = {k: v[:40] for k, v in cells().items()}
    one, five = (GaussianDenoiser(D, N_Z, N_LABELS, N_BATCH) for _ in range(2))
    one.fit(**data)
    five.fit(**{k: v.repeat_interleave(5, 0) for k, v in data.items()}, n_draws=5)
    for name in ("coefficients", "variances"):
        torch.testing.assert_close(getattr(one, name), getattr(five, name), rtol=0.02, atol=0.02)


def test_without_labels_and_batches_and_constant_conditions():
    exact = GaussianDenoiser(D, N_Z)
    z = torch.zeros(30, N_Z)  # dimensions of z that never moved
    exact.fit(torch.randn(30, D), z, None, None, torch.zeros(30))
    for state in exact.state_dict().values():
        assert torch.isfinite(state.float()).all()
    h, noise = exact(torch.zeros(4, D), torch.ones(4, 1), torch.ones(4, 1), z[:4])
    assert torch.isfinite(h).all()
    assert torch.isfinite(noise).all()


def test_models_saved_without_it_load():
    exact = GaussianDenoiser(D, N_Z)
    exact.load_state_dict({})
    assert not exact.fitted
