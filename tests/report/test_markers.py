from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.datasets import simulate_multiome
from atacvi.report import UNS_MARKERS, find_markers, impute_markers


@pytest.fixture(scope="module")
def mdata():
    return simulate_multiome(150, 80, 300, 3, random_state=0)


def test_markers_are_higher_in_their_cluster(mdata):
    table = find_markers(mdata, {}, "cell_type", n_markers=2)
    assert (table["log2_fold_change"] > 0).all()
    assert table["rank"].tolist() == [1, 2] * 6
    for row in table.itertuples():
        adata = mdata[row.modality]
        inside = (mdata.obs["cell_type"] == row.cluster).to_numpy()
        depth = np.asarray(adata.X.sum(axis=1)).ravel()
        values = adata[:, row.feature].X.toarray().ravel() / depth
        assert values[inside].mean() > values[~inside].mean()


def test_counts_are_left_as_they_are(mdata):
    before = {name: mdata[name].X.copy() for name in ("rna", "atac")}
    find_markers(mdata, {}, "cell_type")
    for name, matrix in before.items():
        assert (mdata[name].X != matrix).nnz == 0
        assert "rank_genes_groups" not in mdata[name].uns


def test_single_and_tiny_clusters_have_no_markers(mdata):
    copy = mdata.copy()
    copy.obs["one"] = "0"
    assert find_markers(copy, {}, "one").empty
    copy.obs["tiny"] = ["2"] * 2 + ["0"] * 70 + ["1"] * 78
    assert set(find_markers(copy, {}, "tiny")["cluster"]) == {"0", "1"}


class _Model:
    """Getters that, as the model's, keep the order of the data."""

    def get_normalized_expression(self, mdata, gene_list, library_size):
        names = [name for name in mdata["rna"].var_names if name in set(gene_list)]
        return pd.DataFrame(library_size, mdata.obs_names, names)

    def get_normalized_accessibility(self, mdata, region_list):
        names = [name for name in mdata["atac"].var_names if name in set(region_list)]
        return pd.DataFrame(0.5, mdata.obs_names, names)


def test_imputed_markers_survive_a_file(mdata, tmp_path):
    import mudata

    copy = mdata.copy()
    markers = find_markers(copy, {}, "cell_type", n_markers=2)
    impute_markers(_Model(), copy, markers)
    copy.write(tmp_path / "x.h5mu")
    again = mudata.read_h5mu(tmp_path / "x.h5mu")
    table = again["rna"].obsm["imputed_markers"]
    expected = markers.loc[markers["modality"] == "rna", "feature"].drop_duplicates()
    assert list(table.columns) == list(expected)
    assert list(table.index) == list(copy.obs_names)
    assert (table.to_numpy() == 1e4).all()
    read = again.uns["atacvi"][UNS_MARKERS]
    assert read["feature"].tolist() == markers["feature"].tolist()


def test_no_markers_impute_nothing(mdata):
    copy = mdata.copy()
    copy.obs["one"] = "0"
    impute_markers(_Model(), copy, find_markers(copy, {}, "one"))
    assert "imputed_markers" not in copy["rna"].obsm
