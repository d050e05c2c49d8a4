"""Enrichment, gene activity, scores of region sets, projection."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.regions import parse_regions, write_bed
from atacvi.tl import (
    enrich,
    gene_activity,
    link_peaks_to_genes,
    project_regions,
    score_regions,
)


@pytest.fixture
def background(rng):
    """1,000 regions; accessible ones are more often in the annotation of every fifth region."""
    start = np.arange(1000) * 10_000
    width = np.where(np.arange(1000) % 2 == 0, 200, 900)
    names = [f"chr1:{s}-{s + w}" for s, w in zip(start, width, strict=True)]
    return pd.DataFrame({"accessibility": rng.random(1000)}, index=names)


def test_enrichment_of_a_planted_set(background, rng, tmp_path):
    hits = background.index[rng.random(1000) < 0.2]
    chosen = [*hits[:60], *background.index.difference(hits)[:60]]
    path = tmp_path / "marks.bed.gz"
    write_bed(parse_regions(list(hits)), path)
    row = enrich(chosen, path, background).iloc[0]
    assert row["annotation"] == "marks"
    assert row["observed"] == 0.5
    left = background.index.difference(chosen)
    assert row["expected"] == pytest.approx(left.isin(hits).mean(), abs=0.02)
    assert row["low"] < row["fold"] < row["high"]
    assert row["fold"] == pytest.approx(row["observed"] / row["expected"])
    assert row["pvalue"] < 0.01


def test_what_matches_explains_the_enrichment_away(background, rng):
    # The annotation follows accessibility alone, and the chosen regions are accessible ones.
    share = background["accessibility"].to_numpy()
    hits = background.index[rng.random(1000) < share**2]
    chosen = background.index[rng.random(1000) < share**2 / 2]
    matched = enrich(chosen, list(hits), background).iloc[0]
    unmatched = enrich(chosen, list(hits), background, match=["width"]).iloc[0]
    assert unmatched["fold"] > 1.5
    assert matched["low"] < 1 < matched["high"]


def test_null_regions_are_not_enriched(background, rng):
    annotation = {f"a{i}": list(background.index[rng.random(1000) < 0.3]) for i in range(20)}
    table = enrich(background.index[rng.random(1000) < 0.1], annotation, background)
    assert list(table["annotation"]) == list(annotation)
    assert (table["fdr"] > 0.05).mean() > 0.8
    assert (table["low"].lt(1) & table["high"].gt(1)).mean() > 0.8


def test_links_are_matched_by_their_own_distance(mdata, tmp_path):
    links = link_peaks_to_genes(mdata, n_permutations=0)
    # Called by distance alone: near pairs, in promoters more often; nothing is left when matched.
    rng = np.random.default_rng(0)
    near = np.exp(-links["distance"].abs() / 20_000)
    links["fdr"] = np.where(rng.random(len(links)) < 0.3 * near, 0.01, 1.0)
    links["score"] = 1.0
    atac = mdata["atac"]
    promoters = list(atac.var_names[atac.var["promoter"]])
    plain = enrich(links, promoters, atac, match=["accessibility", "width"]).iloc[0]
    matched = enrich(links, promoters, atac).iloc[0]
    assert plain["fold"] > 1.5
    assert abs(np.log(matched["fold"])) < abs(np.log(plain["fold"])) / 2
    atac.write_h5ad(tmp_path / "enriched.h5ad")
    again = anndata.read_h5ad(tmp_path / "enriched.h5ad").uns["region_enrichment"]
    assert again["fold"].item() == pytest.approx(matched["fold"])


def test_distance_to_the_nearest_tss_is_matched(background):
    genes = pd.DataFrame({"gene": ["A"], "chrom": ["chr1"], "tss": [5_000_000]})
    chosen = background.index[480:520:2]
    promoters = {"near": background.index[470:530]}
    plain = enrich(chosen, promoters, background).iloc[0]
    options = {"match": ["distance"], "genes": genes, "n_matches": 20}
    matched = enrich(chosen, promoters, background, **options).iloc[0]
    assert plain["expected"] < 0.1
    assert matched["expected"] > 0.3


def test_enrichment_refuses_what_does_not_fit(background):
    with pytest.raises(KeyError, match="1 regions are not in the background"):
        enrich(["chr9:1-5"], ["chr1:1-5"], background)
    with pytest.raises(ValueError, match="0 of 1000 regions were chosen"):
        enrich([], ["chr1:1-5"], background)
    with pytest.raises(KeyError, match="match has 'gc'"):
        enrich(background.index[:5], ["chr1:1-5"], background, match=["gc"])
    with pytest.raises(KeyError, match="lacks the columns"):
        enrich(pd.DataFrame({"peak": background.index[:5]}), ["chr1:1-5"], background)


def brute_force_activity(counts, peaks, genes, upstream, decay, window):
    out = np.zeros((counts.shape[0], len(genes)))
    for g, gene in enumerate(genes.itertuples()):
        low = gene.start - (upstream if gene.strand == "+" else 0)
        high = gene.end + (upstream if gene.strand == "-" else 0)
        for p, peak in enumerate(peaks.itertuples()):
            if peak.chrom != gene.chrom:
                continue
            gap = max(low - peak.end, peak.start - high, 0)
            touches = peak.start < high and peak.end > low
            if decay is None:
                weight = float(touches)
            else:
                inside = peak.start < high + window and peak.end > low - window
                weight = np.exp(-gap / decay) * inside
            out[:, g] += counts[:, p] * weight
    return out


@pytest.mark.parametrize("decay", [None, 5000.0])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_activity_is_that_of_brute_force(mdata, decay, kind):
    atac, genes = mdata["atac"], mdata["rna"].var
    dense = atac.X.toarray()
    expected = brute_force_activity(dense, atac.var, genes, 2000, decay, 50_000)
    atac.X = kind(dense)
    found = gene_activity(mdata, genes, decay=decay, window=50_000)
    columns = genes.index.get_indexer(found.var_names)
    values = found.X.toarray() if sp.issparse(found.X) else found.X
    np.testing.assert_allclose(values, expected[:, columns], rtol=1e-4)
    assert not np.delete(expected, columns, axis=1).any()
    assert sp.issparse(found.X) == sp.issparse(atac.X)


def test_activity_can_be_written(mdata, tmp_path):
    found = gene_activity(mdata, mdata["rna"].var)
    found.write_h5ad(tmp_path / "activity.h5ad")
    assert anndata.read_h5ad(tmp_path / "activity.h5ad").shape == found.shape


def test_activity_refuses_what_does_not_fit(mdata):
    with pytest.raises(ValueError, match="decay=0"):
        gene_activity(mdata, mdata["rna"].var, decay=0)
    with pytest.raises(ValueError, match="no peak lies on or near"):
        gene_activity(mdata, mdata["rna"].var.assign(chrom="chrZ"))


def test_score_finds_the_cells_of_a_program(mdata, model):
    atac = mdata["atac"]
    name = atac.obs["cell_type"].cat.categories[0]
    markers = atac.var_names[atac.var["marker_of"] == name]
    mine = atac.obs["cell_type"] == name
    score_regions(mdata, markers, key_added="raw")
    score_regions(mdata, markers, key_added="model", values=model)
    score_regions(atac, markers, key_added="dense", values=model.values["atac"])
    for key in ("raw", "model"):
        score = atac.obs[key]
        assert score[mine].mean() > score[~mine].mean() + score[~mine].std()
    np.testing.assert_allclose(atac.obs["model"], atac.obs["dense"], rtol=1e-3, atol=1e-3)


def test_score_is_free_of_depth_and_of_accessibility(mdata, rng):
    atac = mdata["atac"]
    mean = np.asarray(atac.X.mean(axis=0)).ravel()
    top = atac.var_names[np.argsort(-mean)[:200]]
    chosen = rng.choice(np.asarray(top), 40, replace=False)
    score_regions(mdata, chosen, n_backgrounds=200)
    score = atac.obs["region_score"]
    assert abs(score.mean()) < 1
    depth = np.log(np.asarray(atac.X.sum(axis=1)).ravel())
    assert abs(np.corrcoef(score, depth)[0, 1]) < 0.25


def test_score_refuses_what_does_not_fit(mdata):
    with pytest.raises(KeyError, match="1 of 1 regions are not in the data"):
        score_regions(mdata, ["chr9:1-5"])
    with pytest.raises(ValueError, match="0 of 800 regions"):
        score_regions(mdata, [])


def test_projection_of_a_mudata_keeps_the_rest(mdata):
    mdata.obsm["X_latent"] = np.zeros((mdata.n_obs, 2))
    reference = mdata["atac"][:, ::2].copy()
    found = project_regions(mdata, reference)
    assert found["atac"].var_names.equals(reference.var_names)
    assert found["rna"] is mdata["rna"]
    assert found.obsm["X_latent"].shape == (mdata.n_obs, 2)
    pd.testing.assert_series_equal(found.obs["cell_type"], mdata.obs["cell_type"])
    assert (found["atac"].X != reference.X).nnz == 0
    alone = project_regions(mdata["atac"], mdata)
    assert alone.shape == mdata["atac"].shape
