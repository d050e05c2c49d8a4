from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.data import align_obs, validate_multiome


@pytest.fixture
def unpaired(parts, make_mdata):
    """RNA of cells 0..7, ATAC of cells 11..4."""
    return make_mdata({"rna": parts["rna"][:8].copy(), "atac": parts["atac"][11:3:-1].copy()})


def rows(adata, cells):
    return adata[cells].X.toarray()


def test_inner_keeps_shared_cells_in_the_first_order(unpaired, parts):
    shape, names = unpaired.shape, unpaired["atac"].obs_names.tolist()
    aligned = align_obs(unpaired)
    cells = ["cell4", "cell5", "cell6", "cell7"]
    assert aligned.obs_names.tolist() == cells
    for name in ("rna", "atac"):
        part = aligned[name]
        assert part.obs_names.tolist() == cells
        assert (part.X.toarray() == rows(parts[name], cells)).all()
        assert (part.layers["counts"].toarray() == rows(parts[name], cells)).all()
        assert (part.obsm["X_pca"] == parts[name][cells].obsm["X_pca"]).all()
        assert (
            part.obs[f"depth_{name}"].tolist() == parts[name][cells].obs[f"depth_{name}"].tolist()
        )
        assert aligned.obs[f"has_{name}"].all()
    assert aligned.obs["age"].tolist() == unpaired.obs.loc[cells, "age"].tolist()
    assert aligned.obs["batch"].dtype == "category"
    # the input is as it was
    assert unpaired.shape == shape
    assert unpaired["atac"].obs_names.tolist() == names
    assert "has_rna" not in unpaired.obs


def test_outer_makes_mosaic_data(unpaired, parts):
    aligned = align_obs(unpaired, join="outer")
    assert aligned.obs_names.tolist() == [*(f"cell{i}" for i in range(8)), *_late_cells()]
    assert validate_multiome(aligned, allow_missing=True, batch_key="batch").rna.tolist() == (
        aligned.obs["has_rna"].tolist()
    )
    for name in ("rna", "atac"):
        part, has = aligned[name], aligned.obs[f"has_{name}"].to_numpy()
        assert isinstance(part.X, sp.csr_matrix)
        assert part.X.dtype == parts[name].X.dtype
        cells = aligned.obs_names[has].tolist()
        assert (part.X.toarray()[has] == rows(parts[name], cells)).all()
        assert part.X[~has].nnz == 0
        assert part.layers["counts"][~has].nnz == 0
        assert np.isnan(part.obsm["X_pca"][~has]).all()
        assert (part.obsm["X_pca"][has] == parts[name][cells].obsm["X_pca"]).all()
        assert part.obs[f"depth_{name}"].isna().tolist() == (~has).tolist()
        assert part.var.equals(parts[name].var)
    assert aligned.obs["has_atac"].sum() == 8


def _late_cells():
    return ["cell11", "cell10", "cell9", "cell8"]


def test_dense_and_tables_are_aligned_as_well(parts, make_mdata):
    parts["rna"].X = parts["rna"].X.toarray()
    parts["rna"].obsm["table"] = pd.DataFrame({"a": range(12)}, index=parts["rna"].obs_names)
    aligned = align_obs(
        make_mdata({"rna": parts["rna"][:8].copy(), "atac": parts["atac"]}), join="outer"
    )
    assert (aligned["rna"].X[8:] == 0).all()
    assert aligned["rna"].obsm["table"]["a"].isna().sum() == 4


def test_slots_of_the_mudata_itself_follow(unpaired):
    unpaired.obsm["X_joint"] = np.arange(unpaired.n_obs)[:, None]
    unpaired.uns["note"] = "kept"
    aligned = align_obs(unpaired)
    expected = unpaired.obs_names.get_indexer(aligned.obs_names)
    assert aligned.obsm["X_joint"].ravel().tolist() == expected.tolist()
    assert aligned.uns["note"] == "kept"


def test_chosen_modalities(unpaired, parts):
    aligned = align_obs(unpaired, ["atac", "rna"])
    assert aligned.obs_names.tolist() == ["cell7", "cell6", "cell5", "cell4"]
    assert list(align_obs(unpaired, ["rna"]).mod) == ["rna"]


def test_no_shared_cell(parts, make_mdata):
    parts["atac"].obs_names = [f"{name}-1" for name in parts["atac"].obs_names]
    mdata = make_mdata(parts)
    with pytest.raises(ValueError, match="share no cell.*'cell0-1'.*join='outer'"):
        align_obs(mdata)
    assert align_obs(mdata, join="outer").n_obs == 24


def test_bad_arguments(unpaired):
    with pytest.raises(ValueError, match="join='left'"):
        align_obs(unpaired, join="left")
    with pytest.raises(KeyError, match="'peaks'"):
        align_obs(unpaired, ["rna", "peaks"])


def test_duplicate_cells_are_refused(parts, make_mdata):
    mdata = make_mdata(parts)
    parts["rna"].obs_names = ["cell0", "cell0", *parts["rna"].obs_names[2:]]
    with pytest.raises(ValueError, match="cell0"):
        align_obs(mdata)


def test_aligning_again_keeps_what_was_missing(unpaired):
    mosaic = align_obs(unpaired, join="outer")
    for join in ("inner", "outer"):
        again = align_obs(mosaic, join=join)
        for name in ("rna", "atac"):
            assert again.obs[f"has_{name}"].tolist() == mosaic.obs[f"has_{name}"].tolist()


def test_mosaic_data_can_be_written(unpaired, tmp_path):
    import mudata

    unpaired["rna"].obs["flag"] = True
    unpaired["rna"].obs["count"] = 1
    unpaired["rna"].obs["text"] = "a"
    mosaic = align_obs(unpaired, join="outer")
    mosaic.write_h5mu(tmp_path / "mosaic.h5mu")
    back = mudata.read_h5mu(tmp_path / "mosaic.h5mu")
    assert back["rna"].obs["flag"].isna().sum() == 4
    assert back.obs["has_rna"].tolist() == mosaic.obs["has_rna"].tolist()


def test_result_shares_nothing_with_the_input(unpaired):
    unpaired.uns["settings"] = {"a": 1}
    for join in ("inner", "outer"):
        aligned = align_obs(unpaired, join=join)
        aligned.uns["settings"]["a"] = 2
        aligned["rna"].X.data[:] = 0
        aligned["rna"].var["score"] = -1
    assert unpaired.uns["settings"] == {"a": 1}
    assert unpaired["rna"].X.sum() > 0
    assert (unpaired["rna"].var["score"] >= 0).all()
