"""Draw sparse counts from a low-rank log-linear model, one cell state at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BLOCK = 4_000_000  # fragments, or entries of a dense block, held at a time


@dataclass(frozen=True)
class Model:
    """Log-linear profiles of one modality: `softmax(log_baseline + effect @ activity)`.

    Cells of one group share a profile; `activity` holds one row per group.
    """

    log_baseline: NDArray[np.float64]  # (features,)
    effect: NDArray[np.float32]  # (features, factors)
    activity: NDArray[np.float32]  # (groups, factors)
    ambient: NDArray[np.float64]  # (features,)
    noise: float

    def profile(self, group: int) -> tuple[NDArray[np.float64], float]:
        """Profile of a group as drawn from (with ambient noise), and its log normaliser."""
        pure, log_norm = softmax(self.log_baseline, self.effect, self.activity[group])
        return (1.0 - self.noise) * pure + self.noise * self.ambient, log_norm


def softmax(
    log_baseline: NDArray[np.float64], effect: NDArray[np.float32], activity: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Probabilities over the features for one state, and the log of their normaliser."""
    acting = np.flatnonzero(activity)
    logits = log_baseline + effect[:, acting].astype(np.float64) @ activity[acting]
    top = logits.max()
    weight = np.exp(logits - top)
    total = weight.sum()
    return weight / total, float(top + np.log(total))


def find_depth(detected: Callable[[float], float], target: float) -> float:
    """Depth at which the expected number of detected features is `target` (bisection in log)."""
    low, high = -5.0, 25.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if detected(float(np.exp(middle))) < target:
            low = middle
        else:
            high = middle
    return float(np.exp(0.5 * (low + high)))


def draw_fragments(
    model: Model,
    groups: NDArray[np.int64],
    depth: NDArray[np.float64],
    dropout: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    keep_empty: bool,
) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
    """Zero-inflated Poisson counts by drawing fragments: cost grows with fragments, not peaks.

    A cell's number of fragments is Poisson and each falls on a peak by the profile, which is the
    same as independent Poisson counts; then entries are lost with the peak's dropout probability.
    """
    n_features = model.log_baseline.size

    def draw(profile: NDArray[np.float64], cells: NDArray[np.int64]) -> sp.csr_matrix:
        size = rng.poisson(depth[cells])
        cdf = np.cumsum(profile)
        peak = np.searchsorted(cdf, rng.random(int(size.sum())) * cdf[-1], side="right")
        key = np.repeat(np.arange(cells.size), size) * n_features + peak
        key.sort()
        first = np.flatnonzero(np.diff(key, prepend=-1))
        count = np.diff(first, append=key.size)
        key = key[first]
        kept = rng.random(key.size) >= dropout[key % n_features]
        key, count = key[kept], count[kept]
        shape = (cells.size, n_features)
        return _csr(key // n_features, key % n_features, count, shape)

    per_cell = float(depth.mean()) + 1.0
    return _by_group(model, groups, draw, per_cell, depth, rng, keep_empty=keep_empty)


def draw_negative_binomial(
    model: Model,
    groups: NDArray[np.int64],
    depth: NDArray[np.float64],
    dispersion: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    keep_empty: bool,
) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
    """Negative binomial counts with mean `depth * profile` and inverse dispersion per feature."""
    n_features = model.log_baseline.size

    def draw(profile: NDArray[np.float64], cells: NDArray[np.int64]) -> sp.csr_matrix:
        scale = depth[cells, None] * (profile / dispersion)
        rate = rng.standard_gamma(dispersion, size=scale.shape) * scale
        dense = rng.poisson(rate).astype(np.int32)
        row, column = np.nonzero(dense)
        return _csr(row, column, dense[row, column], dense.shape)

    return _by_group(model, groups, draw, float(n_features), depth, rng, keep_empty=keep_empty)


def _by_group(
    model: Model,
    groups: NDArray[np.int64],
    draw: Callable[[NDArray[np.float64], NDArray[np.int64]], sp.csr_matrix],
    entries_per_cell: float,
    depth: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    keep_empty: bool,
) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
    """Draw all cells of a group from its profile, in blocks; counts and log normalisers."""
    by_group = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[by_group], np.arange(model.activity.shape[0] + 1))
    step = max(1, int(_BLOCK / entries_per_cell))
    log_norm = np.zeros(groups.size)
    blocks = []
    for group in range(model.activity.shape[0]):
        profile, norm = model.profile(group)
        cells = by_group[bounds[group] : bounds[group + 1]]
        log_norm[cells] = norm
        for first in range(0, cells.size, step):
            block = draw(profile, cells[first : first + step])
            blocks.append(block if keep_empty else _fill_cells(block, profile, rng))
    back = np.empty_like(by_group)
    back[by_group] = np.arange(by_group.size)
    counts = sp.vstack(blocks, format="csr")
    blocks.clear()
    counts = counts[back]
    if not keep_empty:
        counts = _fill_features(counts, model, groups, log_norm, depth, rng)
    counts.sort_indices()
    return counts, log_norm


def _csr(
    row: NDArray[np.int64], column: NDArray[np.int64], value: NDArray, shape: tuple[int, int]
) -> sp.csr_matrix:
    """Build an int32 CSR matrix from entries sorted by row and column."""
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=shape[0]), out=indptr[1:])
    return sp.csr_matrix(
        (value.astype(np.int32), column.astype(np.int32), indptr), shape=shape, copy=False
    )


def _fill_cells(
    block: sp.csr_matrix, profile: NDArray[np.float64], rng: np.random.Generator
) -> sp.csr_matrix:
    """Give each cell without counts one, drawn by its profile."""
    empty = np.flatnonzero(np.diff(block.indptr) == 0)
    if not empty.size:
        return block
    feature = rng.choice(profile.size, empty.size, p=profile)
    one = np.ones(empty.size, dtype=np.int32)
    return block + sp.csr_matrix((one, (empty, feature)), shape=block.shape)


def _fill_features(
    counts: sp.csr_matrix,
    model: Model,
    groups: NDArray[np.int64],
    log_norm: NDArray[np.float64],
    depth: NDArray[np.float64],
    rng: np.random.Generator,
) -> sp.csr_matrix:
    """Give each feature without counts one, in a cell drawn by the feature's expected counts."""
    seen = np.bincount(counts.indices, minlength=counts.shape[1])
    empty = np.flatnonzero(seen == 0)
    if not empty.size:
        return counts
    n_groups = model.activity.shape[0]
    weight = np.bincount(groups, weights=depth, minlength=n_groups)  # (groups,)
    norm = np.zeros(n_groups)
    norm[groups] = log_norm
    chosen = np.empty(empty.size, dtype=np.int64)
    for first in range(0, empty.size, 1024):
        part = empty[first : first + 1024]
        share = model.effect[part].astype(np.float64) @ model.activity.T  # (features, groups)
        share = np.exp(share + model.log_baseline[part, None] - norm)
        share = (1.0 - model.noise) * share + model.noise * model.ambient[part, None]
        cdf = np.cumsum(share * weight, axis=1)
        draw = rng.random((part.size, 1)) * cdf[:, -1:]
        chosen[first : first + 1024] = np.minimum((cdf <= draw).sum(axis=1), n_groups - 1)
    cell = np.empty(empty.size, dtype=np.int64)
    for group in np.unique(chosen):
        members = np.flatnonzero(groups == group)
        which = np.flatnonzero(chosen == group)
        chance = depth[members] / depth[members].sum()
        cell[which] = rng.choice(members, which.size, p=chance)
    one = np.ones(empty.size, dtype=np.int32)
    return (counts + sp.csr_matrix((one, (cell, empty)), shape=counts.shape)).tocsr()
