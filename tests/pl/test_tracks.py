from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.pl import tracks


class Imputed:
    def __init__(self, adata):
        self.adata, self.asked = adata, []

    def get_normalized_accessibility(self, indices, region_list, return_numpy):
        assert return_numpy
        self.asked.append(list(region_list))
        return np.full((len(indices), len(region_list)), 0.5)


@pytest.fixture
def adata(rng):
    counts = rng.poisson(1.0, (30, 5)).astype(np.float32) + 1
    names = [f"chr1:{s}-{s + 500}" for s in (0, 2000, 4000, 90_000)] + ["chr2:0-500"]
    adata = anndata.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=names))
    adata.obs["type"] = pd.Categorical(np.repeat(["a", "b", "c"], 10))
    return adata


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


def test_bars_are_the_means_of_the_groups(adata, tmp_path):
    axes = tracks(adata, "chr1:0-10,000", "type")
    shares = adata.X.toarray() / adata.X.toarray().sum(1, keepdims=True) * 1e4
    assert len(axes) == 3
    for k, ax in enumerate(axes):
        np.testing.assert_allclose(heights(ax), shares[10 * k : 10 * k + 10, :3].mean(0), rtol=1e-5)
    assert len({ax.get_ylim() for ax in axes}) == 1
    axes[0].figure.savefig(tmp_path / "tracks.png")
    plain = tracks(adata, "chr1:0-10,000", "type", normalize=False, groups=["c", "a"])
    assert [ax.get_ylabel() for ax in plain] == ["c", "a"]
    np.testing.assert_allclose(heights(plain[0]), adata.X.toarray()[20:, :3].mean(0))
    dense = tracks(adata, "chr1:0-10,000", "type", values=adata.X.toarray(), groups=["c", "a"])
    np.testing.assert_allclose(heights(dense[0]), heights(plain[0]))


def test_a_model_is_asked_for_the_locus_only(adata):
    model = Imputed(adata)
    axes = tracks(adata, "chr1:0-10000", "type", values=model)
    assert heights(axes[1]) == pytest.approx([0.5] * 3)
    assert set(map(tuple, model.asked)) == {tuple(adata.var_names[:3])}
    assert "imputed" in axes[0].get_title(loc="left")


def test_genes_are_drawn_below(adata):
    genes = pd.DataFrame(
        {"chrom": ["1"], "start": [100], "end": [900], "strand": ["-"]}, index=["A"]
    )
    axes = tracks(adata, "chr1:0-10000", "type", genes=genes)
    assert len(axes) == 4
    assert [text.get_text() for text in axes[-1].texts if text.get_text()] == ["A"]
    assert "chr1" in axes[-1].get_xlabel()


def test_what_does_not_fit_is_refused(adata):
    with pytest.raises(ValueError, match="no region of the data lies"):
        tracks(adata, "chr3:0-100", "type")
    with pytest.raises(KeyError, match="groups \\['z'\\]"):
        tracks(adata, "chr1:0-10000", "type", groups=["z"])
    with pytest.raises(ValueError, match="0 Axes for 3 groups"):
        tracks(adata, "chr1:0-10000", "type", axes=[])
