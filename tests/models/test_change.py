"""The streamed statistics equal those of scvi-tools on the same samples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atacvi._compat import DifferentialComputation
from atacvi.models import _change
from atacvi.models._change import ChangeTest, Group, compare_groups, estimate_delta, pair_samples

N_SAMPLES, N_FEATURES = 60, 23


@pytest.fixture
def scales(rng) -> tuple[np.ndarray, np.ndarray]:
    values = rng.dirichlet(np.ones(N_FEATURES), size=2 * N_SAMPLES).astype(np.float32)
    return values[:N_SAMPLES], values[N_SAMPLES:] ** 1.3


def groups(scales, unseen=None, batches=None) -> list[Group]:
    batches = np.full(N_SAMPLES, -1) if batches is None else batches
    return [Group(lambda block, x=x: torch.as_tensor(x)[:, block], batches, unseen) for x in scales]


def scvi_statistics(scales, counts=None, **kwargs) -> dict[str, np.ndarray]:
    """Bayes factors of scvi-tools with these scales in place of a model's."""
    queue = list(scales)
    manager = SimpleNamespace(
        adata=SimpleNamespace(shape=(4, N_FEATURES)),
        get_from_registry=lambda key: counts,
    )
    computation = DifferentialComputation(lambda *args, **kw: queue.pop(0), None, manager)
    masks = np.array([True, True, False, False])
    return computation.get_bayes_factors(masks, ~masks, use_observed_batches=True, **kwargs)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(_change, "_VALUES_PER_BLOCK", 7 * N_SAMPLES)


@pytest.mark.parametrize("mode", ["vanilla", "change"])
@pytest.mark.parametrize("test_mode", ["two", "three"])
def test_equals_scvi(scales, rng, mode, test_mode):
    options = {"mode": mode, "test_mode": test_mode, "delta": 0.3, "pseudocounts": 1e-4}
    ours = compare_groups(*groups(scales), N_FEATURES, ChangeTest(**options), rng)
    theirs = scvi_statistics(scales, **options)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


def test_intervals_and_pseudocounts_equal_scvi(scales, rng):
    counts = np.zeros((4, N_FEATURES))
    counts[:, 5:] = 1
    unseen = np.arange(N_FEATURES) < 5
    test = ChangeTest(cred_interval_lvls=(0.5, 0.9))
    ours = compare_groups(*groups(scales, unseen), N_FEATURES, test, rng)
    theirs = scvi_statistics(scales, counts, cred_interval_lvls=[0.5, 0.9], delta=0.25)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_functions_of_the_user_equal_scvi(scales, rng):
    options = {
        "change_fn": lambda x, y, c: x - y,
        "m1_domain_fn": lambda d: (d > 0.01, d < -0.02),
        "pseudocounts": 0.0,
        "delta": 0.1,
    }
    ours = compare_groups(*groups(scales), N_FEATURES, ChangeTest(**options), rng)
    theirs = scvi_statistics(scales, **options)
    np.testing.assert_allclose(ours["proba_de"], theirs["proba_de"], atol=1e-7)


def test_difference_is_not_described(scales, rng):
    test = ChangeTest(change_fn="difference", delta=0.05)
    out = compare_groups(*groups(scales), N_FEATURES, test, rng, describe=False)
    difference = scales[0] - scales[1]
    expected = np.maximum((difference >= 0.05).mean(0), (difference < -0.05).mean(0))
    np.testing.assert_allclose(out["proba_de"], expected, atol=1e-7)
    assert not any(name.startswith("lfc") for name in out)


def test_blocks_change_nothing(scales, monkeypatch):
    results = []
    for values in (1, 10**9):
        monkeypatch.setattr(_change, "_VALUES_PER_BLOCK", values)
        rng = np.random.default_rng(0)
        test = ChangeTest(use_permutation=True, m_permutation=200, delta=None)
        results.append(compare_groups(*groups(scales), N_FEATURES, test, rng))
    for name in results[0]:
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-5, err_msg=name)


def test_pairs_stay_within_batches(rng):
    first, second = np.repeat([0, 1], 30), np.repeat([1, 0], 30)
    for permute in (False, True):
        test = ChangeTest(use_permutation=permute, m_permutation=100)
        one, two = pair_samples(first, second, test, rng)
        assert (first[one] == second[two]).all()
        assert len(one) == (100 if permute else 60)


def test_equal_batches_and_own_batches_are_compared_side_by_side(rng):
    assert pair_samples(np.full(5, -1), np.full(5, -1), ChangeTest(), rng) is None
    assert pair_samples(np.repeat([0, 1], 5), np.repeat([0, 1], 5), ChangeTest(), rng) is None


def test_overlapping_batches_warn(rng):
    with pytest.warns(UserWarning, match="overlap"):
        pair_samples(np.zeros(4, dtype=int), np.array([0, 0, 1, 1]), ChangeTest(), rng)


def test_delta_of_two_modes():
    rng = np.random.default_rng(0)
    means = np.concatenate([rng.normal(m, 0.05, 300) for m in (-1.0, 0.0, 1.0)])
    assert estimate_delta(means) == pytest.approx(0.6, abs=0.02)
    assert estimate_delta(means * 1e-3) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "both"}, "mode='both'"),
        ({"test_mode": "one"}, "test_mode"),
        ({"n_samples_overall": 0}, "n_samples_overall=0"),
        ({"delta": -1.0}, "delta"),
        ({"change_fn": "ratio"}, "change_fn='ratio'"),
        ({"change_fn": lambda x: x}, "change_fn"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        ChangeTest(**options)
