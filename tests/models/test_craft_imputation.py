"""CRAFTModel: retrieval, labels and imputed expression."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi import metrics
from atacvi.models import CRAFTModel
from atacvi.models._craft_profiles import cell_shares, fit_ridge, log_profiles
from atacvi.models._craft_retrieval import nearest, vote

from .craft_pairs import N_CELLS, N_GENES, build, simulate, train

METHODS = ["decoder", "retrieval", "ridge", "blend"]


@pytest.fixture(scope="module")
def everything():
    return simulate()


@pytest.fixture(scope="module")
def query(everything):
    return everything[N_CELLS:].copy()


@pytest.fixture(scope="module")
def model(everything):
    pairs = everything[:N_CELLS].copy()
    CRAFTModel.setup_mudata(pairs, labels_key="cell_type")
    return train(build(pairs), imputation_epochs=5)


@pytest.mark.parametrize("method", METHODS)
def test_imputed_expression_follows_the_hidden_one(model, query, method):
    truth = log_profiles(query["rna"].X.astype(float)).toarray()
    found = model.impute_rna(query["atac"], method=method, return_numpy=True)
    mean = np.tile(log_profiles(model.adata["rna"].X.astype(float)).mean(axis=0), (len(truth), 1))
    assert metrics.crossmodal_scores(truth, found)["feature_pearson"] > 0.4
    if method != "decoder":  # which gives the logarithm of the mean
        assert np.mean((truth - found) ** 2) < 0.8 * np.mean((truth - np.asarray(mean)) ** 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["log1p", "counts"])
def test_shapes_names_and_minibatches(model, query, method, target):
    options = {"method": method, "target": target}
    found = model.impute_rna(query, **options)
    assert found.shape == (query.n_obs, N_GENES)
    assert list(found.index) == list(query.obs_names)
    assert list(found.columns) == list(query["rna"].var_names)
    assert (found.to_numpy() >= 0).all()
    genes = [found.columns[5], found.columns[2]]
    part = model.impute_rna(query, [4, 1], gene_list=genes, batch_size=1, **options)
    np.testing.assert_allclose(part, found.iloc[[4, 1]][genes], rtol=1e-4, atol=1e-5)


def test_rna_of_the_query_is_not_looked_at(model, query):
    turned = query.copy()
    turned["rna"].X = turned["rna"].X[::-1].copy()
    for method in METHODS:
        one, two = (model.impute_rna(data, method=method) for data in (query, turned))
        pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("method", METHODS)
def test_library_size_is_the_total(model, query, method):
    given = model.impute_rna(query, method=method, target="counts", library_size=500.0)
    np.testing.assert_allclose(given.sum(axis=1), 500, rtol=1e-4)
    shares = model.get_normalized_expression(query, method=method)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)


def test_depth_is_predicted_from_accessibility(model, query):
    depth = np.asarray(query["rna"].X.sum(axis=1)).ravel()
    found = model.impute_rna(query, target="counts").sum(axis=1)
    assert np.corrcoef(np.log(depth), np.log(found))[0, 1] > 0.2
    assert 0.7 < found.mean() / depth.mean() < 1.4


def test_a_cell_is_not_retrieved_for_itself(model):
    data = model.adata
    own = model.impute_rna(method="retrieval", k=1, return_numpy=True)
    again = model.impute_rna(data.copy(), method="retrieval", k=1, return_numpy=True)
    truth = log_profiles(data["rna"].X.astype(float)).toarray()
    assert not np.isclose(own, truth, atol=1e-3).all(axis=1).any()
    # as a query of its own a cell may find itself
    assert np.isclose(again, truth, atol=1e-3).all(axis=1).sum() > 0


def test_unknown_genes_are_refused_or_filled_in(model, query):
    known = str(query["rna"].var_names[0])
    with pytest.raises(KeyError, match="did you mean"):
        model.impute_rna(query, gene_list=[known, f"{known}x"])
    filled = model.impute_rna(query, gene_list=["nobody", known], fill_value=0.0)
    assert (filled["nobody"] == 0).all()
    expected = model.impute_rna(query, gene_list=[known])[known]
    np.testing.assert_allclose(filled[known], expected)
    with pytest.raises(TypeError, match="give a list"):
        model.impute_rna(query, gene_list=known)


def test_a_cell_without_regions_gets_finite_values(model, query, caplog):
    data = query["atac"].copy()
    data.obsm.clear()
    counts = data.X.tolil()
    counts[3] = 0
    data.X = sp.csr_matrix(counts)
    found = model.impute_rna(data, return_numpy=True)
    assert np.isfinite(found).all()
    assert "1 of 60 cells hold no region" in caplog.text


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "knn"}, "method='knn'"),
        ({"target": "tpm"}, "target='tpm'"),
        ({"library_size": 0}, "library_size=0"),
        ({"library_size": "median"}, "library_size='median'"),
        ({"k": 0, "method": "retrieval"}, "k=0"),
    ],
)
def test_what_cannot_be_imputed(model, query, kwargs, message):
    with pytest.raises(ValueError, match=message):
        model.impute_rna(query, **kwargs)


def test_imputation_needs_its_stage(everything):
    pairs = everything[:60].copy()
    CRAFTModel.setup_mudata(pairs)
    model = train(build(pairs), max_epochs=0, stages=["alignment"])
    with pytest.raises(RuntimeError, match="imputation is not trained"):
        model.impute_rna()
    model.train(stages=["imputation"], imputation_epochs=1, enable_progress_bar=False)
    assert model.impute_rna().shape == (60, N_GENES)


def test_ridge_is_the_closed_form(rng):
    vectors = rng.normal(size=(80, 3))
    counts = sp.csr_matrix(rng.poisson(2.0, size=(80, 5)).astype(float))
    cells = np.arange(80)
    fitted = fit_ridge(vectors, counts, cells, cells)
    from sklearn.linear_model import Ridge

    square = (vectors - vectors.mean(axis=0)).T @ (vectors - vectors.mean(axis=0))
    target = log_profiles(counts).toarray()
    # on its own cells the smallest penalty fits best
    expected = Ridge(alpha=0.01 * np.trace(square) / 3).fit(vectors, target)
    np.testing.assert_allclose(fitted["weights"], expected.coef_.T, atol=1e-5)
    np.testing.assert_allclose(cell_shares(counts).sum(axis=1), 1)


# ---- retrieval and labels -------------------------------------------------------------------


def test_retrieved_cells_are_the_nearest(model, query):
    found = model.retrieve(query, k=7)
    asked = model.get_latent_representation(query, modality="atac")
    known = model.get_latent_representation(modality="rna")
    cosine = asked @ known.T
    np.testing.assert_array_equal(found.indices, np.argsort(-cosine, axis=1, kind="stable")[:, :7])
    np.testing.assert_allclose(found.similarity, np.sort(cosine, axis=1)[:, ::-1][:, :7], atol=1e-6)
    np.testing.assert_array_equal(found.names, model.adata.obs_names.to_numpy()[found.indices])
    back = model.retrieve(query, 2, from_modality="rna", to_modality="atac", reference=query)
    assert back.indices.shape == (query.n_obs, 2)
    with pytest.raises(ValueError, match="k=0"):
        model.retrieve(query, 0)


def test_labels_cross_the_modalities(model, query):
    found = model.annotate(query["atac"], return_proba=True)
    truth = query.obs["cell_type"].astype(str).to_numpy()
    assert (found["label"].to_numpy() == truth).mean() > 0.8
    types = sorted(set(truth))
    np.testing.assert_allclose(found[types].sum(axis=1), 1)
    strict = model.annotate(query["atac"], reject_below=0.999)
    assert set(strict["label"]) <= {*types, "unassigned"}
    assert ((strict["probability"] < 0.999) == (strict["label"] == "unassigned")).all()


def test_labels_of_another_reference(model, everything, query):
    reference = everything["rna"][:100].copy()
    reference.obs["kind"] = everything.obs["cell_type"].to_numpy()[:100]
    found = model.annotate(query, reference=reference, labels_key="kind")
    assert (found["label"].to_numpy() == query.obs["cell_type"].astype(str)).mean() > 0.7
    with pytest.raises(ValueError, match="labels_key"):
        model.annotate(query, reference=reference)
    with pytest.raises(KeyError, match="kin"):
        model.annotate(query, reference=reference, labels_key="kin")
    with pytest.raises(ValueError, match="reject_below"):
        model.annotate(query, reject_below=2)


def test_modalities_mean_the_same_in_every_call(model, query):
    """Cells of the query are read in `from_modality`, the reference in `to_modality`."""
    rna, atac = query["rna"].copy(), query["atac"].copy()
    for asked, one, two in ((atac, "atac", "rna"), (rna, "rna", "atac"), (rna, "rna", "rna")):
        options = {"from_modality": one, "to_modality": two}
        found = model.retrieve(asked, 9, **options)
        table = model.annotate(asked, k=9, **options)
        np.testing.assert_allclose(table["similarity"], found.similarity.mean(axis=1))
        asked_vectors = model.get_latent_representation(asked, modality=one)
        known = model.get_latent_representation(modality=two)
        np.testing.assert_allclose(
            found.similarity[:, 0], (asked_vectors @ known.T).max(axis=1), atol=1e-6
        )
    pd.testing.assert_frame_equal(
        model.annotate(atac), model.annotate(atac, from_modality="atac", to_modality="rna")
    )
    with pytest.raises(ValueError, match="genes"):  # accessibility is no RNA
        model.annotate(atac, from_modality="rna", to_modality="atac")


def test_vote_and_nearest_by_hand():
    found, cosine = nearest(np.eye(3), np.eye(3)[[2, 0, 1, 1]], 2)
    assert found[:, 0].tolist() == [1, 2, 0]
    assert cosine[:, 0].tolist() == [1, 1, 1]
    probability = vote(np.array([[1.0, 1.0, 0.5]]), np.array([[0, 1, 1]]), 2)
    np.testing.assert_allclose(probability, [[1 / (2 + np.exp(-1)), 1 - 1 / (2 + np.exp(-1))]])


def test_the_best_method_is_that_of_held_out_cells(everything):
    pairs, query = everything[:N_CELLS].copy(), everything[N_CELLS:].copy()
    CRAFTModel.setup_mudata(pairs)
    model = train(build(pairs), max_epochs=0, imputation_epochs=2, train_size=0.75)
    assert set(model.imputation_scores_) == set(METHODS)
    chosen = max(model.imputation_scores_, key=model.imputation_scores_.get)
    np.testing.assert_array_equal(model.impute_rna(query), model.impute_rna(query, method=chosen))
    model.imputation_scores_ = {"decoder": 0.2, "retrieval": 0.1, "ridge": 0.0}
    np.testing.assert_array_equal(
        model.impute_rna(query), model.impute_rna(query, method="decoder")
    )
