from __future__ import annotations

import numpy as np
import pytest

from atacvi._compat import layer_names
from atacvi.data import align_obs, concat_modalities, feature_modalities, split_modalities


def test_concat_and_split_are_inverse(mdata):
    mdata.obsm["X_joint"] = np.ones((12, 2))
    joint = concat_modalities(mdata)
    assert joint.shape == (12, 14)
    assert {"batch", "age", "depth_rna", "depth_atac"} <= set(joint.obs)
    assert layer_names(joint) == ["counts"]
    back = split_modalities(joint)
    for name in ("rna", "atac"):
        assert (back[name].X != mdata[name].X).nnz == 0
        assert (back[name].layers["counts"] != mdata[name].layers["counts"]).nnz == 0
        assert back[name].var_names.tolist() == mdata[name].var_names.tolist()
    assert back.obs["batch"].tolist() == mdata.obs["batch"].tolist()
    assert back.obsm["X_joint"].shape == (12, 2)


def test_feature_types_of_10x_win(mdata):
    joint = concat_modalities(mdata)
    joint.var["feature_types"] = ["Gene Expression"] * 5 + ["Peaks"] * 8 + ["Antibody Capture"]
    masks = feature_modalities(joint)
    assert (masks["rna"].sum(), masks["atac"].sum()) == (5, 8)
    assert split_modalities(joint).n_vars == 13
    assert split_modalities(joint, by="modality").n_vars == 14


def test_missing_column_and_types(mdata):
    joint = concat_modalities(mdata)
    with pytest.raises(KeyError, match="by='kind' is not in adata.var"):
        split_modalities(joint, by="kind")
    joint.var["modality"] = "rna"
    with pytest.raises(ValueError, match="names no atac feature: it holds 'rna'"):
        split_modalities(joint)
    del joint.var["modality"]
    with pytest.raises(KeyError, match="feature_types"):
        split_modalities(joint)


def test_concat_refuses_unpaired_cells(parts, make_mdata):
    parts["atac"] = parts["atac"][:5].copy()
    mdata = make_mdata(parts)
    with pytest.raises(ValueError, match="different cells"):
        concat_modalities(mdata)
    assert concat_modalities(align_obs(mdata)).n_obs == 5


def test_concat_refuses_shared_feature_names(parts, make_mdata):
    parts["atac"].var_names = ["gene0", *parts["atac"].var_names[1:]]
    with pytest.warns(UserWarning, match="intersecting|not unique"):
        mdata = make_mdata(parts)
    with pytest.raises(ValueError, match="'gene0'"):
        concat_modalities(mdata)
