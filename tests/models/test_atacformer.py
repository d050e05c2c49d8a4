"""Setup, pretraining and embeddings of cells."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback

from atacvi.data import tokenize_anndata
from atacvi.metrics import knn_accuracy
from atacvi.models import AtacformerModel
from atacvi.models._atacformer_fit import default_token_budget
from atacvi.regions import Universe

from .planted_tokens import N_REGIONS, QUIET, TINY, build, planted_cells

EPOCHS = {"max_epochs": 4, "token_budget": 400, "lr": 2e-3}


@pytest.fixture(scope="module")
def cells():
    return planted_cells()


@pytest.fixture(scope="module")
def model(cells):
    AtacformerModel.setup_anndata(cells, labels_key="module", batch_key="batch")
    model = build(cells)
    model.pretrain(**EPOCHS, **QUIET)
    return model


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def assert_same_weights(one, two):
    first, second = weights(one), weights(two)
    assert set(first) == set(second)
    assert not [name for name in first if not torch.equal(first[name], second[name])]


# ---- setup ----------------------------------------------------------------------------------


def test_setup_maps_peaks_onto_themselves(cells, model):
    tokens = cells.obsm["X_tokens"]
    assert tokens.shape == (240, N_REGIONS)
    np.testing.assert_array_equal(tokens.toarray(), cells.X.toarray() > 0)
    np.testing.assert_array_equal(cells.obs["n_tokens"], np.diff(tokens.indptr))
    assert list(model.universe.names) == list(cells.var_names)


def test_setup_takes_tokens_or_maps_peaks_onto_a_universe(cells):
    universe = Universe([f"chr1:{s}-{s + 9000}" for s in range(0, 400_000, 10_000)])
    direct = planted_cells()
    AtacformerModel.setup_anndata(direct, universe=universe)
    tokens = tokenize_anndata(planted_cells(), universe)
    AtacformerModel.setup_anndata(tokens)
    assert (direct.obsm["X_tokens"] != tokens.obsm["X_tokens"]).nnz == 0
    one, two = build(direct), build(tokens)
    assert one.universe == two.universe == universe


def test_only_regions_that_occur_are_embedded(cells):
    data = planted_cells()
    data.X[:, :30] = 0
    AtacformerModel.setup_anndata(data)
    assert build(data).module.embeddings.n_active == N_REGIONS - 30
    assert build(data, vocabulary="full").module.embeddings.n_active == N_REGIONS


def _changed(**changes):
    data = planted_cells(40)
    for name, value in changes.items():
        if name == "obsm":
            data.obsm.update(value)
        else:
            setattr(data, name, value)
    return data


OTHER = Universe(["chr9:1-2", "chr9:5-9"])


@pytest.mark.parametrize(
    ("data", "kwargs", "error", "message"),
    [
        (planted_cells(40), {"labels_key": "type"}, KeyError, "labels_key='type'.*module"),
        (planted_cells(40), {"batch_key": "modul"}, KeyError, "did you mean 'module'"),
        (planted_cells(40), {"layer": "counts"}, KeyError, "layer='counts'"),
        (planted_cells(40), {"universe": OTHER}, ValueError, "regions"),
        (planted_cells(40), {"unlabeled_category": "?"}, ValueError, "labels_key"),
        (planted_cells(40), {"threshold": -1}, ValueError, "threshold=-1"),
        (_changed(X=sp.csr_matrix((40, N_REGIONS))), {}, ValueError, "None of the 40 cells"),
        (
            _changed(
                var_names=[f"peak{i}" for i in range(N_REGIONS)],
                var=pd.DataFrame(index=[f"peak{i}" for i in range(N_REGIONS)]),
            ),
            {},
            ValueError,
            "chr1:100-200",
        ),
        (
            _changed(obsm={"X_tokens": sp.csr_matrix((40, 7))}),
            {},
            ValueError,
            "does not tell its universe",
        ),
        (
            _changed(obsm={"X_tokens": sp.csr_matrix((40, 7))}),
            {"universe": OTHER},
            ValueError,
            "7 columns, the universe 2",
        ),
        (anndata.AnnData(obs=pd.DataFrame(index=["a"])), {}, KeyError, "tokenize_fragments"),
        (np.ones((3, 3)), {}, TypeError, "an AnnData is needed"),
    ],
)
def test_what_cannot_be_set_up(data, kwargs, error, message):
    with pytest.raises(error, match=message):
        AtacformerModel.setup_anndata(data, **kwargs)
    if isinstance(data, anndata.AnnData):
        assert "n_tokens" not in data.obs
        assert "atacvi" not in data.uns


def test_tokens_of_another_universe_are_refused(model):
    tokens = tokenize_anndata(planted_cells(20), Universe(list(model.universe.names[:40])))
    with pytest.raises(ValueError, match="another universe"):
        model.get_latent_representation(tokens)


def test_peaks_of_another_genome_are_refused(model):
    data = planted_cells(20)
    data.var["start"] += 10_000_000
    data.var["end"] += 10_000_000
    data.var_names = [f"p{i}" for i in range(N_REGIONS)]
    with pytest.raises(ValueError, match="genome"):
        model.get_latent_representation(data)


def test_sizes_that_do_not_fit(cells, model):
    for kwargs, message in (
        ({"n_embed": 15}, "divisible"),
        ({"max_tokens": 0}, "at least 1"),
        ({"preset": "big"}, "'small', 'base-hg38'"),
        ({"vocabulary": "half"}, "'active' or 'full'"),
        ({"pooling": "max"}, "pooling"),
    ):
        with pytest.raises(ValueError, match=message):
            AtacformerModel(cells, **{**TINY, **kwargs})


# ---- pretraining ----------------------------------------------------------------------------


def test_history(model):
    names = {"train_loss", "validation_loss", "unigram_bayes_loss_train", "context_gain_train"}
    names |= {"replaced_loss_validation", "agreement_information_validation", "score_validation"}
    assert names <= set(model.history)
    assert all(len(table) == 4 for table in model.history.values())
    values = {k: v.to_numpy(dtype=float).ravel() for k, v in model.history.items()}
    assert all(np.isfinite(v).all() for v in values.values())
    gain = values["unigram_bayes_loss_train"] - values["replaced_loss_train"]
    np.testing.assert_allclose(values["context_gain_train"], gain, atol=1e-5)
    split = np.concatenate([model.train_indices, model.validation_indices])
    assert sorted(split) == list(range(240))
    assert model.is_trained
    assert not model.module.training


def test_context_is_learnt_on_planted_modules(cells, model):
    """Frequencies are equal: only what else is open tells which token was replaced."""
    more = planted_cells(480, own=0.7)
    AtacformerModel.setup_anndata(more)
    for negatives in ("unigram", "uniform"):
        learner = build(more, n_embed=32)
        learner.pretrain(
            max_epochs=8,
            lr=1e-2,
            token_budget=300,
            negatives=negatives,
            agreement_weight=0.0,
            early_stopping=False,
            plan_kwargs={"embedding_lr_factor": 1.0},
            **QUIET,
        )
        gain = learner.history["context_gain_validation"].to_numpy(dtype=float).ravel()
        bayes = learner.history["unigram_bayes_loss_train"].to_numpy(dtype=float).ravel()
        assert bayes[0] > 0.66  # nothing is to be known without context
        assert gain[-1] > 0.1


def test_the_start_is_informative_and_random_weights_are_less_so(cells, model):
    labels = cells.obs["module"]
    scores = {}
    for start in ("spectral", "random"):
        learner = build(cells)
        learner.pretrain(1, lr=0.0, start=start, **QUIET)
        scores[start] = knn_accuracy(learner.get_latent_representation(), labels)
    assert scores["spectral"] > 0.95
    assert scores["random"] < scores["spectral"] - 0.1


def test_a_probe_chooses_the_epoch(cells, model):
    learner = build(cells)
    learner.pretrain(3, probe_key="module", probe_every=2, **QUIET)
    assert len(learner.history["probe_knn_accuracy"]) == 2  # the second and the last epoch
    assert learner.history["probe_knn_accuracy"].to_numpy(dtype=float).max() > 0.9
    with pytest.raises(KeyError, match="probe_key='typ'"):
        learner.pretrain(1, probe_key="typ", **QUIET)


@pytest.mark.parametrize(("scores", "stays"), [((0.5, 0.4, 0.3), True), ((0.5, 0.4, 0.6), False)])
def test_the_start_stays_where_no_epoch_is_better(cells, model, monkeypatch, scores, stays):
    learner = build(cells)
    learner.pretrain(0)
    start = weights(learner)
    left = list(scores)
    monkeypatch.setattr(
        learner, "_neighbour_probe", lambda *_: lambda: {"neighbour_gain": left.pop(0)}
    )
    learner.pretrain(2, **QUIET)
    assert not left  # the start, and two epochs
    same = [k for k, v in weights(learner).items() if torch.equal(v, start[k])]
    assert (len(same) == len(start)) == stays


def test_what_neighbours_tell_is_in_the_history(cells, model):
    assert (model.history["probe_neighbour_gain"].to_numpy(dtype=float) > 0.2).any()


@pytest.mark.parametrize(
    ("n_cells", "length", "budget"),
    [(100_000, 1_000, 32_768), (3_000, 144, 13_500), (300, 100, 6_400), (10, 5, 320)],
)
def test_small_data_have_small_minibatches(n_cells, length, budget):
    assert default_token_budget(np.full(n_cells, length)) == budget


def test_same_seed_same_weights(cells, model):
    again = build(cells)
    again.pretrain(**EPOCHS, **QUIET)
    assert_same_weights(model, again)
    other = build(cells, seed=1)
    other.pretrain(**EPOCHS, **QUIET)
    assert not torch.equal(
        other.module.encoder.layers[0].linear1.weight, model.module.encoder.layers[0].linear1.weight
    )


class StopAfter(Callback):
    """Interrupts training at the start of an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_resumed_run_ends_as_an_uninterrupted_one(cells, model, tmp_path):
    folder = str(tmp_path / "run")
    stopped = build(cells)
    try:
        stopped.pretrain(**EPOCHS, checkpoint_dir=folder, callbacks=[StopAfter(2)], **QUIET)
    except (KeyboardInterrupt, SystemExit):
        pass
    resumed = build(cells)
    resumed.pretrain(**EPOCHS, checkpoint_dir=folder, resume=True, **QUIET)
    assert_same_weights(model, resumed)
    assert len(resumed.history["train_loss"]) == 4
    with pytest.raises(ValueError, match="checkpoint of pretraining"):
        build(cells).finetune(checkpoint_dir=folder, resume=True, **QUIET)
    with pytest.raises(ValueError, match="checkpoint_dir"):
        build(cells).pretrain(1, resume=True, **QUIET)


class Poison(Callback):
    """Makes a weight infinite after the first step."""

    def on_train_batch_end(self, trainer, pl_module, *args):
        with torch.no_grad():
            pl_module.module.encoder.layers[0].linear1.bias.fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_training(cells, model):
    with pytest.raises(FloatingPointError, match="epoch 0"):
        build(cells).pretrain(1, token_budget=200, callbacks=[Poison()], **QUIET)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"p": 0.0}, "between 0 and 1"),
        ({"negatives": "near"}, "negatives='near'"),
        ({"max_tokens": 0}, "at least 1 token"),
        ({"start": "zero"}, "'spectral' or 'random'"),
        ({"token_budget": 0}, "token_budget=0"),
    ],
)
def test_wrong_arguments_of_pretraining(cells, model, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(cells).pretrain(1, **kwargs, **QUIET)


def test_training_goes_on_where_it_ended(cells, model):
    learner = build(cells)
    learner.train(1, **QUIET)
    before = weights(learner)
    learner.pretrain(1, replaced_weight=0.0, early_stopping=False, **QUIET)
    assert len(learner.history["train_loss"]) == 2
    assert learner.history["train_loss"].index.tolist() == [0, 1]
    table = "embeddings.token_embeddings.weight"
    moved = (learner.module.state_dict()[table] - before[table]).abs().max()
    assert 0 < moved < 0.1  # a second start would have replaced the table


# ---- embeddings of cells --------------------------------------------------------------------


def test_embedding_separates_the_modules(cells, model):
    latent = model.get_latent_representation()
    assert latent.shape == (240, 16)
    assert latent.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), 1.0, rtol=1e-5)
    assert knn_accuracy(latent, cells.obs["module"]) > 0.95
    raw = model.get_latent_representation(normalize=False)
    centred = raw - model.latent_centre_
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(latent, expected, atol=1e-5)


def test_embeddings_do_not_depend_on_order_minibatch_or_object(cells, model):
    latent = model.get_latent_representation()
    chosen = np.array([7, 3, 99, 3])
    np.testing.assert_allclose(
        model.get_latent_representation(indices=chosen, token_budget=7), latent[chosen], atol=1e-5
    )
    fresh = planted_cells()[::-1].copy()
    np.testing.assert_allclose(model.get_latent_representation(fresh), latent[::-1], atol=1e-5)
    assert "X_tokens" not in fresh.obsm  # nothing is written to a query
    with pytest.raises(IndexError, match=r"0 \.\.\. 239"):
        model.get_latent_representation(indices=[240])


def test_long_cells_are_sampled_by_seed(model):
    def embed(**kwargs):
        return model.get_latent_representation(max_tokens=5, normalize=False, **kwargs)

    np.testing.assert_array_equal(embed(seed=1), embed(seed=1))
    assert not np.allclose(embed(seed=1), embed(seed=2))
    full = model.get_latent_representation(normalize=False)
    error = [np.abs(embed(n_subsamples=n) - full).mean() for n in (1, 16)]
    assert error[1] < 0.7 * error[0]
    np.testing.assert_array_equal(  # what fits does not depend on the seed
        model.get_latent_representation(seed=1), model.get_latent_representation(seed=2)
    )
    with pytest.raises(ValueError, match="at least 1 token"):
        model.get_latent_representation(max_tokens=0)
    with pytest.raises(ValueError, match="at least one sample"):
        model.get_latent_representation(n_subsamples=0)


def test_pooling_by_choice(model):
    plain = model.get_latent_representation(pooling="mean")
    assert not np.allclose(plain, model.get_latent_representation())
    with pytest.raises(ValueError, match="'mean' or None"):
        model.get_latent_representation(pooling="max")


def test_cells_without_tokens_are_flagged_and_finite(caplog):
    data = planted_cells(60)
    data.X[[3, 8]] = 0
    AtacformerModel.setup_anndata(data)
    assert data.obs["is_empty"].to_numpy().nonzero()[0].tolist() == [3, 8]
    model = build(data)
    model.pretrain(2, **QUIET)
    latent = model.get_latent_representation()
    assert np.isfinite(latent).all()
    np.testing.assert_array_equal(latent[3], latent[8])


def test_knocking_regions_out(cells, model):
    region = model.universe.names[4]
    is_open = cells.X[:, 4].toarray().ravel() > 0
    moved = model.knock_out([region])
    assert moved.shape == (240, 16)
    assert (moved[~is_open] == 0).all()
    assert (np.abs(moved[is_open]).max(1) > 0).all()
    closed = planted_cells()
    closed.X[:, 4] = 0
    latent = model.get_latent_representation
    np.testing.assert_allclose(latent() + moved, latent(closed), atol=1e-5)
    with pytest.raises(ValueError, match="None of the regions overlaps"):
        model.knock_out(["chr5:1-10"])


def test_an_untrained_model_is_refused(cells, model):
    fresh = build(cells)
    for use in (
        fresh.get_latent_representation,
        fresh.get_region_embeddings,
        fresh.annotate,
        lambda: fresh.save_pretrained("nowhere"),
        lambda: fresh.embed_bed("nowhere.bed"),
        lambda: fresh.knock_out(["chr1:1-2"]),
    ):
        with pytest.raises(RuntimeError, match="not trained"):
            use()
