from __future__ import annotations

import copy

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.data import align_obs, validate_anndata, validate_multiome


def test_good_data_pass_and_are_not_changed(mdata):
    before = copy.deepcopy(mdata["atac"].X)
    presence = validate_multiome(
        mdata,
        rna_layer="counts",
        batch_key="batch",
        labels_key="batch",
        size_factor_key="depth_rna",
        categorical_covariate_keys=["batch"],
        continuous_covariate_keys=["age"],
        modalities={"size_factor_key": "rna"},
    )
    assert presence.complete
    assert (before != mdata["atac"].X).nnz == 0
    assert mdata.obs.columns.tolist() == ["batch", "age"]


def test_modalities_by_other_names_and_in_any_order(parts, make_mdata):
    mdata = make_mdata({"peaks": parts["atac"], "gex": parts["rna"]})
    modalities = {"rna_layer": "gex", "atac_layer": "peaks"}
    assert validate_multiome(mdata, modalities=modalities).complete
    with pytest.raises(KeyError, match="'rna' .*which holds"):
        validate_multiome(mdata)


def test_extra_modality_of_the_same_cells_passes(parts, make_mdata):
    adt = anndata.AnnData(np.full((12, 1), -1.0), obs=pd.DataFrame(index=parts["rna"].obs_names))
    adt.var_names = ["protein"]
    assert validate_multiome(make_mdata({"adt": adt, **parts})).complete


def test_mapping_of_arguments_that_do_not_exist(mdata):
    with pytest.raises(ValueError, match="names 'rna', which is no argument.*rna_layer"):
        validate_multiome(mdata, modalities={"rna": "rna"})
    with pytest.raises(ValueError, match="both point to the modality 'rna'"):
        validate_multiome(mdata, modalities={"atac_layer": "rna"})


@pytest.mark.parametrize("modality", ["rna", "atac"])
@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan])
def test_bad_values_in_either_modality(parts, make_mdata, modality, value):
    parts[modality].X.data[3] = value
    with pytest.raises(ValueError, match=rf'mdata\["{modality}"\]\.X holds 1 '):
        validate_multiome(make_mdata(parts))


def test_slow_rows_are_warned_about(parts, make_mdata, caplog):
    parts["atac"].X = sp.csc_matrix(parts["atac"].X)
    with caplog.at_level("WARNING", logger="atacvi.data"):
        validate_multiome(make_mdata(parts))
    assert "csc_matrix" in caplog.text
    assert "to_csr_matrix" in caplog.text


def test_bad_values_in_a_layer(parts, make_mdata):
    parts["rna"].layers["counts"].data[0] = np.inf
    mdata = make_mdata(parts)
    assert validate_multiome(mdata).complete
    with pytest.raises(ValueError, match=r'mdata\["rna"\]\.layers\["counts"\] holds 1 NaN'):
        validate_multiome(mdata, rna_layer="counts")


def test_csr_array_is_refused(parts, make_mdata):
    parts["atac"].X = sp.csr_array(parts["atac"].X)
    with pytest.raises(TypeError, match=r'mdata\["atac"\]\.X is a scipy csr_array'):
        validate_multiome(make_mdata(parts))


def test_mispaired_cells_are_refused_and_repaired(parts, make_mdata):
    parts["atac"] = parts["atac"][::-1].copy()
    mdata = make_mdata(parts)
    with pytest.raises(ValueError, match="another order"):
        validate_multiome(mdata)
    assert validate_multiome(align_obs(mdata)).complete


def test_mispaired_modality_of_a_key_is_refused(parts, make_mdata):
    adt = anndata.AnnData(np.ones((12, 1)), obs=pd.DataFrame(index=parts["rna"].obs_names[::-1]))
    adt.obs["lane"] = "1"
    adt.var_names = ["protein"]
    mdata = make_mdata({**parts, "adt": adt})
    with pytest.raises(ValueError, match="'rna' and 'adt' hold the same 12 cells in another order"):
        validate_multiome(mdata, batch_key="lane", modalities={"batch_key": "adt"})


def test_duplicate_names_are_refused(parts, make_mdata):
    parts["atac"].var_names = ["chr1:1-5", *parts["atac"].var_names[1:-1], "chr1:1-5"]
    with pytest.raises(ValueError, match=r'"atac"\]\.var_names: \'chr1:1-5\''):
        validate_multiome(make_mdata(parts))


def test_empty_cells_are_missing_only_where_that_is_allowed(parts, make_mdata):
    parts["atac"].X[2] = 0
    mdata = make_mdata(parts)
    with pytest.raises(ValueError, match=r"\('cell2'\).*allow_missing=True"):
        validate_multiome(mdata)
    presence = validate_multiome(mdata, allow_missing=True)
    assert np.flatnonzero(~presence.atac).tolist() == [2]
    assert presence.rna.all()
    assert not presence.complete


def test_cells_without_any_count_are_always_refused(parts, make_mdata):
    for part in parts.values():
        part.X[2] = 0
    with pytest.raises(ValueError, match="1 of 12 cells .*'cell2'.* any of the modalities"):
        validate_multiome(make_mdata(parts), allow_missing=True)


def test_empty_features_are_refused_in_a_reference_only(parts, make_mdata):
    parts["rna"].X[:, 1] = 0
    mdata = make_mdata(parts)
    with pytest.raises(ValueError, match=r"'gene1'.*filter_features"):
        validate_multiome(mdata)
    assert validate_multiome(mdata, allow_empty_features=True).complete


@pytest.mark.parametrize(
    ("argument", "key", "error"),
    [
        ("batch_key", "lane", KeyError),
        ("batch_key", "partial", ValueError),
        ("labels_key", "partial", ValueError),
        ("categorical_covariate_keys", ["batch", "partial"], ValueError),
        ("continuous_covariate_keys", ["partial"], ValueError),
        ("continuous_covariate_keys", ["batch"], TypeError),
        ("continuous_covariate_keys", "age", TypeError),
        ("size_factor_key", "age", ValueError),
    ],
)
def test_bad_keys(parts, make_mdata, argument, key, error):
    mdata = make_mdata(parts, partial=[np.nan, *range(11)])
    with pytest.raises(error, match=argument if error is KeyError else "mdata|list"):
        validate_multiome(mdata, **{argument: key})
    with pytest.raises(error):
        validate_anndata(
            anndata.AnnData(parts["rna"].X, obs=mdata.obs, var=parts["rna"].var), **{argument: key}
        )


def test_anndata(parts):
    presence = validate_anndata(parts["atac"], layer="counts", size_factor_key="depth_atac")
    assert presence.cells.all()
    assert presence.features.all()


def test_mudata_in_place_of_anndata(mdata):
    with pytest.raises(TypeError, match="this is MuData.*setup_mudata"):
        validate_anndata(mdata)


def test_no_cells(parts):
    with pytest.raises(ValueError, match="0 cells"):
        validate_anndata(parts["rna"][:0].copy())


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n_empty_peaks"),
    [
        ("scicar_a549.h5mu", 0),
        ("snareseq_adult_mouse_cortex.h5mu", 990),
        ("pbmc10k_multiome_40cells_fullgenome.h5mu", 41893),
    ],
)
def test_real_data(real_file, name, n_empty_peaks):
    import mudata

    mdata = mudata.read_h5mu(real_file(name))
    if n_empty_peaks:
        with pytest.raises(ValueError, match=r"features \(.*filter_features"):
            validate_multiome(mdata, labels_key="cell_type")
    presence = validate_multiome(mdata, labels_key="cell_type", allow_empty_features=True)
    assert presence.complete
    backed = mudata.read_h5mu(real_file(name), backed="r")
    found = validate_anndata(backed["atac"], allow_empty_features=True)
    assert (~found.features).sum() == n_empty_peaks
    backed.file.close()
