from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from atacvi.data import (
    check_categories,
    check_continuous,
    check_key,
    check_modalities,
    check_names,
    check_paired,
    get_matrix,
)


@pytest.mark.parametrize("axis", ["obs", "var"])
def test_duplicate_names_are_listed_with_the_fix(parts, axis):
    rna = parts["rna"]
    names = getattr(rna, f"{axis}_names").tolist()
    setattr(rna, f"{axis}_names", [names[1], *names[1:]])
    fix = rf"mdata\.{axis}_names_make_unique\(\)"
    with pytest.raises(ValueError, match=f"1 names of .*{names[1]}.*{fix}"):
        check_names(rna, 'mdata["rna"]')
    getattr(rna, f"{axis}_names_make_unique")()
    check_names(rna, 'mdata["rna"]')


def test_wrong_modality_lists_those_present(mdata):
    with pytest.raises(KeyError, match=r"'RNA' \(for 'rna_layer'\).*\['rna', 'atac'\].*mean 'rna'"):
        check_modalities(mdata, {"rna_layer": "RNA"})


def test_anndata_in_place_of_mudata(parts):
    with pytest.raises(TypeError, match="this is AnnData.*split_modalities"):
        check_modalities(parts["rna"], {"rna_layer": "rna"})


def test_another_order_is_told_from_other_cells(parts, make_mdata):
    check_paired(make_mdata(parts), ["rna", "atac"])
    shuffled = {"rna": parts["rna"], "atac": parts["atac"][::-1].copy()}
    with pytest.raises(
        ValueError, match=r"same 12 cells in another order: row 0 is 'cell0' .*align_obs\(mdata\)"
    ):
        check_paired(make_mdata(shuffled), ["rna", "atac"])
    fewer = {"rna": parts["rna"][2:].copy(), "atac": parts["atac"][:8].copy()}
    with pytest.raises(ValueError, match="different cells: 6 are shared, 4 only in 'rna'") as error:
        check_paired(make_mdata(fewer), ["rna", "atac"])
    assert (
        "'cell8', 'cell9', 'cell10', 'cell11'" in str(error.value)
        or "4 only" in error.value.args[0]
    )
    assert "align_obs(mdata, join='outer')" in error.value.args[0]


def test_order_of_the_mudata_itself_counts(parts, make_mdata):
    third = anndata.AnnData(np.ones((1, 1)), obs=pd.DataFrame(index=["other"]))
    third.var_names = ["protein"]
    mdata = make_mdata({"adt": third, **parts})
    with pytest.raises(ValueError, match=r"mdata\.obs_names \(13 cells\) are not those"):
        check_paired(mdata, ["rna", "atac"])


def test_missing_layer_lists_layers(parts):
    assert get_matrix(parts["rna"], "counts", "adata") is parts["rna"].layers["counts"]
    with pytest.raises(KeyError, match=r"rna_layer='count' is not in adata\.layers.*mean 'counts'"):
        get_matrix(parts["rna"], "count", "adata", "rna_layer")


def test_missing_key_says_where_it_was_searched_and_where_it_is(mdata):
    elsewhere = {'mdata["rna"]': mdata["rna"], 'mdata["atac"]': mdata["atac"]}
    options = {"argument": "batch_key", "elsewhere": elsewhere}
    assert len(check_key(mdata, "obs", "batch", "mdata", **options)) == 12
    with pytest.raises(KeyError, match=r"batch_key='Batch' is not in mdata\.obs.*mean 'batch'"):
        check_key(mdata, "obs", "Batch", "mdata", **options)
    with pytest.raises(KeyError) as error:
        check_key(mdata, "obs", "depth_rna", "mdata", **options)
    assert "modalities={..., 'batch_key': 'rna'}" in error.value.args[0]
    with pytest.raises(KeyError, match="leave .*batch_key.* out of modalities"):
        check_key(
            mdata["rna"],
            "obs",
            "batch",
            'mdata["rna"]',
            argument="batch_key",
            elsewhere={"mdata": mdata},
        )


def test_missing_categories_are_named_and_the_fix_works():
    column = pd.Series(pd.Categorical(["a", None, "b"]), index=["c0", "c1", "c2"])
    with pytest.raises(ValueError, match=r"1 of 3 cells \('c1'\).*fillna\('unknown'\)"):
        check_categories(column, 'adata.obs["batch"]')
    check_categories(column.astype(object).fillna("unknown"), 'adata.obs["batch"]')


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_covariates_must_be_finite(value):
    with pytest.raises(
        ValueError, match=rf"must be finite, but is {value} for 1 of 2 cells \('1'\)"
    ):
        check_continuous(pd.Series([0.0, value]), 'adata.obs["age"]')


def test_covariates_must_be_numbers():
    with pytest.raises(TypeError, match="not numbers.*to_numeric"):
        check_continuous(pd.Series(["1", "2"]), 'adata.obs["age"]')


def test_size_factors_must_be_positive():
    check_continuous(pd.Series([1, 0]), "x")
    check_continuous(pd.Series([1, 2], dtype="Int64"), "x", positive=True)
    with pytest.raises(ValueError, match="above 0"):
        check_continuous(pd.Series([1, 0]), "x", positive=True)


def test_categories_without_a_cell_are_told(caplog):
    column = pd.Series(pd.Categorical(["a", "b", "c", "a"]))
    check_categories(column, 'mdata.obs["batch"]')
    assert not caplog.records
    check_categories(column[[0, 1]], 'mdata.obs["batch"]')
    (message,) = caplog.messages
    assert "categories that no cell has (" in message
    assert "c" in message.split("(")[1]
    assert "remove_unused_categories()" in message
    check_categories(column[[0, 1]].cat.remove_unused_categories(), 'mdata.obs["batch"]')
    assert len(caplog.records) == 1
