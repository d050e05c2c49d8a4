from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.pl import benchmark


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "method": ["a", "b", "c"],
            "runs": [2, 2, 2],
            "ari": [0.5, 0.7, np.nan],
            "ari_sd": [0.1, 0.2, np.nan],
            "seconds": [3.0, 9.0, 3.0],
            "error": [None, None, "timed out"],
        }
    )


def texts(ax):
    return {tuple(t.get_position())[::-1]: t for t in ax.texts}


def test_scores_and_their_best_are_shown(table, tmp_path):
    ax = benchmark(table, lower=["seconds"])
    cells = texts(ax)
    assert cells[0, 0].get_text() == "0.500 ± 0.100"
    assert cells[2, 0].get_text() == "–"
    bold = {place for place, text in cells.items() if text.get_fontweight() == "bold"}
    assert bold == {(1, 0), (0, 1), (2, 1)}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["ari ↑", "seconds ↓"]
    shade = ax.images[0].get_array()
    assert shade.mask[2, 0]
    assert shade[1, 0] > shade[0, 0]
    assert shade[0, 1] > shade[1, 1]
    ax.figure.savefig(tmp_path / "benchmark.png")


def test_columns_and_names_may_be_chosen(table):
    ax = benchmark(table.set_index("method"), ["ari"], digits=1)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert texts(ax)[1, 0].get_text() == "0.7 ± 0.2"


def test_equal_scores_are_all_best():
    ax = benchmark(pd.DataFrame({"x": [1.0, 1.0]}, index=["a", "b"]))
    assert {t.get_fontweight() for t in ax.texts} == {"bold"}


def test_what_does_not_fit_is_refused(table):
    with pytest.raises(KeyError, match="no column 'nmi'"):
        benchmark(table, ["nmi"])
    with pytest.raises(ValueError, match="none to draw"):
        benchmark(table[["method", "error"]])
