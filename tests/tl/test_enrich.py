"""Enrichment of planted sets, and its matching."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from atacvi.regions import parse_regions, write_bed
from atacvi.tl import enrich, link_peaks_to_genes


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
    near = np.exp(-links["distance"].abs() / 3000)
    links["fdr"] = np.where(rng.random(len(links)) < 0.5 * near, 0.01, 1.0)
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
