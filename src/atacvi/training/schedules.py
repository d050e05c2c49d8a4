"""Learning rates over the steps of a training."""

from __future__ import annotations

import math


def warmup_cosine(step: int, n_warmup: int, n_steps: int, n_cycles: int = 1) -> float:
    r"""Factor of the learning rate: linear warm-up, then cosine cycles that decay.

    .. math::

        q = \frac{t - W}{T - W}, \quad A = \frac{T + W - t}{2 T}, \quad
        \mathrm{factor} = A\,(1 + \cos(\pi\, \mathrm{frac}(K q)))

    for :math:`t \ge W`, :math:`t / W` before, and 0 from T on.

    Parameters
    ----------
    step
        Steps taken, t.
    n_warmup
        Steps of the warm-up, W.
    n_steps
        Steps of the training, T.
    n_cycles
        Restarts of the cosine, K.

    Returns
    -------
    Between 0 and 1.

    Raises
    ------
    ValueError
        If the warm-up is not shorter than the training, or there is no cycle.

    References
    ----------
    LeRoy et al., "Atacformer: A transformer-based foundation model for analysis and interpretation
    of ATAC-seq data", bioRxiv (2025).

    Examples
    --------
    >>> from atacvi.training import warmup_cosine
    >>> [warmup_cosine(step, 10, 100) for step in (0, 5, 10, 100)]
    [0.0, 0.5, 1.0, 0.0]
    """
    if not 0 <= n_warmup < n_steps or n_cycles < 1:
        msg = (
            f"n_warmup={n_warmup}, n_steps={n_steps}, n_cycles={n_cycles}: the warm-up must be "
            "shorter than the training, and there must be a cycle."
        )
        raise ValueError(msg)
    if step >= n_steps:
        return 0.0
    if step < n_warmup:
        return step / n_warmup
    progress = (step - n_warmup) / (n_steps - n_warmup)
    amplitude = (n_steps + n_warmup - step) / (2 * n_steps)
    # amplitude at the end of the warm-up is one half, so that the factor there is one
    return amplitude * (1 + math.cos(math.pi * math.fmod(n_cycles * progress, 1.0)))


def ramp(progress: float) -> float:
    """Rise from 0 to 1 over a training, fast at first: the strength of an adversary.

    Parameters
    ----------
    progress
        Share of the training that is done, 0 to 1.

    Returns
    -------
    ``2 / (1 + exp(-10 progress)) - 1``.

    References
    ----------
    Ganin et al., "Domain-adversarial training of neural networks", Journal of Machine Learning
    Research 17:59 (2016), section 5.2.2.

    Examples
    --------
    >>> from atacvi.training import ramp
    >>> ramp(0.0), round(ramp(1.0), 3)
    (0.0, 1.0)
    """
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0
