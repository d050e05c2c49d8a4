from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from atacvi.pl import imputation


@pytest.fixture
def counts(rng):
    return rng.poisson(2.0, (40, 6)).astype(float)


def test_correlation_is_pearson_of_log1p(counts, rng):
    imputed = counts + rng.uniform(0, 2, counts.shape)
    r = np.corrcoef(np.log1p(counts).ravel(), np.log1p(imputed).ravel())[0, 1]
    title = imputation(counts, imputed).get_title(loc="left")
    assert title == f"r = {r:.2f} (240 values)"


def test_group_means_are_compared(counts):
    groups = np.repeat(["a", "b"], 20)
    means = np.stack([counts[:20].mean(0), counts[20:].mean(0)]).ravel()
    other = counts[::-1]
    r = np.corrcoef(means, np.stack([other[:20].mean(0), other[20:].mean(0)]).ravel())[0, 1]
    ax = imputation(counts, other, groups, log=False)
    assert ax.get_title(loc="left") == f"r = {r:.2f} (12 group means)"
    assert ax.get_xlabel() == "observed"


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, pd.DataFrame, np.asarray])
@pytest.mark.parametrize("groups", [None, ["a", None] * 20])
def test_all_kinds_of_matrices_give_the_same(kind, groups, counts):
    expected = imputation(counts, counts**2, groups).get_title(loc="left")
    assert imputation(kind(counts), counts**2, groups).get_title(loc="left") == expected


def test_many_entries_are_sampled(counts, monkeypatch):
    # `atacvi.pl.imputation` is the function, which hides the module of its name
    monkeypatch.setattr(sys.modules["atacvi.pl.imputation"], "_MAX_POINTS", 60)
    assert "(60 values)" in imputation(counts, counts).get_title(loc="left")


def test_what_does_not_fit_is_refused(counts):
    with pytest.raises(ValueError, match=r"\(40, 6\), imputed \(40, 5\)"):
        imputation(counts, counts[:, :5])
    with pytest.raises(ValueError, match="3 groups were given for 40 cells"):
        imputation(counts, counts, ["a", "b", "c"])
    with pytest.raises(ValueError, match="log=False"):
        imputation(counts - 3, counts)
    with pytest.raises(ValueError, match="finite"):
        imputation(counts, np.full_like(counts, np.nan))
    table = pd.DataFrame(counts)
    with pytest.raises(ValueError, match="columns of observed and imputed differ"):
        imputation(table, table[[1, 0, 2, 3, 4, 5]])
