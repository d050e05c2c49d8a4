"""Co-accessibility against dense correlation matrices."""

from __future__ import annotations

import importlib.util

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.tl import co_accessibility


@pytest.fixture
def adata(rng):
    """Peaks 10 kb apart on two chromosomes; neighbours 0 and 1, 1 and 2 are coupled in a chain."""
    n_peaks = 40
    values = rng.normal(size=(400, n_peaks))
    values[:, 1] += values[:, 0]
    values[:, 2] += values[:, 1]
    counts = rng.poisson(np.exp(0.7 * values))
    chrom = np.repeat(["chr2", "chr1"], n_peaks // 2)
    start = np.tile(np.arange(n_peaks // 2) * 10_000, 2)
    names = [f"{c}:{s}-{s + 500}" for c, s in zip(chrom, start, strict=True)]
    adata = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), var=pd.DataFrame(index=names))
    adata.layers["signal"] = values
    return adata


def test_unshrunk_scores_are_pearson_correlations(adata):
    expected = np.corrcoef(adata.X.toarray(), rowvar=False)
    place = {name: i for i, name in enumerate(adata.var_names)}
    options = {"window": 50_000, "shrinkage": 0.0, "normalize": False}
    for values in (None, adata.X.toarray()):
        table = co_accessibility(adata, values=values, **options)
        assert len(table) == 2 * sum(20 - gap for gap in range(1, 6))
        for row in table.itertuples():
            assert row.score == pytest.approx(
                expected[place[row.peak1], place[row.peak2]], abs=1e-5
            )
            assert 0 < row.distance <= 50_000
    assert table["peak1"].iloc[0].startswith("chr1:")


def test_shrinkage_is_that_of_schaefer_and_strimmer(adata):
    x = adata.X.toarray().astype(float)[:, :20]
    x = (x - x.mean(0)) / x.std(0)
    product = x[:, :, None] * x[:, None, :]
    r = product.mean(0)
    upper = np.triu_indices(20, 1)
    variance = product.var(axis=0)[upper].sum() / (len(x) - 1)
    weight = variance / (r[upper] ** 2).sum()
    assert 0 < weight < 1
    one = adata[:, :20].copy()
    for values in (None, one.X.toarray()):
        options = {"window": 10**6, "normalize": False}
        found = co_accessibility(one, values=values, **options)["score"].to_numpy()
        np.testing.assert_allclose(np.sort(found), np.sort((1 - weight) * r[upper]), atol=1e-5)


def test_partial_correlations_are_those_of_the_inverse(adata):
    one = adata[:, :20].copy()
    r = np.corrcoef(one.X.toarray(), rowvar=False)
    shrunk = 0.9 * r + 0.1 * np.eye(20)
    precision = np.linalg.inv(shrunk)
    scale = np.sqrt(np.diag(precision))
    expected = (-precision / np.outer(scale, scale))[np.triu_indices(20, 1)]
    options = {"window": 10**6, "normalize": False, "shrinkage": 0.1}
    found = co_accessibility(one, method="partial", **options)
    np.testing.assert_allclose(np.sort(found["score"]), np.sort(expected), atol=1e-5)


def test_partial_correlation_sees_through_a_chain(adata):
    def score(method):
        options = {"window": 50_000, "shrinkage": 0.02, "normalize": False}
        table = co_accessibility(adata, method=method, values="signal", **options)
        table = table.set_index(["peak1", "peak2"])["score"]
        names = adata.var_names
        return [table[names[i], names[j]] for i, j in ((0, 1), (1, 2), (0, 2))]

    plain, partial = score("correlation"), score("partial")
    assert min(plain) > 0.2
    assert min(partial[:2]) > 0.2
    assert abs(partial[2]) < 0.12


def test_metacells_and_models(mdata, model, tmp_path):
    mdata["atac"].obs["group"] = np.arange(mdata.n_obs) % 30
    arrays = co_accessibility(mdata, values=model.values["atac"], metacells="group")
    streamed = co_accessibility(mdata, values=model, metacells="group", min_score=0.2)
    assert model.largest <= 512
    kept = arrays[arrays["score"].abs() >= 0.2].reset_index(drop=True)
    np.testing.assert_allclose(streamed["score"], kept["score"], atol=1e-3)
    atac = mdata["atac"]
    atac.write_h5ad(tmp_path / "pairs.h5ad")
    again = anndata.read_h5ad(tmp_path / "pairs.h5ad").uns["co_accessibility"]
    assert again["peak1"].tolist() == streamed["peak1"].tolist()


@pytest.mark.slow
def test_circe_finds_the_coupled_pairs(adata):
    if importlib.util.find_spec("circe") is None:
        with pytest.raises(ImportError, match="circe-py"):
            co_accessibility(adata, method="circe")
        return
    table = co_accessibility(adata, method="circe", window=100_000, n_samples=4)
    assert set(table["peak1"]) <= set(adata.var_names)
    best = table.nlargest(2, "score")
    pairs = {frozenset(pair) for pair in zip(best["peak1"], best["peak2"], strict=True)}
    names = adata.var_names
    assert frozenset(names[:2]) in pairs or frozenset(names[1:3]) in pairs


def test_what_does_not_fit_is_refused(adata):
    with pytest.raises(ValueError, match="method='cicero'"):
        co_accessibility(adata, method="cicero")
    with pytest.raises(ValueError, match="needs an embedding"):
        co_accessibility(adata, metacells=10)
    with pytest.raises(TypeError, match="unknown arguments"):
        co_accessibility(adata, njobs=2)
