"""Links against brute force, against simulated truth, and their null."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import kstest, pearsonr
from sklearn.cross_decomposition import PLSRegression
from sklearn.metrics import roc_auc_score

from atacvi import datasets
from atacvi.tl import link_peaks_to_genes
from atacvi.tl._link_scores import Design, lasso_path, pls_coefficients


def is_true(mdata, table):
    links = datasets.simulated_links(mdata)
    pairs = pd.MultiIndex.from_frame(table[["peak", "gene"]])
    return pairs.isin(pd.MultiIndex.from_frame(links[["peak", "gene"]]))


def brute_force(mdata, window):
    """Pairs, distances and correlations by loops over dense, normalised values."""
    rna, atac = (mdata[name].X.toarray().astype(float) for name in ("rna", "atac"))
    rna = np.log1p(rna / rna.sum(1, keepdims=True) * 1e4)
    atac = atac / atac.sum(1, keepdims=True) * np.median(atac.sum(1))
    found = {}
    for g, gene in enumerate(mdata["rna"].var.itertuples()):
        for p, peak in enumerate(mdata["atac"].var.itertuples()):
            distance = (peak.start + peak.end) // 2 - gene.tss
            if peak.chrom == gene.chrom and abs(distance) <= window:
                found[gene.Index, peak.Index] = distance, pearsonr(atac[:, p], rna[:, g])[0]
    return found


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
def test_correlations_are_those_of_brute_force(mdata, kind):
    expected = brute_force(mdata, 100_000)
    for name in ("rna", "atac"):
        mdata[name].X = kind(mdata[name].X)
    table = link_peaks_to_genes(mdata, window=100_000, n_permutations=0, min_cells=0)
    assert set(zip(table["gene"], table["peak"], strict=True)) == set(expected)
    for row in table.itertuples():
        distance, r = expected[row.gene, row.peak]
        assert row.distance == distance
        assert row.score == pytest.approx(r, abs=1e-4)
    assert table["pvalue"].isna().all()
    assert table["probability"].isna().all()


@pytest.mark.parametrize("method", ["correlation", "lasso", "pls"])
def test_true_profiles_tell_true_links(mdata, method):
    values = {
        "expression": np.log(datasets.true_expression(mdata)),
        "accessibility": np.log(datasets.true_accessibility(mdata)),
    }
    options = {"method": method, "n_permutations": 0}
    options["genes"] = mdata["rna"].var_names[:: 3 if method == "lasso" else 1]
    truth = link_peaks_to_genes(mdata, **options, **values)
    raw = link_peaks_to_genes(mdata, **options)
    auroc = roc_auc_score(is_true(mdata, truth), truth["score"])
    assert auroc > 0.73
    assert auroc > roc_auc_score(is_true(mdata, raw), raw["score"]) + 0.05


def test_probability_ranks_true_links_above_the_score(mdata):
    values = {
        "expression": np.log(datasets.true_expression(mdata)),
        "accessibility": np.log(datasets.true_accessibility(mdata)),
    }
    table = link_peaks_to_genes(mdata, **values)
    true = is_true(mdata, table)
    by_score = roc_auc_score(true, table["score"])
    assert roc_auc_score(true, table["probability"]) > by_score + 0.03
    assert true[table["probability"] >= 0.8].mean() > true.mean() + 0.1
    assert true[table["probability"] < 0.5].mean() < 0.5 < true.mean()


def test_pls_is_that_of_scikit_learn(rng):
    x, noise = rng.normal(size=(80, 7)), rng.normal(size=80)
    x[:, 1] += x[:, 0]
    y = x @ rng.normal(size=7) + noise
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    for n_components in (1, 3, 7):
        expected = PLSRegression(n_components, scale=False).fit(x, y).coef_.ravel()
        found = pls_coefficients(x.T @ x / 80, x.T @ y / 80, n_components)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_lasso_from_cross_products_is_that_from_data(rng):
    from sklearn.linear_model import Lasso

    x = rng.normal(size=(90, 6))
    y = x[:, 0] - 0.5 * x[:, 3] + 0.3 * rng.normal(size=90)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    for penalty in (0.3, 0.05):
        expected = Lasso(penalty, fit_intercept=False, tol=1e-8).fit(x, y).coef_
        found = lasso_path(x.T @ x / 90, x.T @ y / 90, np.array([penalty]))[:, 0]
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_products_of_folds_add_up_to_all(rng):
    matrix = sp.random(60, 8, density=0.3, random_state=0, format="csr", dtype=np.float64)
    peaks = np.array([1, 4, 6])
    y = rng.normal(size=60).astype(np.float32)
    y -= y.mean()
    results = []
    for kind in (matrix, matrix.toarray()):
        design = Design(kind, 5, np.random.default_rng(0))
        dense = matrix.toarray()[:, peaks]
        standard = (dense - dense.mean(0)) / dense.std(0)
        np.testing.assert_allclose(design.gram(peaks), standard.T @ standard / 60, atol=1e-8)
        folds = design.fold_products(peaks, y)
        np.testing.assert_allclose(sum(f[1] for f in folds) / 60, design.gram(peaks), atol=1e-8)
        np.testing.assert_allclose(sum(f[2] for f in folds), standard.T @ y, atol=1e-4)
        results.append(folds[0][1])
    np.testing.assert_allclose(results[0], results[1], atol=1e-8)


def test_p_values_are_uniform_without_links(mdata, rng):
    # Every feature is shuffled over the cells: nothing regulates anything.
    for name in ("rna", "atac"):
        dense = mdata[name].X.toarray()
        mdata[name].X = sp.csr_matrix(rng.permuted(dense, axis=0))
    values = {"accessibility": mdata["atac"].X, "expression": mdata["rna"].X}
    table = link_peaks_to_genes(mdata, **values)
    assert kstest(table["pvalue"], "uniform").statistic < 0.06
    assert (table["fdr"] <= 0.05).sum() <= 2
    assert (table["probability"] > 0.8).mean() < 0.02


def test_planted_links_are_found_at_the_false_discovery_rate(mdata, rng):
    rna, atac = mdata["rna"], mdata["atac"]
    links = datasets.simulated_links(mdata).drop_duplicates("gene")
    x = rng.normal(size=atac.shape)
    y = rng.normal(size=rna.shape)
    gene = rna.var_names.get_indexer(links["gene"])
    y[:, gene] += x[:, atac.var_names.get_indexer(links["peak"])]
    table = link_peaks_to_genes(mdata, expression=y, accessibility=x)
    planted = pd.MultiIndex.from_frame(links[["peak", "gene"]])
    true = pd.MultiIndex.from_frame(table[["peak", "gene"]]).isin(planted)
    called = (table["fdr"] <= 0.05).to_numpy()
    assert called[true].mean() > 0.95
    assert (~true[called]).mean() < 0.1


def test_null_is_matched_for_gc(mdata, rng):
    # Peaks rich in GC follow every gene: without GC the null is too narrow for them.
    n = mdata.n_obs
    shared = rng.normal(size=n)
    gc = np.where(np.arange(mdata["atac"].n_vars) % 4 == 0, 0.7, 0.4)
    x = rng.normal(size=mdata["atac"].shape) + np.outer(shared, gc > 0.5)
    y = rng.normal(size=mdata["rna"].shape) + shared[:, None]
    mdata["atac"].var["gc"] = gc
    values = {"expression": y, "accessibility": x}
    plain = link_peaks_to_genes(mdata, **values)
    matched = link_peaks_to_genes(mdata, gc_key="gc", **values)
    rich = plain["peak"].map(dict(zip(mdata["atac"].var_names, gc > 0.5, strict=True)))
    assert (plain.loc[rich, "pvalue"] < 0.2).mean() > 0.5
    assert (matched.loc[rich, "pvalue"] < 0.2).mean() < 0.35


def test_values_of_a_model_are_streamed_and_averaged(mdata, model):
    mdata.obs["group"] = np.arange(mdata.n_obs) % 20
    streamed = link_peaks_to_genes(mdata, model=model, metacells="group", n_permutations=0)
    arrays = {
        "expression": np.log1p(1e4 * model.values["rna"]),
        "accessibility": model.values["atac"],
    }
    given = link_peaks_to_genes(mdata, metacells="group", n_permutations=0, **arrays)
    np.testing.assert_allclose(streamed["score"], given["score"], atol=1e-4)
    assert model.largest <= 512
    assert len(link_peaks_to_genes(mdata, model=model, metacells=30)) == len(given)


def test_same_seed_same_result(mdata):
    one = link_peaks_to_genes(mdata, random_state=3)
    two = link_peaks_to_genes(mdata, random_state=np.random.default_rng(3))
    pd.testing.assert_frame_equal(one, two)
    assert not one["pvalue"].equals(link_peaks_to_genes(mdata, random_state=4)["pvalue"])


def test_result_survives_a_file(mdata, tmp_path):
    table = link_peaks_to_genes(mdata, genes=mdata["rna"].var_names[:40])
    assert set(table["gene"]) <= set(mdata["rna"].var_names[:40])
    mdata.write_h5mu(tmp_path / "linked.h5mu")
    again = mudata.read_h5mu(tmp_path / "linked.h5mu")
    pd.testing.assert_frame_equal(
        again.uns["peak_gene_links"], table, check_dtype=False, check_index_type=False
    )
    assert again.uns["atacvi"]["peak_gene_links"]["method"] == "correlation"


def test_annotation_by_strand_gives_the_same_tss(mdata):
    var = mdata["rna"].var
    annotation = pd.DataFrame(
        {"gene": var.index, "chrom": var["chrom"].to_numpy()}
        | {k: var[k].to_numpy() for k in ("start", "end", "strand")}
    )
    annotation["chrom"] = annotation["chrom"].str.removeprefix("chr")
    plain = link_peaks_to_genes(mdata, n_permutations=0)
    other = link_peaks_to_genes(mdata, annotation=annotation, n_permutations=0)
    pd.testing.assert_frame_equal(plain, other)


def test_what_does_not_fit_is_refused(mdata, model):
    with pytest.raises(ValueError, match="method='cosine'"):
        link_peaks_to_genes(mdata, method="cosine")
    with pytest.raises(ValueError, match="needs to know which cells are alike"):
        link_peaks_to_genes(mdata, metacells=20)
    with pytest.raises(KeyError, match="1 of 1 genes are not in"):
        link_peaks_to_genes(mdata, genes=["nobody"])
    with pytest.raises(ValueError, match=r"accessibility has shape \(300, 3\)"):
        link_peaks_to_genes(mdata, accessibility=np.zeros((300, 3)))
    with pytest.raises(ValueError, match="none of the 120 genes"):
        link_peaks_to_genes(mdata, annotation=pd.DataFrame({"chrom": ["chr1"], "tss": [5]}))
    with pytest.raises(KeyError, match="TSS of a gene is read"):
        link_peaks_to_genes(mdata, annotation=mdata["rna"].var[["chrom"]])
    with pytest.raises(ValueError, match="give one group a cell"):
        link_peaks_to_genes(mdata, metacells=[1, 2])
    far = mdata["rna"].var.assign(chrom="chrZ")
    with pytest.raises(ValueError, match="no peak lies within"):
        link_peaks_to_genes(mdata, annotation=far)
    one = mdata["rna"].var_names[mdata["rna"].var["chrom"] == "chr1"][:1]
    with pytest.raises(ValueError, match="no gene has a window elsewhere"):
        link_peaks_to_genes(mdata, genes=one, window=1_000_000)
    other = mudata.MuData({"rna": mdata["rna"], "atac": mdata["atac"][::-1].copy()})
    with pytest.raises(ValueError, match="another order"):
        link_peaks_to_genes(other)


def test_rare_peaks_and_genes_are_left_out(mdata):
    every = link_peaks_to_genes(mdata, n_permutations=0, min_cells=0)
    kept = link_peaks_to_genes(mdata, n_permutations=0, min_cells=60)
    n_cells = {
        name: pd.Series(np.asarray((mdata[name].X > 0).sum(axis=0)).ravel(), mdata[name].var_names)
        for name in ("rna", "atac")
    }
    enough = (n_cells["atac"].loc[every["peak"]].to_numpy() >= 60) & (
        n_cells["rna"].loc[every["gene"]].to_numpy() >= 60
    )
    assert 0 < enough.sum() < len(every)
    assert kept["peak"].tolist() == every.loc[enough, "peak"].tolist()
    np.testing.assert_allclose(kept["score"], every.loc[enough, "score"], atol=1e-6)
    with pytest.raises(ValueError, match="none has peak and gene in min_cells"):
        link_peaks_to_genes(mdata, min_cells=10_000)
