from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from atacvi.pl import volcano


@pytest.fixture
def table(rng):
    effect = np.r_[rng.normal(size=90) * 0.3, np.linspace(-4, 4, 10)]
    fdr = np.r_[rng.uniform(0.1, 1, 90), np.full(10, 1e-6)]
    return pd.DataFrame(
        {"log2_fold_change": effect, "fdr": fdr}, index=[f"f{i}" for i in range(100)]
    )


def test_what_stands_out_is_counted_and_named(table, tmp_path):
    ax = volcano(table, n_labels=3)
    assert ax.get_title(loc="left") == "4 lower, 4 higher"
    assert len([t for t in ax.texts if t.get_text()]) == 6
    points = {tuple(p) for c in ax.collections for p in np.asarray(c.get_offsets()).round(4)}
    assert (4.0, 6.0) in points
    ax.figure.savefig(tmp_path / "volcano.png")


def test_zeros_and_probabilities_can_be_drawn(table):
    table.loc["f95", "fdr"] = 0.0
    assert np.isfinite(volcano(table).get_ylim()).all()
    table["prob_da"] = 1 - table["fdr"]
    ax = volcano(table, significance="prob_da")
    assert ax.get_title(loc="left") == "4 lower, 4 higher"
    assert ax.get_ylabel() == "prob da"


def test_given_axes_and_missing_values(table):
    _, ax = plt.subplots()
    table.loc["f0"] = np.nan
    assert volcano(table, ax=ax, n_labels=0) is ax
    assert sum(len(c.get_offsets()) for c in ax.collections) == 99
    with pytest.raises(KeyError, match="lacks \\['pvalue'\\]"):
        volcano(table, significance="pvalue")
    with pytest.raises(ValueError, match="no feature has both"):
        volcano(table.iloc[:1])
