"""The parts of the benchmark of generators that decide a score, loaded by their paths."""

from __future__ import annotations

import importlib
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def cells(rng):
    types = np.repeat(["a", "b", "rare"], [100, 57, 2])
    counts = rng.poisson(np.where(types == "a", 0.2, 2.0)[:, None], (159, 40))
    obs = pd.DataFrame({"cell_type": types}, index=[f"c{i}" for i in range(159)])
    return ad.AnnData(sp.csr_matrix(counts, dtype=np.float32), obs=obs)


def test_the_split_is_stratified_and_complete(load, cells):
    types = cells.obs["cell_type"].to_numpy()
    parts = load("_generators").split(types, 3)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(159))
    numbers = {part: pd.Series(types[c]).value_counts().to_dict() for part, c in parts.items()}
    assert numbers["test"] == numbers["validation"] == {"a": 10, "b": 6}
    assert numbers["train"] == {"a": 80, "b": 45, "rare": 2}
    again = load("_generators").split(types, 4)
    assert not np.array_equal(parts["test"], again["test"])


@pytest.mark.parametrize("family", ["marginals", "bootstrap"])
def test_cells_are_drawn_of_the_asked_types(load, cells, family):
    sampler = load("_generators").FAMILIES[family](cells, "cell_type", 0, {})[family]
    asked = np.tile(["a", "b"], 300)
    drawn = sampler(asked, 600, np.random.default_rng(0))
    assert drawn.shape == (600, 40)
    for name in ("a", "b"):
        real = (cells.X[(cells.obs["cell_type"] == name).to_numpy()] > 0).mean()
        assert (drawn[asked == name] > 0).mean() == pytest.approx(real, rel=0.1)
    whole = sampler(None, 600, np.random.default_rng(0))
    assert (whole > 0).mean() == pytest.approx((cells.X > 0).mean(), rel=0.1)
    same = sampler(None, 600, np.random.default_rng(0))
    assert (whole != same).nnz == 0


def test_insertions_become_fragments(load):
    fragments = load("_generators").fragments
    insertions = ad.AnnData(sp.csr_matrix([[2.0, 2, 1, 4, 0, 3]]))
    assert fragments(insertions).X.toarray().tolist() == [[1, 1, 1, 2, 0, 2]]
    binary = ad.AnnData(sp.csr_matrix([[1.0, 1, 2, 0]]))
    assert fragments(binary).X.toarray().tolist() == [[1, 1, 2, 0]]


def test_held_out_cells_stand_in_the_order_of_the_test_types(load, cells, tmp_path):
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    found = load("generation").Cells(path, "cell_type", 0)
    held_out = found.held_out()
    depth = np.asarray(held_out.sum(axis=1)).ravel()
    # Type b is ten times deeper than type a.
    np.testing.assert_array_equal(np.where(depth > 30, "b", "a"), found.labels["test"])


def test_every_draw_is_saved_and_scored(load, cells, tmp_path):
    generation = load("generation")
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    (tmp_path / "cells").mkdir()
    found = generation.generate(
        str(path), "cell_type", "marginals", 0, 2, str(tmp_path / "cells"), {}
    )
    parts = generation.Cells(path, "cell_type", 0)
    rows = generation.score_family(path, parts, found, "marginals", 0, 2, tmp_path)
    assert [(row["mode"], row["draw"]) for row in rows] == [
        (mode, draw) for mode in generation.MODES for draw in range(2)
    ]
    assert not [row["error"] for row in rows if "error" in row]
    one, two = (row["wasserstein"] for row in rows[:2])
    assert one != two


def test_ranks_know_what_each_score_should_be(load):
    summary = pd.DataFrame(
        {
            "data": "set",
            "mode": "unconditional",
            "method": ["peakvi", "poissonvi", "poissonvi_prior", "marginals"],
            "scc": [0.9, 0.8, np.nan, 1.0],
            "mmd": [0.1, 0.2, np.nan, 0.0],
            "rf_auc": [0.3, 0.6, np.nan, 0.5],
        }
    )
    ranks = load("generation").mean_ranks(summary).set_index("method")["unconditional"]
    # An AUC of 0.3 is further from chance than 0.6; marginals are not ranked; a failure is last.
    assert ranks.to_dict() == pytest.approx(
        {"peakvi": 4 / 3, "poissonvi": 5 / 3, "poissonvi_prior": 3.0}
    )
