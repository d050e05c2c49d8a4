from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from atacvi.data import project_regions


def random_regions(rng, n):
    start = rng.integers(0, 200, n)
    end = start + rng.integers(1, 40, n)
    chrom = rng.choice(["chr1", "chr2"], n)
    return list(zip(chrom.tolist(), start.tolist(), end.tolist(), strict=True))


def brute_force(counts, query, reference, assign, reduce):
    out = np.zeros((len(counts), len(reference)))
    for i, (cq, sq, eq) in enumerate(query):
        lengths = [min(eq, er) - max(sq, sr) if cq == cr else 0 for cr, sr, er in reference]
        hits = [j for j, length in enumerate(lengths) if length > 0]
        if assign == "best" and hits:
            hits = [max(hits, key=lambda j: (lengths[j], -j))]
        for j in hits:
            if reduce == "sum":
                out[:, j] += counts[:, i]
            else:
                out[:, j] = np.maximum(out[:, j], counts[:, i])
    return out


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["best", "all"]),
    st.sampled_from(["sum", "max"]),
    st.sampled_from(["csr", "csc", "dense"]),
    st.sampled_from([np.int32, np.float32, bool]),
)
def test_projection_equals_brute_force(seed, assign, reduce, kind, dtype):
    rng = np.random.default_rng(seed)
    query, reference = random_regions(rng, 15), random_regions(rng, 10)
    counts = rng.poisson(0.7, (4, 15)).astype(dtype)
    adata = anndata.AnnData(
        {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}[kind](counts),
        var=pd.DataFrame(query, columns=["chrom", "start", "end"], index=map(str, range(15))),
    )
    names = [f"{c}:{s}-{e}" for c, s, e in reference]
    out = project_regions(adata, names, assign=assign, reduce=reduce, min_share=0)
    assert isinstance(out.X, sp.csr_matrix)
    expected = brute_force(counts.astype(float), query, reference, assign, reduce)
    assert out.X.toarray().tolist() == expected.tolist()
    assert out.var_names.tolist() == names


def test_report_and_slots(parts, caplog):
    atac = parts["atac"]
    reference = ["chr1:90-160", "chr1:210-460", "chr2:0-9", "chr1:880-890"]
    with caplog.at_level("INFO", logger="atacvi"):
        out = project_regions(atac, reference, layer="counts")
    kept = atac.X.toarray()[:, [0, 1, 2, 3, 7]].sum() / atac.X.sum()
    report = out.uns["atacvi"]["projection"]
    assert report["share_peaks"] == pytest.approx(4 / 9)
    assert report["share_counts"] == pytest.approx(
        atac.X.toarray()[:, [0, 1, 2, 3]].sum() / atac.X.sum()
    )
    assert kept >= report["share_counts"]
    assert report["share_covered"] == 0.5
    assert "query peaks" in caplog.text
    assert out.obs.equals(atac.obs)
    assert (out.obsm["X_pca"] == atac.obsm["X_pca"]).all()


def test_projection_onto_itself_changes_nothing(parts):
    out = project_regions(parts["atac"], parts["atac"])
    assert (out.X != parts["atac"].X).nnz == 0
    assert out.var.equals(parts["atac"].var)


def test_foreign_peaks_are_refused(parts):
    with pytest.raises(ValueError, match="written in two ways"):
        project_regions(parts["atac"], ["1:100-150"])
    with pytest.raises(ValueError, match="only 0 of 9.*another genome build"):
        project_regions(parts["atac"], ["chr1:5000-6000"])
    with pytest.raises(ValueError, match="5 of 5 names are not regions: 'gene0'"):
        project_regions(parts["rna"], parts["atac"])
    with pytest.raises(ValueError, match="reduce='mean'"):
        project_regions(parts["atac"], parts["atac"], reduce="mean")


@pytest.mark.real_data
def test_real_peaks(real_file):
    import mudata

    pbmc = mudata.read_h5mu(real_file("pbmc10k_multiome_40cells_fullgenome.h5mu"))["atac"]
    a549 = mudata.read_h5mu(real_file("scicar_a549.h5mu"))["atac"]
    snare = mudata.read_h5mu(real_file("snareseq_adult_mouse_cortex.h5mu"))["atac"]
    # peaks of one genome, moved by less than their width, find their place
    shifted = pbmc.copy()
    shifted.var[["start", "end"]] += 100
    out = project_regions(shifted, pbmc)
    assert out.uns["atacvi"]["projection"]["share_counts"] > 0.999
    assert out.X.sum() == pytest.approx(pbmc.X.sum(), rel=1e-3)
    # a chosen set of peaks of the same build, of other cells: few shared, but not by chance
    bmmc = anndata.read_h5ad(real_file("hematopoiesis_granja2019_bmmc.h5ad"))
    assert 0.1 < project_regions(bmmc, a549).uns["atacvi"]["projection"]["share_peaks"] < 0.2
    # hg19 onto hg38 and mm10 onto hg38 overlap by chance only
    for foreign in (a549, snare, bmmc):
        with pytest.raises(ValueError, match="another genome build or species"):
            project_regions(foreign, pbmc)
