"""Fine-tuning, annotation, regions, promoters, BED files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

from atacvi.metrics import knn_accuracy, tss_score
from atacvi.models import AtacformerModel
from atacvi.models._atacformer_bulk import cut_into_chunks

from .planted_tokens import N_REGIONS, QUIET, build, planted_cells


@pytest.fixture(scope="module")
def cells():
    cells = planted_cells()
    AtacformerModel.setup_anndata(cells, labels_key="module", batch_key="batch")
    return cells


@pytest.fixture(scope="module")
def model(cells):
    model = build(cells)
    model.pretrain(2, token_budget=800, **QUIET)
    return model


@pytest.fixture(scope="module")
def tuned(cells):
    model = build(cells)
    model.train(
        6, task="multi", pretrain_kwargs={"max_epochs": 1}, lr=3e-3, token_budget=400, **QUIET
    )
    return model


@pytest.fixture(scope="module")
def query():
    return planted_cells(60, seed=5, own=0.3)


# ---- fine-tuning ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "loss", "name"),
    [
        ("clustering", None, "contrastive_loss"),
        ("clustering", "triplet", "triplet_loss"),
        ("classification", "ce", "classification_loss"),
    ],
)
def test_tasks_lower_their_loss(cells, task, loss, name):
    learner = build(cells)
    learner.finetune(
        task, 8, loss=loss, lr=1e-2, token_budget=400, start="random", early_stopping=False, **QUIET
    )
    values = learner.history[f"{name}_train"].to_numpy(dtype=float).ravel()
    assert values[-1] < 0.9 * values[0]
    assert learner.task_ == task


def test_history_goes_on_with_the_terms_of_the_second_task(tuned):
    history = tuned.history
    assert history["train_loss"].index.tolist() == list(range(len(history["train_loss"])))
    assert len(history["context_gain_train"]) == 1
    first = history["accuracy_train"].index[0]
    assert first == 1
    assert {"contrastive_loss_train", "adversary_loss_train"} <= set(history)


def test_batch_adversary_needs_batches_and_trains_to_the_end(cells):
    learner = build(cells)
    learner.finetune("batch", 3, token_budget=400, **QUIET)
    assert len(learner.history["adversary_loss_train"]) == 3
    assert np.isfinite(learner.get_latent_representation()).all()


def test_batches_are_taken_out_of_the_latent_of_an_encoder_as_it_is(tmp_path):
    """Directions alone: what a linear model tells of batches falls, and they travel with the model."""
    from sklearn.linear_model import LogisticRegression

    # in batch b every cell also shows regions that no cell of the other batch shows
    shifted = planted_cells()
    second = (shifted.obs["batch"] == shifted.obs["batch"].iloc[0]).to_numpy()
    counts = shifted.X.toarray()
    counts[:, ::6] = second[:, None]
    shifted.X = sp.csr_matrix(counts)
    AtacformerModel.setup_anndata(shifted, labels_key="module", batch_key="batch")
    learner = build(shifted)
    learner.pretrain(0)
    before = learner.get_latent_representation()
    learner.finetune("batch", 0, token_budget=400, **QUIET)
    after = learner.get_latent_representation()
    directions = learner.latent_batch_directions_
    assert directions.shape == (1, after.shape[1])
    np.testing.assert_allclose(after @ directions.T, 0.0, atol=1e-5)
    told = [LogisticRegression().fit(z, second).score(z, second) for z in (before, after)]
    assert told[0] > 0.9
    assert told[1] < told[0] - 0.1
    learner.save_pretrained(tmp_path / "checkpoint")
    other = AtacformerModel.from_pretrained(tmp_path / "checkpoint")
    np.testing.assert_allclose(other.latent_batch_directions_, directions, atol=1e-7)
    # another space has directions of its own
    learner.pretrain(0)
    assert learner.latent_batch_directions_ is None


def test_a_head_on_the_encoder_as_it_is(cells, query):
    learner = build(cells)
    learner.pretrain(0)
    before = {k: v.clone() for k, v in learner.module.encoder.state_dict().items()}
    learner.finetune("classification", 0, **QUIET)
    after = learner.module.encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    found = learner.annotate(query, method="head")["label"].astype(str).to_numpy()
    assert (found == query.obs["module"].astype(str).to_numpy()).mean() > 0.9


@pytest.mark.parametrize(("n", "trained"), [(0, 0), (1, 1)])
def test_only_the_last_layers_are_trained(cells, n, trained):
    learner = build(cells, n_layers=2)
    learner.pretrain(1, **QUIET)
    before = {k: v.clone() for k, v in learner.module.state_dict().items()}
    options = {"token_budget": 400, "early_stopping": False}
    learner.finetune("clustering", 2, unfreeze_last_n=n, **options, **QUIET)
    after = learner.module.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    layers = {k.split(".")[2] for k in changed if "linear" in k or "self_attn" in k}
    assert layers == ({"1"} if trained else set())
    assert "embeddings.token_embeddings.weight" not in changed
    assert any("norm" in k for k in changed)
    assert all(p.requires_grad for p in learner.module.encoder.parameters())


def test_adapters_are_merged_at_the_end(cells):
    learner = build(cells)
    learner.pretrain(1, **QUIET)
    names = set(learner.module.state_dict())
    before = learner.module.encoder.layers[0].linear1.weight.clone()
    table = learner.module.embeddings.token_embeddings.weight.clone()
    learner.finetune("clustering", 2, lora_rank=2, token_budget=400, **QUIET)
    assert set(learner.module.state_dict()) == names
    assert not torch.equal(learner.module.encoder.layers[0].linear1.weight, before)
    assert torch.equal(learner.module.embeddings.token_embeddings.weight, table)


def test_tasks_that_the_data_do_not_allow(cells):
    plain = planted_cells(60)
    AtacformerModel.setup_anndata(plain)
    model = build(plain)
    single = planted_cells(60)
    single.obs["module"] = "same"
    AtacformerModel.setup_anndata(single, labels_key="module")
    for learner, kwargs, message in (
        (model, {"task": "clustering"}, "two labels at least, and there is 1"),
        (build(single), {"task": "multi"}, "two labels at least, and there is 1"),
        (model, {"task": "batch"}, "two batches at least"),
        (build(cells), {"task": "sorting"}, "clustering, classification"),
        (build(cells), {"task": "clustering", "loss": "ce"}, "'supcon', 'triplet'"),
        (build(cells), {"unfreeze_last_n": 1, "lora_rank": 2}, "one of the two"),
        (build(cells), {"unfreeze_last_n": 9}, "layers"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.finetune(max_epochs=1, **kwargs, **QUIET)
    with pytest.raises(ValueError, match="two labels"):
        model.train(1, task="multi", **QUIET)
    assert not model.is_trained  # nothing was pretrained for a task that cannot follow


# ---- annotation -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["knn", "head"])
def test_labels_of_a_query(tuned, query, method):
    table = tuned.annotate(query, method=method, return_proba=True)
    truth = query.obs["module"].astype(str).to_numpy()
    assert (table["label"].to_numpy() == truth).mean() > 0.9
    assert list(table.index) == list(query.obs_names)
    names = ["m0", "m1", "m2", "m3"]
    np.testing.assert_allclose(table[names].sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(table[names].max(1), table["probability"])
    doubtful = table["probability"] < 0.9
    rejected = tuned.annotate(query, method=method, reject_below=0.9)["label"] == "unassigned"
    np.testing.assert_array_equal(rejected, doubtful)
    assert "X_tokens" not in query.obsm


def test_unlabelled_cells_do_not_vote_and_get_labels(query):
    data = planted_cells()
    data.obs["known"] = data.obs["module"].astype(str)
    data.obs.loc[data.obs_names[:120], "known"] = "?"
    AtacformerModel.setup_anndata(data, labels_key="known", unlabeled_category="?")
    model = build(data)
    model.train(2, task="classification", token_budget=800, **QUIET)
    found = model.annotate()
    assert set(found["label"]) == {"m0", "m1", "m2", "m3"}
    assert (found["label"][:120] == data.obs["module"][:120].astype(str)).mean() > 0.9
    assert model.module.classification_head.classifier.out_features == 4


def test_mapping_a_query(tuned, query):
    mapped = tuned.map_query(query)
    np.testing.assert_allclose(mapped.embedding, tuned.get_latent_representation(query), atol=1e-6)
    assert (mapped.labels["label"] == query.obs["module"].astype(str)).mean() > 0.9
    noise = planted_cells(60, seed=9)
    noise.X = sp.csr_matrix((np.random.default_rng(0).random((60, N_REGIONS)) < 0.15) * 1.0)
    odd = tuned.map_query(noise).labels["distance"].mean()
    assert odd > 1.2 * mapped.labels["distance"].mean()


def test_annotation_that_is_not_possible(cells, model, query):
    with pytest.raises(RuntimeError, match="head is not trained"):
        model.annotate(query, method="head")
    with pytest.raises(ValueError, match="'knn' or 'head'"):
        model.annotate(query, method="tree")
    plain = planted_cells(60)
    AtacformerModel.setup_anndata(plain)
    unlabelled = build(plain)
    unlabelled.pretrain(1, **QUIET)
    with pytest.raises(ValueError, match="labels_key"):
        unlabelled.annotate(query)


# ---- regions --------------------------------------------------------------------------------


def test_region_embeddings_are_means_over_cells(cells, model):
    regions = model.get_region_embeddings()
    assert list(regions.obs_names) == list(cells.var_names)
    assert regions.shape == (N_REGIONS, 16)
    n_cells = np.asarray((cells.X > 0).sum(0)).ravel()
    np.testing.assert_array_equal(regions.obs["n_cells"], n_cells)
    # by hand for one region
    total = []
    tokens, every = model._tokens_of(None)
    for part in model._encoded(tokens, every, max_tokens=None):
        total.append(part.hidden[part.tokens.ids == 11].numpy())
    np.testing.assert_allclose(regions.X[11], np.concatenate(total).mean(0), atol=1e-5)
    static = model.get_region_embeddings(mode="static")
    table = model.module.embeddings.token_embeddings.weight[:N_REGIONS].detach().numpy()
    np.testing.assert_allclose(static.X, table)
    assert knn_accuracy(static.X, np.arange(N_REGIONS) % 4, n_neighbors=5) > 0.8


def test_region_embeddings_by_group(cells, model):
    grouped = model.get_region_embeddings(groupby="module", center="cell", min_cells=2)
    assert (grouped.obs["n_cells"] >= 2).all()
    assert set(grouped.obs["group"]) == {"m0", "m1", "m2", "m3"}
    rows = np.flatnonzero((cells.obs["module"] == "m1").to_numpy())
    alone = model.get_region_embeddings(indices=rows, center="cell", min_cells=2)
    block = grouped[grouped.obs["group"] == "m1"]
    np.testing.assert_allclose(block.X, alone.X, atol=1e-5)
    assert block.obs_names[0].endswith("|m1")
    with pytest.raises(ValueError, match="contextual, static"):
        model.get_region_embeddings(mode="mean")
    with pytest.raises(KeyError, match="groupby='modul'"):
        model.get_region_embeddings(groupby="modul")


@pytest.fixture(scope="module")
def promoters():
    """Module 0 stands at transcription start sites, of which the annotation knows a part."""
    data = planted_cells(300, seed=2)
    start = np.arange(N_REGIONS) * 60_000
    data.var["start"], data.var["end"] = start, start + 500
    data.var_names = [f"chr1:{s}-{s + 500}" for s in start]
    AtacformerModel.setup_anndata(data)
    model = build(data)
    model.pretrain(2, token_budget=800, **QUIET)
    is_promoter = np.arange(N_REGIONS) % 4 == 0
    known = np.flatnonzero(is_promoter)[::2]
    tss = pd.DataFrame({"chrom": "chr1", "start": start[known] + 100, "end": start[known] + 101})
    return model, tss, is_promoter


@pytest.mark.parametrize("score", ["centroid", "classifier"])
@pytest.mark.parametrize("mode", ["contextual", "static"])
def test_planted_promoters_are_found(promoters, score, mode):
    model, tss, is_promoter = promoters
    table = model.find_promoters(tss, score=score, mode=mode, n_matches=40)
    place = {name: i for i, name in enumerate(model.universe.names)}
    truth = np.array([is_promoter[place[name]] for name in table.index])
    assert len(table) == 70
    assert truth.sum() == 10
    assert roc_auc_score(truth, table["score"]) > 0.9
    # beside other candidates of the same frequency and distance; ties and true ones are among them
    assert roc_auc_score(truth, -table["pvalue"]) > 0.85
    assert (table["tss_distance"] >= 10_000).all()
    assert table["pvalue"].is_monotonic_increasing
    assert (table["fdr"] >= table["pvalue"] - 1e-12).all()


def test_without_planted_promoters_pvalues_are_uniform(promoters):
    model, tss, _ = promoters
    start = np.arange(0, N_REGIONS, 4) * 60_000 + np.tile([0, 60_000], 10)  # of two modules
    random = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 1})
    pvalues = model.find_promoters(random, n_matches=40)["pvalue"]
    others = model.find_promoters(tss, n_matches=40)["pvalue"]
    assert abs(pvalues.mean() - 0.5) < 0.12
    assert (others < 0.1).mean() > (pvalues < 0.1).mean() - 0.2


def test_promoters_that_cannot_be_found(promoters):
    model, tss, _ = promoters
    with pytest.raises(ValueError, match="same genome build"):
        model.find_promoters(tss.assign(chrom="chr7"))
    with pytest.raises(ValueError, match="below dist_min"):
        model.find_promoters(tss, proximal=20_000)
    with pytest.raises(ValueError, match="one finite value"):
        model.find_promoters(tss, gc=np.ones(3))
    table = model.find_promoters(tss, gc=np.linspace(0.3, 0.7, N_REGIONS), n_matches=20)
    assert np.isfinite(table["pvalue"]).all()


def test_tss_score_of_each_cell(promoters):
    model, tss, _ = promoters
    scores = model.tss_score(tss, indices=[4, 0, 7])
    assert scores.shape == (3,)
    tokens, _ = model._tokens_of(None)
    part = next(model._encoded(tokens, np.array([0]), max_tokens=None))
    far = model._tss_distance(tss)[part.tokens.ids.numpy()]
    vectors = part.hidden.numpy()
    to_centre = np.linalg.norm(vectors - vectors[far <= 2000].mean(0), axis=1)
    assert scores[1] == pytest.approx(tss_score(to_centre, far), abs=1e-5)


# ---- BED files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beds(tmp_path_factory) -> tuple[dict[str, Path], pd.DataFrame]:
    """Bulk files: cell type is the module, assay decides whether the last regions are open."""
    folder = tmp_path_factory.mktemp("bed")
    rng = np.random.default_rng(0)
    paths, rows = {}, {}
    for i in range(24):
        module, wide = i % 4, i // 4 % 2
        is_open = rng.random(N_REGIONS) < np.where(np.arange(N_REGIONS) % 4 == module, 0.7, 0.1)
        is_open[40:] |= bool(wide) & (rng.random(40) < 0.6)
        start = np.flatnonzero(is_open) * 5_000
        path = folder / f"file{i}.bed"
        path.write_text("".join(f"chr1\t{s}\t{s + 400}\n" for s in start))
        paths[path.stem] = path
        rows[path.stem] = {"cell_type": f"m{module}", "assay": "wide" if wide else "narrow"}
    return paths, pd.DataFrame(rows).T


def test_bed_files_are_embedded_like_cells(model, beds):
    paths, _ = beds
    files = model.embed_bed(paths)
    assert files.shape == (24, 16)
    assert (files.obs["n_chunks"] == 1).all()
    from atacvi.data import tokenize_bed

    tokens = tokenize_bed(paths, model.universe)
    np.testing.assert_allclose(files.X, model.get_latent_representation(tokens), atol=1e-5)


def test_long_files_are_cut_into_chunks_that_leave_nothing_out(model, beds):
    tokens = sp.csr_matrix(np.random.default_rng(0).random((5, 60)) < 0.6)
    tokens[2] = 0
    tokens.eliminate_zeros()
    chunks, of_file = cut_into_chunks(tokens, context=7, seed=0)
    assert np.diff(chunks.indptr).max() <= 7
    for file in range(5):
        parts = [
            chunks.indices[chunks.indptr[c] : chunks.indptr[c + 1]]
            for c in np.flatnonzero(of_file == file)
        ]
        assert sorted(np.concatenate(parts)) == sorted(tokens[file].indices)
    paths, _ = beds
    short = model.embed_bed(paths, max_tokens=6)
    assert (short.obs["n_chunks"] > 1).any()
    whole = model.embed_bed(paths)
    cosine = (short.X * whole.X).sum(1)
    assert np.median(cosine) > 0.7


def test_two_heads_for_bulk_files(model, beds, tmp_path):
    paths, labels = beds
    files = model.embed_bed(paths)
    train = files[:16]
    model.fit_bulk_classifier(train, labels.iloc[:16])
    found = model.predict_bulk(files[16:])
    assert (found["cell_type"] == labels["cell_type"].iloc[16:]).mean() > 0.8
    assert found["assay_probability"].between(0.5, 1).all()
    from_paths = model.predict_bulk({name: paths[name] for name in files.obs_names[16:]})
    pd.testing.assert_frame_equal(found, from_paths)
    model.save(str(tmp_path / "saved"))
    loaded = AtacformerModel.load(str(tmp_path / "saved"), adata=False, accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.predict_bulk(files[16:]), found)


def test_bulk_input_that_does_not_fit(cells, model, beds):
    paths, labels = beds
    files = model.embed_bed(paths)
    with pytest.raises(KeyError, match="target"):
        model.fit_bulk_classifier(files, labels, targets=["target"])
    with pytest.raises(ValueError, match="fewer than two classes"):
        model.fit_bulk_classifier(files, labels.assign(assay="ATAC"))
    with pytest.raises(RuntimeError, match="fit_bulk_classifier"):
        build(cells).predict_bulk(files)
