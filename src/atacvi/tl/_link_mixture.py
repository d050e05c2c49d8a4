"""Which pairs are links: a mixture of null, activators and repressors, likelier near the TSS."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Means of the z scores of links. The least one keeps links apart from the null.
_EFFECTS = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_MAX_LEARNT = 30_000  # pairs that teach the mixture; all get a probability
_CHUNK = 200_000
_MAX_STEPS = 500
_TOLERANCE = 1e-6  # of the log-likelihood of a pair
_SLOPE_SD = 2.0  # of the prior of the logistic slopes, on columns with a deviation of one
_KNOTS = (0.05, 0.35, 0.65, 0.95)
_NEAR = 1_000.0  # distances well below it, in base pairs, count as one
_START = 0.05


class LinkMixture(NamedTuple):
    """Probabilities of the pairs and the mixture behind them.

    Parameters
    ----------
    probability
        Posterior probability that a pair is a link of either sign, shape (pairs,).
    prior
        The same before its score is seen, shape (pairs,).
    weights
        Shares of the effects among activators and repressors, shape (2, effects).
    objective
        Penalised log-likelihood of a pair after each step.
    """

    probability: NDArray[np.float64]
    prior: NDArray[np.float64]
    weights: NDArray[np.float64]
    objective: list[float]


def fit_links(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    distance: NDArray[np.int64],
    rng: np.random.Generator,
) -> LinkMixture:
    """Fit the mixture by EM and give the posterior of each pair.

    A pair at distance d has a z score from

        p_0(d) N(0, 1) + p_+(d) sum_k w+_k N(m_k, 1) + p_-(d) sum_k w-_k N(-m_k, 1),

    a two-groups model (Efron 2008) whose prior depends on a covariate (Scott et al. 2015). The
    logits of p_+ and p_- are natural cubic splines of the log distance with a normal prior on
    their slopes; the means m_k stand on a grid, so that a higher score never speaks against an
    activator.

    Parameters
    ----------
    low, high
        Interval that holds the z score, each of shape (pairs,): as many null scores lie below
        the score as a standard normal has mass below it. NaN where there is no score.
    distance
        Distance from the TSS in base pairs, shape (pairs,).
    rng
        Generator that chooses which pairs to learn from, where there are very many.
    """
    known = np.flatnonzero(~np.isnan(low))
    probability = np.full(len(low), np.nan)
    prior = np.full(len(low), np.nan)
    weights = np.full((2, len(_EFFECTS)), 1 / len(_EFFECTS))
    if not known.size:
        return LinkMixture(probability, prior, weights, [])
    learnt = known
    if known.size > _MAX_LEARNT:
        learnt = np.sort(rng.choice(known, _MAX_LEARNT, replace=False))
    basis = _Basis(distance[learnt])
    design = basis(distance[learnt])
    ratios = _ratios(low[learnt], high[learnt])
    slopes, weights, objective = _learn(ratios, design)
    for start in range(0, known.size, _CHUNK):
        part = known[start : start + _CHUNK]
        shares = _shares(basis(distance[part]) @ slopes)
        of_sign = np.einsum("nsk,sk->ns", _ratios(low[part], high[part]), weights)
        link = shares[:, 1:] * of_sign
        total = link.sum(axis=1)
        probability[part] = total / (total + shares[:, 0])
        prior[part] = 1.0 - shares[:, 0]
    return LinkMixture(probability, prior, weights, objective)


class _Basis:
    """Intercept and natural cubic spline of the log distance, its columns of deviation one."""

    def __init__(self, distance: NDArray[np.int64]) -> None:
        x = _log_distance(distance)
        self.knots = np.unique(np.quantile(x, _KNOTS))
        columns = self._columns(x)
        self.mean, sd = columns.mean(axis=0), columns.std(axis=0)
        self.sd = np.where(sd > 1e-9, sd, np.inf)

    def __call__(self, distance: NDArray[np.int64]) -> NDArray[np.float64]:
        columns = (self._columns(_log_distance(distance)) - self.mean) / self.sd
        return np.column_stack([np.ones(len(columns)), columns])

    def _columns(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Truncated powers (Hastie et al., Elements of Statistical Learning, eq. 5.4)."""
        knots = self.knots
        if len(knots) < 3:
            return x[:, None]

        def power(k: int) -> NDArray[np.float64]:
            last = knots[-1]
            above = np.maximum(x - knots[k], 0.0) ** 3 - np.maximum(x - last, 0.0) ** 3
            return above / (last - knots[k])

        end = power(len(knots) - 2)
        return np.column_stack([x, *(power(k) - end for k in range(len(knots) - 2))])


def _log_distance(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.log(_NEAR + np.abs(distance))


def _ratios(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return likelihoods of the effects over that of the null, shape (pairs, 2, effects)."""
    from scipy.special import ndtr

    means = np.concatenate([_EFFECTS, -_EFFECTS])
    # In the upper tail the mass is the difference of two small numbers, not of two near one.
    flip = np.where(low + high > 0, -1.0, 1.0)
    first = np.where(flip > 0, low, -high)
    last = np.where(flip > 0, high, -low)
    shift = flip[:, None] * means
    null = ndtr(last) - ndtr(first)
    mass = ndtr(last[:, None] - shift) - ndtr(first[:, None] - shift)
    ratio = np.maximum(mass, 1e-300) / np.maximum(null, 1e-300)[:, None]
    return ratio.astype(np.float32).reshape(len(low), 2, len(_EFFECTS))


def _shares(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares of null, activators and repressors, shape (pairs, 3)."""
    full = np.column_stack([np.zeros(len(logits)), logits])
    full -= full.max(axis=1, keepdims=True)
    np.exp(full, out=full)
    return full / full.sum(axis=1, keepdims=True)


def _learn(
    ratios: NDArray[np.float32], design: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Return slopes (columns, 2), weights (2, effects) and the objective after each EM step."""
    n = len(design)
    slopes = np.zeros((design.shape[1], 2))
    slopes[0] = np.log(_START / (1 - 2 * _START))
    weights = np.full(ratios.shape[1:], 1 / ratios.shape[2])
    penalty = np.full(design.shape[1], 1 / _SLOPE_SD**2)
    penalty[0] = 0.0
    objective: list[float] = []
    for _ in range(_MAX_STEPS):
        shares = _shares(design @ slopes)
        of_sign = np.einsum("nsk,sk->ns", ratios, weights)
        joint = np.column_stack([shares[:, 0], shares[:, 1:] * of_sign])
        total = joint.sum(axis=1)
        found = float(np.log(total).sum() - 0.5 * (penalty @ slopes**2).sum()) / n
        done = bool(objective) and found - objective[-1] < _TOLERANCE
        objective.append(found)
        if done:
            break
        counts = np.einsum("nsk,ns->sk", ratios, shares[:, 1:] / total[:, None]) * weights
        weights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
        slopes = _logistic_step(design, joint[:, 1:] / total[:, None], slopes, penalty)
    return slopes, weights, objective


def _logistic_step(
    design: NDArray[np.float64],
    target: NDArray[np.float64],
    slopes: NDArray[np.float64],
    penalty: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Take one Newton step of the penalised multinomial regression on the posteriors.

    The step is halved until it gains, so that the likelihood of the mixture never falls.
    """
    width = design.shape[1]

    def value(at: NDArray[np.float64]) -> float:
        logits = design @ at
        top = np.maximum(logits.max(axis=1), 0.0)
        norm = top + np.log(np.exp(-top) + np.exp(logits - top[:, None]).sum(axis=1))
        return float((target * logits).sum() - norm.sum() - 0.5 * (penalty @ at**2).sum())

    shares = _shares(design @ slopes)[:, 1:]
    gradient = design.T @ (target - shares) - penalty[:, None] * slopes
    hessian = np.zeros((2, width, 2, width))
    for i in range(2):
        for j in range(2):
            weight = shares[:, i] * ((i == j) - shares[:, j])
            hessian[i, :, j, :] = design.T @ (design * weight[:, None])
        hessian[i, :, i, :] += np.diag(penalty + 1e-9 * len(design))
    flat = np.linalg.solve(hessian.reshape(2 * width, 2 * width), gradient.T.ravel())
    step = flat.reshape(2, width).T
    now = value(slopes)
    for _ in range(20):
        if value(slopes + step) >= now:
            return slopes + step
        step = step / 2
    return slopes
