"""Query data on a reference: new batches, foreign peaks, missing modalities."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from mudata import MuData

import atacvi
from atacvi.data import concat_modalities

from .conftest import QUIET, train

Model = atacvi.MultiViewModel


@pytest.fixture(scope="module")
def trained_query(model, all_cells):
    """A query model before and after training, with heavy weight decay."""
    cells = all_cells[160:].copy()
    cells.obs["batch"] = "new"
    reference = {k: v.clone() for k, v in model.module.state_dict().items()}
    mapped = Model.load_query_data(cells, model)
    before = {k: v.clone() for k, v in mapped.module.state_dict().items()}
    trained_before = mapped.is_trained
    mapped.train(2, batch_size=32, plan_kwargs={"weight_decay": 0.5}, **QUIET)
    return mapped, reference, before, trained_before


def test_only_the_new_columns_change_to_the_bit(trained_query):
    mapped, reference, _, trained_before = trained_query
    assert not trained_before
    assert mapped.is_trained
    changed = set()
    for name, value in mapped.module.state_dict().items():
        if name.endswith("covariates.weight"):
            n_old = reference[name].shape[1]
            assert value.shape[1] == n_old + 1
            assert torch.equal(value[:, :n_old], reference[name]), name
            if not torch.equal(value[:, n_old], reference[name].mean(1)):
                changed.add(name)
        else:
            assert torch.equal(value, reference[name]), name
    assert {"trunk.covariates.weight", "rna_head.covariates.weight"} <= changed


def test_reference_model_is_not_touched(model, trained_query):
    _, reference, _, _ = trained_query
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, reference[name]), name
    assert all(p.requires_grad for p in model.module.parameters())
    assert len(model.history["elbo_train"]) == 4
    assert len(trained_query[0].history["elbo_train"]) == 2


def test_new_column_starts_at_the_mean(trained_query):
    _, reference, before, _ = trained_query
    name = "trunk.covariates.weight"
    torch.testing.assert_close(before[name][:, -1], reference[name].mean(1))


def test_stages_do_not_run_again(model, trained_query):
    mapped = trained_query[0]
    assert bool(mapped.module.mixture_active)
    assert mapped.training_stages_ == {}
    assert "cycle_train" not in mapped.history
    assert torch.equal(mapped.module.prior.means, model.module.prior.means)


def test_query_is_saved_and_loaded(trained_query, tmp_path):
    mapped = trained_query[0]
    mapped.save(str(tmp_path / "query"))
    loaded = Model.load(str(tmp_path / "query"), mapped.adata, accelerator="cpu")
    latent = mapped.get_latent_representation()
    np.testing.assert_array_equal(latent, loaded.get_latent_representation())
    assert loaded.query_columns_ == mapped.query_columns_


def test_reference_from_a_folder(model, query, tmp_path):
    model.save(str(tmp_path / "reference"))
    mapped = Model.load_query_data(query, tmp_path / "reference")
    same = Model.load_query_data(query, model)
    for name, value in mapped.module.state_dict().items():
        assert torch.equal(value, same.module.state_dict()[name]), name


def test_known_batches_need_no_training(model, query, mdata):
    query.obs["batch"] = mdata.obs["batch"].iloc[0]
    mapped = Model.load_query_data(query, model)
    assert mapped.is_trained
    assert mapped.get_latent_representation().shape == (query.n_obs, 6)
    with pytest.raises(ValueError, match="nothing to learn"):
        mapped.train(1, **QUIET)


def test_latent_of_a_query_equals_that_of_the_reference(model, query, mdata):
    query.obs["batch"] = mdata.obs["batch"].iloc[0]
    mapped = Model.load_query_data(query, model)
    np.testing.assert_array_equal(
        mapped.get_latent_representation(), model.get_latent_representation(query)
    )


def test_new_category_of_a_covariate(mdata, query):
    reference = mdata.copy()
    for cells in (reference, query):
        cells.obs["sex"] = np.where(np.arange(cells.n_obs) % 2, "f", "m")
        cells.obs["age"] = np.linspace(0, 1, cells.n_obs)
    Model.setup_mudata(
        reference,
        batch_key="batch",
        categorical_covariate_keys=["sex"],
        continuous_covariate_keys=["age"],
    )
    model = train(reference, 1, encode_covariates=True)
    query.obs["sex"] = ["other"] * query.n_obs
    mapped = Model.load_query_data(query, model)
    assert mapped.query_columns_ == [2, 5]  # batches 0-2, sexes 3-5, age 6
    old = model.module.rna_encoder.covariates.weight
    new = mapped.module.rna_encoder.covariates.weight
    torch.testing.assert_close(new[:, [0, 1, 3, 4, 6]], old)
    mapped.train(1, **QUIET)
    torch.testing.assert_close(new[:, [0, 1, 3, 4, 6]], old, rtol=0, atol=0)


def test_reference_without_batches(mdata, query):
    reference = mdata.copy()
    reference.obs["batch"] = "only"
    Model.setup_mudata(reference, batch_key="batch")
    model = train(reference, 1)
    with pytest.raises(ValueError, match="single batch"):
        Model.load_query_data(query, model)
    query.obs["batch"] = "only"
    assert Model.load_query_data(query, model).is_trained


def test_untrained_reference(mdata, query):
    reference = mdata.copy()
    Model.setup_mudata(reference, batch_key="batch")
    with pytest.raises(ValueError, match="not trained"):
        Model.load_query_data(query, Model(reference, n_clusters=2))


def shift_peaks(mdata: MuData, shift: int) -> MuData:
    """The same cells with peaks a few bases off, in another order, without the last five."""
    peaks = mdata["atac"][:, ::-1][:, 5:].copy()
    for column in ("start", "end"):
        peaks.var[column] = peaks.var[column].to_numpy() + shift
    peaks.var_names = [
        f"{c}:{s}-{e}"
        for c, s, e in zip(peaks.var["chrom"], peaks.var["start"], peaks.var["end"], strict=True)
    ]
    genes = mdata["rna"][:, ::-1][:, 2:].copy()
    out = MuData({"rna": genes, "atac": peaks})
    out.obs["batch"] = mdata.obs["batch"].to_numpy()
    return out


def test_foreign_peaks_are_named_and_projected(model, query, mdata):
    foreign = shift_peaks(query, 7)
    foreign["rna"].obs_names = query["rna"].obs_names
    with pytest.raises(ValueError, match=r"holds 38 of the reference's 40 .*prepare_query_mudata"):
        Model.load_query_data(foreign, model)
    prepared = Model.prepare_query_mudata(foreign, model)
    for name in ("rna", "atac"):
        assert list(prepared[name].var_names) == list(mdata[name].var_names)
    assert prepared["rna"].X[:, :38].sum() == foreign["rna"].X.sum()
    # Peaks a few bases off fall onto those they came from
    there = query["atac"].X[:, :-5].toarray()
    assert (prepared["atac"].X[:, :-5].toarray() == there).mean() > 0.98
    assert list(prepared.obs["batch"]) == ["new"] * query.n_obs
    mapped = Model.load_query_data(prepared, model)
    mapped.train(1, **QUIET)
    assert np.isfinite(mapped.get_latent_representation()).all()


def test_features_in_another_order_by_name(model, query, mdata):
    mixed = MuData({name: query[name][:, ::-1].copy() for name in ("rna", "atac")})
    mixed.obs["batch"] = "new"
    with pytest.raises(ValueError, match="another order"):
        Model.load_query_data(mixed, model)
    prepared = Model.prepare_query_mudata(mixed, model)
    for name in ("rna", "atac"):
        assert (prepared[name].X != query[name].X).nnz == 0


def test_missing_modality(model, query):
    only = MuData({"rna": query["rna"].copy()})
    only.obs["batch"] = "new"
    with pytest.raises(ValueError, match="no modality 'atac'"):
        Model.load_query_data(only, model)
    prepared = Model.prepare_query_mudata(only, model)
    assert prepared["atac"].X.nnz == 0
    mapped = Model.load_query_data(prepared, model, allow_missing=True)
    mapped.train(1, **QUIET)
    joint = mapped.get_latent_representation()
    np.testing.assert_array_equal(joint, mapped.get_latent_representation(modality="rna"))
    from_rna = model.get_latent_representation(_with_batch(query, model), modality="rna")
    np.testing.assert_allclose(joint, from_rna, atol=1e-6)


def _with_batch(query: MuData, model: Model) -> MuData:
    known = query.copy()
    known.obs["batch"] = model.adata.obs["batch"].iloc[0]
    return known


def test_names_of_the_reference(model, query, mdata):
    names = Model.prepare_query_mudata(query, model, return_reference_var_names=True)
    assert list(names["atac"]) == list(mdata["atac"].var_names)


def test_no_shared_genes(model, query):
    query["rna"].var_names = [f"x{i}" for i in range(40)]
    with pytest.raises(ValueError, match="None of the reference's 40"):
        Model.prepare_query_mudata(query, model)


@pytest.fixture(scope="module")
def joint_model(mdata) -> Model:
    adata = concat_modalities(mdata)
    Model.setup_anndata(adata, batch_key="batch")
    return train(adata, 1)


def test_anndata_query(joint_model, query):
    adata = concat_modalities(query)
    mixed = adata[:, ::-1].copy()
    with pytest.raises(ValueError, match="prepare_query_anndata"):
        Model.load_query_data(mixed, joint_model)
    prepared = Model.prepare_query_anndata(mixed, joint_model)
    assert list(prepared.var_names) == list(adata.var_names)
    assert (sp.csr_matrix(prepared.X) != sp.csr_matrix(adata.X)).nnz == 0
    mapped = Model.load_query_data(prepared, joint_model)
    mapped.train(1, **QUIET)
    assert mapped.get_latent_representation().shape == (query.n_obs, 6)
    inplace = Model.load_query_data(mixed, joint_model, inplace_subset_query_vars=True)
    assert list(inplace.adata.var_names) == list(adata.var_names)


def test_wrong_kind_of_query(model, joint_model, query):
    adata = concat_modalities(query)
    with pytest.raises(TypeError, match="an AnnData, but the reference was trained on a MuData"):
        Model.load_query_data(adata, model)
    with pytest.raises(TypeError, match="prepare_query_mudata"):
        Model.prepare_query_anndata(adata, model)
    with pytest.raises(TypeError, match="prepare_query_anndata"):
        Model.prepare_query_mudata(query, joint_model)
    assert isinstance(adata, anndata.AnnData)
