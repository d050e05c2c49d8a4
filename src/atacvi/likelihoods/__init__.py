"""Likelihoods of counts and accessibility: Pyro distributions and fast sums over sparse targets.

The distributions (`NegativeBinomial`, `ZeroInflatedPoisson`, `Poisson`, `Bernoulli`) follow Pyro's
protocol and work inside ``pyro.sample`` with plates, masks and ``to_event``. The functions
``*_log_prob`` give the log-probability of each cell, summed over its features, from a
`SparseTarget`: a closed form over all entries plus a correction on the non-zero ones.
"""

from __future__ import annotations

from atacvi.likelihoods._sparse import SparseTarget
from atacvi.likelihoods.bernoulli import Bernoulli, bernoulli_log_prob
from atacvi.likelihoods.negative_binomial import NegativeBinomial, negative_binomial_log_prob
from atacvi.likelihoods.open_or_closed import open_log_prob
from atacvi.likelihoods.poisson import Poisson, poisson_log_prob
from atacvi.likelihoods.sparse_draws import draw_counts, draw_open
from atacvi.likelihoods.zero_inflated_poisson import (
    ZeroInflatedPoisson,
    zero_inflated_poisson_log_prob,
)

__all__ = [
    "Bernoulli",
    "NegativeBinomial",
    "Poisson",
    "SparseTarget",
    "ZeroInflatedPoisson",
    "bernoulli_log_prob",
    "draw_counts",
    "draw_open",
    "negative_binomial_log_prob",
    "open_log_prob",
    "poisson_log_prob",
    "zero_inflated_poisson_log_prob",
]
