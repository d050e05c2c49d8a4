"""Tests of a change between two groups of posterior samples, block by block of features.

The statistics are those of ``scvi.model.base.DifferentialComputation``; that class holds all samples
of all features at once, this file never more than one block of them.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

# Samples of a block of features: 5,000 samples x 512 features in float32 take 10 MB, which suits
# the caches of processors; blocks of 2,048 features take a fifth longer.
_VALUES_PER_BLOCK = 5000 * 512
_EPS = 1e-8
_MODES = ("vanilla", "change")

Decoder = Callable[[slice], Tensor]
ChangeFunction = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class ChangeTest:
    """What counts as a change, and from how many samples it is judged.

    Parameters
    ----------
    mode
        ``"change"`` asks whether the change exceeds `delta` (Boyeau et al., bioRxiv 794289, 2019),
        ``"vanilla"`` whether the first group lies above the second (Lopez et al., Nature Methods
        15:1053, 2018).
    delta
        Smallest change that counts; ``None`` estimates it from the changes of all features.
    n_samples_overall
        Posterior samples of each group, over all batches.
    use_permutation, m_permutation
        Judge `m_permutation` random pairs of samples in place of the samples side by side.
    change_fn
        ``"log-fold"``, ``"difference"``, or a function of two arrays (samples, features) and of the
        pseudocounts; ``None`` takes the method's own.
    m1_domain_fn
        Function of the changes that returns two masks: up and down.
    pseudocounts
        Offset of the log fold change; ``None`` estimates it from features that are not seen.
    threshold_counts
        Mean count below which a feature counts as not seen.
    test_mode
        ``"three"`` judges up and down apart, ``"two"`` together.
    cred_interval_lvls
        Levels of credible intervals of the change.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    mode: Literal["vanilla", "change"] = "change"
    delta: float | None = 0.25
    n_samples_overall: int = 5000
    use_permutation: bool = False
    m_permutation: int = 10_000
    change_fn: str | ChangeFunction | None = None
    m1_domain_fn: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    pseudocounts: float | None = None
    threshold_counts: float = 0.01
    test_mode: Literal["two", "three"] = "three"
    cred_interval_lvls: Sequence[float] = ()

    def __post_init__(self) -> None:
        for name, allowed in (("mode", _MODES), ("test_mode", ("two", "three"))):
            if getattr(self, name) not in allowed:
                msg = f"{name}={getattr(self, name)!r}; choose one of {', '.join(allowed)}."
                raise ValueError(msg)
        for name in ("n_samples_overall", "m_permutation"):
            if getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)}; it must be at least 1."
                raise ValueError(msg)
        if self.delta is not None and not self.delta >= 0:
            msg = f"delta={self.delta}; it must not be negative, or None to have it estimated."
            raise ValueError(msg)
        if isinstance(self.change_fn, str) and self.change_fn not in ("log-fold", "difference"):
            msg = f"change_fn={self.change_fn!r}; use 'log-fold', 'difference' or a function."
            raise ValueError(msg)
        for name, count in (("change_fn", 3), ("m1_domain_fn", 1)):
            function = getattr(self, name)
            if callable(function) and len(inspect.signature(function).parameters) != count:
                msg = f"{name} must be a function of {count} argument(s)."
                raise ValueError(msg)


class Group(NamedTuple):
    """Posterior samples of one group of cells.

    Parameters
    ----------
    decode
        Function of a slice of features that returns their scales, float32 (samples, features).
    batches
        Batch as which each sample is decoded, -1 for the cell's own; shape (samples,).
    unseen
        Features with next to no counts in the group, bool of shape (features,), or ``None``.
    """

    decode: Decoder
    batches: np.ndarray
    unseen: np.ndarray | None = None


def pair_samples(
    first: np.ndarray, second: np.ndarray, test: ChangeTest, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return which samples to compare, ``None`` for those side by side.

    Samples decoded as the same batches are paired within each batch.
    """
    known = np.unique(first)
    same = set(known) == set(np.unique(second)) and known[0] >= 0
    if not same and len(set(known) & set(np.unique(second)) - {-1}):
        warnings.warn(
            "Groups 1 and 2 are decoded as different batches that overlap: the comparison is "
            "not corrected for batches. Give the same or separate batchid1 and batchid2.",
            UserWarning,
            stacklevel=4,
        )
    if not test.use_permutation and (not same or np.array_equal(first, second)):
        return None
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in known if same else [None]:
        rows = [
            np.arange(len(of)) if batch is None else np.flatnonzero(of == batch)
            for of in (first, second)
        ]
        if test.use_permutation:
            n_pairs = max(1, test.m_permutation // (len(known) if same else 1))
            rows = [rng.choice(part, n_pairs) for part in rows]
        parts.append((rows[0], rows[1]))
    one, two = (np.concatenate(part) for part in zip(*parts, strict=True))
    return one, two


@torch.inference_mode()
def compare_groups(
    first: Group,
    second: Group,
    n_features: int,
    test: ChangeTest,
    rng: np.random.Generator,
    *,
    describe: bool = True,
) -> dict[str, Any]:
    """Return the statistics of the change of each feature from the second group to the first.

    Parameters
    ----------
    first, second
        Samples of the groups.
    n_features
        Number of features.
    test
        What counts as a change.
    rng
        Generator of the pairs.
    describe
        Whether to describe the distribution of the change (mean, median, ...).

    Returns
    -------
    Columns as in scvi-tools: ``proba_de``, ``proba_not_de``, ``bayes_factor``, ``scale1``,
    ``scale2``, ``pseudocounts``, ``delta`` and ``lfc_*``; for ``mode="vanilla"`` ``proba_m1``,
    ``proba_m2``, ``bayes_factor``, ``scale1`` and ``scale2``.
    """
    pairs = pair_samples(first.batches, second.batches, test, rng)
    walk = _Walk(first, second, n_features, pairs)
    if test.mode == "vanilla":
        return _vanilla(walk)
    pseudocounts = test.pseudocounts
    if pseudocounts is None:
        pseudocounts = 0.0 if test.change_fn == "difference" else _estimate_pseudocounts(walk)
    delta = test.delta
    if delta is None:
        means = [_change(test, a, b, pseudocounts).mean(0) for _, a, b, _ in walk]
        delta = estimate_delta(np.concatenate([mean.cpu().numpy() for mean in means]))
    out: dict[str, np.ndarray] = {}
    for block, one, two, scales in walk:
        change = _change(test, one, two, pseudocounts)
        values = scales | {"proba_de": _proba(test, change, delta)}
        if describe:
            if test.change_fn != "difference":
                # Smaller pseudocounts, which shrink the estimate less than the test.
                change = _change(test, one, two, 1e-3 * pseudocounts)
            values |= _describe(change, test.cred_interval_lvls)
        for name, value in values.items():
            value = np.asarray(value)
            out.setdefault(name, np.empty(n_features, dtype=value.dtype))[block] = value
    proba = out.pop("proba_de").astype(np.float64)
    return {
        "proba_de": proba,
        "proba_not_de": 1.0 - proba,
        "bayes_factor": _log_odds(proba),
        "scale1": out.pop("scale1"),
        "scale2": out.pop("scale2"),
        "pseudocounts": pseudocounts,
        "delta": delta,
        **out,
    }


class _Walk:
    """Walks over the features in blocks; yields the block, the pairs and the mean scales."""

    def __init__(
        self,
        first: Group,
        second: Group,
        n_features: int,
        pairs: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        self.first, self.second, self.n_features = first, second, n_features
        self.pairs = None if pairs is None else tuple(torch.as_tensor(rows) for rows in pairs)
        n_samples = max(len(first.batches), len(second.batches))
        self.step = max(1, _VALUES_PER_BLOCK // max(1, n_samples))

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor, dict[str, np.ndarray]]]:
        for start in range(0, self.n_features, self.step):
            block = slice(start, min(start + self.step, self.n_features))
            one, two = self.first.decode(block), self.second.decode(block)
            scales = {"scale1": one.mean(0).cpu().numpy(), "scale2": two.mean(0).cpu().numpy()}
            if self.pairs is not None:
                rows_one, rows_two = (rows.to(one.device) for rows in self.pairs)
                one, two = one[rows_one], two[rows_two]
            yield block, one, two, scales


def _vanilla(walk: _Walk) -> dict[str, Any]:
    parts: dict[str, list[np.ndarray]] = {"proba_m1": [], "scale1": [], "scale2": []}
    for _, one, two, scales in walk:
        parts["proba_m1"].append((one > two).double().mean(0).cpu().numpy())
        for name, value in scales.items():
            parts[name].append(value)
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    above = joined.pop("proba_m1")
    return {
        "proba_m1": above,
        "proba_m2": 1.0 - above,
        "bayes_factor": _log_odds(above),
        **joined,
    }


def _log_odds(proba: np.ndarray) -> np.ndarray:
    return np.log(proba + _EPS) - np.log(1.0 - proba + _EPS)


def _change(test: ChangeTest, one: Tensor, two: Tensor, pseudocounts: float) -> Tensor:
    if callable(test.change_fn):
        change = test.change_fn(one.cpu().numpy(), two.cpu().numpy(), pseudocounts)
        return torch.as_tensor(np.asarray(change))
    if test.change_fn == "difference":
        return one - two
    return (one + pseudocounts).log2_().sub_((two + pseudocounts).log2_())


def _proba(test: ChangeTest, change: Tensor, delta: float) -> np.ndarray:
    if test.m1_domain_fn is not None:
        up, down = (np.mean(mask, 0) for mask in test.m1_domain_fn(change.cpu().numpy()))
    else:
        n_pairs = change.shape[0]
        # Counted as float32, exact up to 16 million, which is several times faster than as bool.
        up = (change >= delta).float().sum(0).cpu().numpy().astype(np.float64) / n_pairs
        down = (change < -delta).float().sum(0).cpu().numpy().astype(np.float64) / n_pairs
    return up + down if test.test_mode == "two" else np.maximum(up, down)


def _describe(change: Tensor, levels: Sequence[float]) -> dict[str, np.ndarray]:
    values = change.cpu().numpy()
    ordered = np.sort(values.T, axis=1)  # (features, pairs)
    n_pairs = ordered.shape[1]
    middle = ordered[:, (n_pairs - 1) // 2 : n_pairs // 2 + 1]
    described = {
        "lfc_mean": values.mean(0),
        "lfc_median": middle.mean(1),
        "lfc_std": values.std(0),
        "lfc_min": ordered[:, 0],
        "lfc_max": ordered[:, -1],
    }
    for level in levels:
        low, high = _shortest_interval(ordered, level)
        described[f"lfc_confidence_interval_{str(level)[:5]}_min"] = low
        described[f"lfc_confidence_interval_{str(level)[:5]}_max"] = high
    return described


def _shortest_interval(ordered: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the shortest interval with a share `level` of the ordered values of each row."""
    if not 0 <= level < 1:
        msg = f"cred_interval_lvls holds {level}; a level lies in [0, 1)."
        raise ValueError(msg)
    inside = int(np.floor(level * ordered.shape[1]))
    widths = ordered[:, inside:] - ordered[:, : ordered.shape[1] - inside]
    start = widths.argmin(1)
    rows = np.arange(len(ordered))
    return ordered[rows, start], ordered[rows, start + inside]


def _estimate_pseudocounts(walk: _Walk, quantile: float = 0.9) -> float:
    """Return the offset that shrinks the log fold change of unseen features to zero.

    A quantile of the largest scales of features without counts, over the number of features, as
    scvi-tools takes it.
    """
    unseen = [group.unseen for group in (walk.first, walk.second)]
    if all(mask is None or not mask.any() for mask in unseen):
        return 1e-10
    largest: list[list[np.ndarray]] = [[], []]
    for block, *samples, _ in walk:
        for peaks, mask, sample in zip(largest, unseen, samples, strict=True):
            if mask is not None and mask[block].any():
                peaks.append(sample.amax(0).cpu().numpy()[mask[block]])
    offsets = [np.quantile(np.concatenate(part), quantile) if part else 1e-10 for part in largest]
    return float(max(1e-10, max(offsets) / walk.n_features))


def estimate_delta(mean_changes: np.ndarray, coef: float = 0.6, minimum: float = 0.1) -> float:
    """Return a threshold of the change from the modes of the changes of all features.

    Parameters
    ----------
    mean_changes
        Mean change of each feature.
    coef
        Share of the distance of the outer modes from zero.
    minimum
        Smallest threshold to return.
    """
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(n_components=3, random_state=0).fit(mean_changes[:, None])
    modes = np.sort(mixture.means_.squeeze())
    return float(max(minimum, coef * np.abs(modes[[0, -1]]).mean()))
