"""Gene activity against loops over peaks and genes."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.tl import gene_activity


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
