"""The parts of the benchmarks that decide a score, loaded by their paths."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_a_type_split_in_half_is_still_recovered(load):
    labels = np.repeat(["a", "b", "c"], [100, 60, 40])
    clusters = np.repeat([0, 1, 2, 2], [60, 40, 60, 40])
    found = load("clusters").recovery(labels, clusters)
    assert found["types_recovered"] == 3
    assert found["components_used"] == 3
    assert not found["collapsed"]


def test_one_component_is_a_collapse(load):
    labels = np.repeat([f"type {i}" for i in range(10)], 20)
    found = load("clusters").recovery(labels, np.zeros(200, dtype=int))
    assert found["types_recovered"] == 0
    assert found["collapsed"] == 1


def test_zeros_keep_their_feature(load):
    counts = sp.random(40, 12, density=0.5, format="csr", random_state=0)
    counts = sp.csr_matrix(sp.hstack([counts, np.ones((40, 1))]))
    cols = np.tile(np.arange(13), 5)
    rows, kept = load("imputation").zeros_of_same_feature(counts, cols, np.random.default_rng(0))
    assert not np.asarray(counts[rows, kept]).any()
    np.testing.assert_array_equal(np.sort(kept), np.repeat(np.arange(12), 5))


def test_tfidf_of_the_peers(load):
    counts = sp.csr_matrix([[2, 0, 1], [0, 1, 1]])
    expected = np.log1p(1e4 * np.array([[0.5 * 2, 0, 0.5], [0, 0.5 * 2, 0.5]]))
    np.testing.assert_allclose(load("_peers").tfidf(counts).toarray(), expected, rtol=1e-6)


def test_features_are_kept_by_share_and_number(load):
    import anndata as ad
    import mudata as md

    counts = np.zeros((6000, 3), dtype=np.int32)
    counts[:4, 0], counts[:5, 1], counts[:6, 2] = 1, 1, 3
    rna = ad.AnnData(sp.csr_matrix(counts))
    mdata = md.MuData({"atac": rna.copy(), "rna": rna})
    kept = load("_peers").filter_features(mdata)
    assert list(kept.mod) == ["rna", "atac"]
    assert kept["atac"].var_names.tolist() == ["2"]
    assert kept["rna"].X.dtype == np.float32


def test_hidden_modality_tells_nothing(load):
    import anndata as ad
    import mudata as md

    counts = sp.csr_matrix(np.arange(1, 25, dtype=np.float32).reshape(6, 4))
    mdata = md.MuData({"rna": ad.AnnData(counts), "atac": ad.AnnData(counts.copy())})
    hide = load("crossmodal").hide
    assert hide(mdata, "rna", "multivi", 0)["rna"].X.nnz == 0
    exchanged = hide(mdata, "rna", "multiview", 0)
    assert not np.array_equal(exchanged["rna"].X.toarray(), counts.toarray())
    np.testing.assert_array_equal(np.sort(exchanged["rna"].X.toarray(), axis=0), counts.toarray())
    np.testing.assert_array_equal(exchanged["atac"].X.toarray(), counts.toarray())


def test_best_pairs_are_related_to_their_distance(load):
    import pandas as pd

    n = 200
    distance = np.where(np.arange(n) < 50, 1_000, 150_000)
    score = np.ones(n)
    score[40:] = -1.0
    pvalue = np.r_[np.linspace(0.001, 0.01, 40), np.full(160, 0.5)]
    links = pd.DataFrame(
        {"distance": distance, "score": score, "pvalue": pvalue}
        | {"fdr": 10 * pvalue, "probability": np.where(distance == 1_000, 0.9, 0.1)}
    )
    found = load("links_near_tss").compare(links, 40, 5_000)
    assert (found["near"], found["near_all"], found["enrichment"]) == (1.0, 0.25, 4.0)
    assert found["p_value"] < 1e-20
    assert found["negative"] == pytest.approx(10 / 40 / 0.25)
    assert (found["mean_near"], found["mean_far"], found["likely"]) == (0.9, pytest.approx(0.1), 50)


def test_tests_rank_by_p_value_and_models_by_effect(load):
    import pandas as pd

    names = [f"peak{i}" for i in range(6)]
    test = pd.DataFrame({"pvalue": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}, index=names)
    model = pd.DataFrame(
        {"effect_size": [0.0, -3.0, 2.0, 0, 0, 0], "emp_effect": [5, 4, 0, 0, 0, 0.0]}, index=names
    )
    truth = pd.Series([0, 1, 2, 0, 0, 0.0], index=names)
    shares = load("differential").overlap({"wilcoxon": test, "peakvi": model}, truth, 2)
    assert shares.loc["wilcoxon", "peakvi"] == 0.5
    assert shares.loc["wilcoxon", "counts"] == 1.0
    assert shares.loc["peakvi", "truth"] == 1.0


def test_every_script_scores_an_embedding_with_several_seeds(load, monkeypatch, tmp_path):
    embedding, simulated = load("embedding"), load("simulated")
    labels = np.repeat(["a", "b"], 60)
    latent = np.random.default_rng(0).normal(size=(120, 4)) + 8.0 * (labels == "b")[:, None]

    def run(target, job, *_):
        np.save(job["out"], latent)
        return {"seconds": 1.0}

    monkeypatch.setattr(simulated.harness, "run_isolated", run)
    monkeypatch.setattr(embedding, "read_labels", lambda *_: labels)
    arguments = SimpleNamespace(out=tmp_path, threads=1, timeout=None, options={})
    found = simulated.run_peer(arguments, tmp_path / "data.h5mu", "lsi", 0)
    assert found["leiden_ari"] == found["knn_accuracy"] == 1.0
    assert found["leiden_spread"] == 0.0

    scored = []

    def scores(*_, random_state):
        scored.append(random_state)
        return {"leiden_ari": float(random_state)}

    monkeypatch.setattr("atacvi.metrics.clustering_scores", scores)
    again = embedding.score(tmp_path / "data_lsi.npy", labels, ["b"], [3, 5])
    assert scored == [3, 5]
    assert (again["leiden_ari"], again["leiden_spread"]) == (4.0, 1.0)
