"""What a trained model gives, saves and maps, run for each way to build one."""

from __future__ import annotations

from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from .conformance.builders import (  # noqa: F401 (fixtures)
    BUILDERS,
    N_CELLS,
    N_EPOCHS,
    N_GENES,
    N_PEAKS,
    N_QUERY,
    QUIET,
    assert_same_weights,
    generative_case,
    one_thread,
    paired_case,
    setup_mudata,
    short_epochs,
    simulate,
    tokens_case,
    trained_case,
    weights,
)

# ---- getters --------------------------------------------------------------------------------


def test_shapes_and_twice_the_same(case):
    for getter, width in case.builder.family.getters.items():
        first = getattr(case.model, getter)()
        assert first.shape == (N_CELLS, width), getter
        values = np.asarray(first)
        assert values.dtype == np.float32, getter
        assert np.isfinite(values).all(), getter
        np.testing.assert_array_equal(values, np.asarray(getattr(case.model, getter)()))
        if isinstance(first, pd.DataFrame):
            assert list(first.index) == list(case.data.obs_names)


def test_indices_and_batch_size(case):
    chosen = np.array([7, 3, 99])
    for getter in case.builder.family.getters:
        get = getattr(case.model, getter)
        everything = np.asarray(get())
        np.testing.assert_allclose(
            np.asarray(get(indices=chosen)), everything[chosen], rtol=2e-4, atol=1e-5
        )
        np.testing.assert_allclose(np.asarray(get(batch_size=7)), everything, rtol=2e-4, atol=1e-5)
        with pytest.raises(IndexError, match=f"0 ... {N_CELLS - 1}"):
            get(indices=[N_CELLS])


@pytest.mark.parametrize("modality", ["joint", "rna", "atac"])
def test_latent_of_each_modality(paired, modality):
    case = paired
    mean, variance = case.model.get_latent_representation(modality=modality, return_dist=True)
    assert mean.shape == variance.shape == (N_CELLS, 5)
    assert (variance > 0).all()
    expression = case.model.get_normalized_expression(from_modality=modality)
    np.testing.assert_allclose(expression.sum(1), 1.0, rtol=1e-4)
    with pytest.raises(ValueError, match="choose one of joint, rna, atac"):
        case.model.get_latent_representation(modality="protein")


def test_probabilities_and_clusters(generative):
    table = generative.model.get_cluster_probabilities()
    np.testing.assert_allclose(table.sum(1), 1.0, rtol=1e-5)
    clusters = generative.model.predict_clusters()
    assert clusters.dtype == "category"
    assert (clusters.astype(str).to_numpy() == table.to_numpy().argmax(1).astype(str)).all()


def test_library_scales_the_means_exactly(generative):
    for getter in generative.builder.family.getters:
        if not getter.startswith("get_normalized"):
            continue
        get = getattr(generative.model, getter)
        one, many = get(library_size=1), get(library_size=1024)  # a power of two: exact
        np.testing.assert_array_equal(one * 1024, many)


def test_features_asked_for_equal_the_whole(generative):
    model = generative.model
    regions = list(model.region_names[[5, 100, 3]])
    whole = model.get_normalized_accessibility()
    part = model.get_normalized_accessibility(region_list=regions)
    assert list(part.columns) == regions
    np.testing.assert_allclose(part, whole[regions], rtol=1e-5)
    with pytest.raises(KeyError, match="'chrX:1-2'"):
        model.get_normalized_accessibility(region_list=["chrX:1-2"])


def test_genes_asked_for_equal_the_whole(paired):
    model = paired.model
    genes = list(model.gene_names[[4, 1]])
    pd.testing.assert_frame_equal(
        model.get_normalized_expression(gene_list=genes),
        model.get_normalized_expression()[genes],
    )


def test_sparse_and_zarr_output(generative, tmp_path):
    import zarr

    dense = generative.model.get_normalized_accessibility(return_numpy=True)
    threshold = float(np.median(dense))
    sparse = generative.model.get_normalized_accessibility(threshold=threshold)
    assert isinstance(sparse, sp.csr_matrix)
    np.testing.assert_allclose(sparse.toarray(), np.where(dense < threshold, 0, dense))
    path = generative.model.get_normalized_accessibility(
        output=tmp_path / "out.zarr", batch_size=50
    )
    np.testing.assert_allclose(zarr.open_array(str(path), mode="r")[:], dense, rtol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]
    with pytest.raises(ValueError, match="exists"):
        generative.model.get_normalized_accessibility(output=path)


def test_scores_do_not_depend_on_batches_and_order(generative):
    errors = []
    for batch_size in (8, 50):
        torch.manual_seed(0)
        terms = generative.model.get_reconstruction_error(batch_size=batch_size, return_mean=False)
        assert all(value.shape == (N_CELLS,) for value in terms.values())
        errors.append(terms)
    mean = generative.model.get_latent_representation()
    order = np.random.default_rng(0).permutation(N_CELLS)
    shuffled = generative.data[order].copy()
    np.testing.assert_allclose(
        generative.model.get_latent_representation(shuffled), mean[order], rtol=1e-4, atol=1e-5
    )
    assert float(generative.model.get_elbo()) < 0
    assert np.isfinite(generative.model.get_marginal_ll(n_mc_samples=3))


def test_loss_per_cell_does_not_depend_on_the_batch(generative):
    """At the posterior mean, each cell's terms are the same whichever cells stand beside it."""
    model, module = generative.model, generative.model.module
    found = []
    for batch_size in (N_CELLS, 7):
        terms = []
        for _, tensors in model._minibatches(model.adata, np.arange(N_CELLS), batch_size):
            with torch.inference_mode():
                out = module.inference(module.read_batch(tensors))
                out["z"] = out["qz"].loc
                generated = module.generative(**module._get_generative_input(tensors, out))
                losses = module.loss(tensors, out, generated)
            terms.append(sum([*losses.reconstruction_loss.values(), *losses.kl_local.values()]))
        found.append(torch.cat(terms))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-3)


def test_posterior_predictive_sample(generative):
    draws = generative.model.posterior_predictive_sample(n_samples=2, indices=[0, 5])
    atac = draws["atac"] if generative.builder.family.is_paired else draws
    assert [part.shape for part in atac] == [(2, N_PEAKS), (2, N_PEAKS)]
    assert atac[0].data.min(initial=1) >= 0
    assert (atac[0] != atac[1]).nnz > 0
    if generative.builder.family.is_paired:
        assert draws["rna"][0].shape == (2, N_GENES)


def test_comparisons(generative):
    options = {"idx1": np.arange(20), "idx2": np.arange(30, 60), "n_samples_overall": 50}
    assert len(generative.model.differential_accessibility(**options, silent=True)) == N_PEAKS
    if generative.builder.family.is_paired:
        assert len(generative.model.differential_expression(**options, silent=True)) == N_GENES


def test_an_untrained_model_is_refused(case):
    data = case.data.copy()
    case.builder.setup(data)
    model = case.builder.build(data)
    for getter in case.builder.family.getters:
        with pytest.raises(RuntimeError, match="[Tt]rain"):
            getattr(model, getter)()
    if case.builder.family.is_generative:
        with pytest.raises(RuntimeError, match="[Tt]rain"):
            model.differential_accessibility(idx1=[0])


# ---- saving, loading, queries ---------------------------------------------------------------


def test_save_and_load(case, tmp_path):
    case.model.save(str(tmp_path / "model"))
    loaded = case.builder.model.load(str(tmp_path / "model"), case.data.copy(), accelerator="cpu")
    assert_same_weights(case.model, loaded)
    for getter in case.builder.family.getters:
        np.testing.assert_array_equal(
            np.asarray(getattr(case.model, getter)()), np.asarray(getattr(loaded, getter)())
        )
    assert set(loaded.history) == set(case.model.history)


def test_load_without_data_and_use_on_new_data(case, tmp_path):
    case.model.save(str(tmp_path / "model"))
    loaded = case.builder.model.load(str(tmp_path / "model"), adata=False, accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(case.query.copy()),
        case.model.get_latent_representation(case.query.copy()),
    )


def test_save_with_data(case, tmp_path):
    case.model.save(str(tmp_path / "model"), save_anndata=True)
    loaded = case.builder.model.load(str(tmp_path / "model"), accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), case.model.get_latent_representation()
    )


def test_query_with_a_new_batch(generative):
    case, query = generative, generative.query.copy()
    query.obs["batch"] = "new"
    mapped = case.builder.model.load_query_data(query, case.model)
    mapped.train(1, **QUIET)
    assert mapped.get_latent_representation().shape == (N_QUERY, 5)
    name = case.builder.family.of_batches
    assert torch.equal(weights(mapped)[name][:, :2], weights(case.model)[name])


@pytest.mark.parametrize("from_folder", [False, True])
def test_query_of_a_model_without_batches(tokens, tmp_path, from_folder):
    """Nothing is to be learnt: the query lies where the reference would place it."""
    query, model = tokens.query.copy(), tokens.model
    query.obs["batch"] = "new"
    reference = model
    if from_folder:
        reference = tmp_path / "reference"
        model.save(str(reference))
    mapped = tokens.builder.model.load_query_data(query, reference, accelerator="cpu")
    assert mapped.is_trained
    expected = model.get_latent_representation(tokens.query)
    np.testing.assert_array_equal(mapped.get_latent_representation(), expected)
    prepared = tokens.builder.model.prepare_query_anndata(tokens.query, reference)
    np.testing.assert_array_equal(model.get_latent_representation(prepared), expected)
    assert sorted(mapped.history or {}) == []
    tokens.builder.fit(mapped, 1, task=None)
    assert len(mapped.history["train_loss"]) == 1


# ---- kinds of data --------------------------------------------------------------------------


def test_mosaic_data():
    """Cells that lack a modality take part, and lie where their other modality puts them."""
    data = simulate()[:N_CELLS].copy()
    for name, cells in (("rna", slice(0, 20)), ("atac", slice(20, 40))):
        counts = sp.lil_matrix(data[name].X)
        counts[cells] = 0
        data[name].X = sp.csr_matrix(counts)
    with pytest.raises(ValueError, match="allow_missing"):
        setup_mudata(data)
    seen = [np.asarray(data[m].X.sum(0)).ravel() > 0 for m in ("rna", "atac")]
    data = data[:, np.concatenate(seen)].copy()
    setup_mudata(data, allow_missing=True)
    model = BUILDERS[0].build(data)
    model.train(N_EPOCHS, batch_size=48, **QUIET)
    latent = model.get_latent_representation()
    np.testing.assert_allclose(
        latent[:20], model.get_latent_representation(modality="atac")[:20], atol=1e-6
    )
    np.testing.assert_allclose(
        latent[20:40], model.get_latent_representation(modality="rna")[20:40], atol=1e-6
    )
    errors = model.get_reconstruction_error(return_mean=False)
    assert (errors["reconstruction_rna"][:20] == 0).all()
    assert (errors["reconstruction_atac"][20:40] == 0).all()


def test_backed_anndata(tmp_path: Path):
    builder = next(b for b in BUILDERS if b.name == "atacdiff")
    builder.convert(simulate()[:N_CELLS].copy()).write(tmp_path / "data.h5ad")
    backed = anndata.read_h5ad(tmp_path / "data.h5ad", backed="r")
    model = builder.train(backed, 1)
    assert model.get_latent_representation().shape == (N_CELLS, 5)


def test_backed_file(tmp_path: Path):
    data = simulate()[:N_CELLS].copy()
    data.write(tmp_path / "data.h5mu")
    backed = mudata.read_h5mu(tmp_path / "data.h5mu", backed="r")
    model = BUILDERS[0].train(backed)
    assert model.get_latent_representation().shape == (N_CELLS, 5)
