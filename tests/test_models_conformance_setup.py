"""What each model says of itself and of its data, and what it refuses at the border."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from .conformance.builders import (  # noqa: F401 (fixtures)
    BUILDERS,
    N_CELLS,
    QUIET,
    one_thread,
    short_epochs,
    simulate,
    tokens_case,
    trained_case,
)

_WITH_COUNTS = [b for b in BUILDERS if b.name in ("multiview", "atacdiff", "atacformer", "craft")]
_NAMES = [builder.name for builder in _WITH_COUNTS]


def part_with_counts(data: Any) -> Any:
    """Return the AnnData of the accessibility."""
    return data["atac"] if hasattr(data, "mod") else data


@pytest.fixture(name="fresh", params=_WITH_COUNTS, ids=_NAMES)
def fresh_data(request) -> tuple[Any, Any]:
    """A builder, and data that are not set up."""
    return request.param, request.param.convert(simulate()[:40].copy())


# ---- what a model says ----------------------------------------------------------------------


def test_repr_names_the_model_and_its_state(case):
    text = repr(case.model) + case.model.summary_string
    assert case.builder.model.__name__ in text
    data = case.data.copy()
    case.builder.setup(data)
    assert not case.builder.build(data).is_trained


def test_what_was_set_up_can_be_shown(case, capsys):
    case.model.view_anndata_setup()
    shown = capsys.readouterr().out
    assert case.builder.model.__name__ in shown
    assert "batch" in shown


def test_the_object_is_that_of_the_setup(case):
    assert case.model.adata is case.data
    assert case.model.adata_manager.adata is case.data
    assert int(case.model.summary_stats.n_batch) == 2


def test_train_takes_the_arguments_of_scvi_tools(case):
    data = case.data.copy()
    model = case.builder.train(
        data,
        1,
        devices=1,
        train_size=0.7,
        validation_size=0.2,
        batch_size=30,
        early_stopping=False,
        plan_kwargs={"weight_decay": 1e-3},
        datasplitter_kwargs={},
        log_every_n_steps=1,
    )
    parts = (model.train_indices, model.validation_indices, model.test_indices)
    assert [len(part) for part in parts] == [84, 24, 12]
    assert all(isinstance(table, pd.DataFrame) for table in model.history.values())


def test_an_argument_that_nothing_knows(case):
    with pytest.raises(TypeError, match="max_epoch"):
        case.builder.train(case.data.copy(), 1, max_epoch=1)


def test_a_trained_model_survives_a_wrong_argument(tokens):
    model, before = tokens.model, set(tokens.model.history)
    with pytest.raises(TypeError, match="max_epoch"):
        model.pretrain(1, max_epoch=1, **QUIET)
    assert model.is_trained
    assert not model.module.training
    assert set(model.history) == before


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([-1], IndexError, f"0 ... {N_CELLS - 1}"),
        (np.ones(7, dtype=bool), IndexError, f"there are {N_CELLS} cells"),
        ([1.5], TypeError, "whole numbers"),
        (["cell"], TypeError, "get_indexer"),
    ],
)
def test_positions_that_mean_nothing(case, indices, error, message):
    with pytest.raises(error, match=message):
        case.model.get_latent_representation(indices=indices)


def test_a_mask_chooses_cells(case):
    mask = np.zeros(N_CELLS, dtype=bool)
    mask[[4, 90]] = True
    np.testing.assert_array_equal(
        case.model.get_latent_representation(indices=mask),
        case.model.get_latent_representation(indices=[4, 90]),
    )


def test_the_storage_of_the_counts_does_not_matter(case):
    if part_with_counts(case.query).n_vars == 0:
        return  # tokens without counts
    expected = case.model.get_latent_representation(case.query.copy())
    for convert in (
        sp.csc_matrix,
        lambda x: sp.csr_matrix(x, dtype=np.int32),
        lambda x: x.toarray(),
    ):
        query = case.query.copy()
        for part in query.mod.values() if hasattr(query, "mod") else [query]:
            part.X = convert(sp.csr_matrix(part.X))
        np.testing.assert_allclose(
            case.model.get_latent_representation(query), expected, rtol=1e-4, atol=1e-5
        )


# ---- what is refused ------------------------------------------------------------------------


def test_a_column_that_is_not_there(fresh):
    builder, data = fresh
    before = list(data.obs.columns)
    with pytest.raises(KeyError, match="'bach'.*did you mean 'batch'"):
        builder.setup(data, batch_key="bach")
    assert list(data.obs.columns) == before
    assert "X_tokens" not in part_with_counts(data).obsm


def test_cells_without_a_batch(fresh):
    builder, data = fresh
    data.obs["holes"] = ["a"] * 39 + [None]
    with pytest.raises(ValueError, match=r"missing \(NaN\) for 1 of 40 cells"):
        builder.setup(data, batch_key="holes")


@pytest.mark.parametrize(
    ("value", "message"), [(-1.0, "1 negative value"), (np.nan, "1 NaN or infinite value")]
)
def test_values_that_are_no_counts(fresh, value, message):
    builder, data = fresh
    part = part_with_counts(data)
    part.X = sp.csr_matrix(part.X, dtype=np.float32)
    part.X.data[3] = value
    with pytest.raises(ValueError, match=message):
        builder.setup(data)
    assert "X_tokens" not in part.obsm


def test_names_that_occur_twice(fresh):
    builder, data = fresh
    part = part_with_counts(data)
    names = part.var_names.to_numpy(dtype=object).copy()
    names[1] = names[0]
    part.var_names = names
    with pytest.raises(ValueError, match="more than once"):
        builder.setup(data)


def test_no_annotated_data(fresh):
    builder, _ = fresh
    with pytest.raises(TypeError, match="is needed, this is ndarray"):
        builder.setup(np.ones((3, 3)))


def test_data_that_were_not_set_up(fresh):
    builder, data = fresh
    with pytest.raises(ValueError, match="set ?up"):
        builder.build(data)


# ---- unlabelled cells -----------------------------------------------------------------------


def test_unlabelled_cells_take_part_without_a_label():
    builder = next(b for b in BUILDERS if b.name == "atacformer-tuned")
    data = builder.convert(simulate()[:N_CELLS].copy())
    truth = data.obs["cell_type"].astype(str)
    data.obs["known"] = truth.where(np.arange(N_CELLS) % 3 > 0, "?").to_numpy()
    builder.setup(data, labels_key="known", unlabeled_category="?")
    model = builder.fit(builder.build(data))
    assert model.get_latent_representation().shape == (N_CELLS, 16)
    for method in ("knn", "head"):
        found = model.annotate(method=method)["label"]
        assert set(found) <= set(truth)
    cells = np.concatenate([model.train_indices, model.validation_indices])
    assert sorted(cells) == list(range(N_CELLS))
