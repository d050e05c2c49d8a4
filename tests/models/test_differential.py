"""Differential expression and accessibility of a trained model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

from atacvi._compat import scatac_raw_counts_properties, scrna_raw_counts_properties
from atacvi.models._groups import raw_statistics, resolve_groups

FAST = {"n_samples_overall": 200, "silent": True}
DA_COLUMNS = [
    "prob_da",
    "is_da_fdr",
    "bayes_factor",
    "effect_size",
    "emp_effect",
    "est_prob1",
    "est_prob2",
    "emp_prob1",
    "emp_prob2",
]
DE_COLUMNS = [
    "proba_de",
    "proba_not_de",
    "bayes_factor",
    "scale1",
    "scale2",
    "pseudocounts",
    "delta",
    "lfc_mean",
    "lfc_median",
    "lfc_std",
    "lfc_min",
    "lfc_max",
    "raw_mean1",
    "raw_mean2",
    "non_zeros_proportion1",
    "non_zeros_proportion2",
    "raw_normalized_mean1",
    "raw_normalized_mean2",
    "is_de_fdr_0.05",
]
GROUP_COLUMNS = ["comparison", "group1", "group2"]


@pytest.fixture(scope="module")
def types(mdata) -> list[str]:
    return list(mdata.obs["cell_type"].astype("category").cat.categories)


def test_accessibility_columns_and_signs(model, mdata, types):
    table = model.differential_accessibility(
        groupby="cell_type", group1=types[0], group2=types[1], **FAST
    )
    assert list(table.columns) == DA_COLUMNS + GROUP_COLUMNS
    assert set(table.index) == set(mdata["atac"].var_names)
    assert table["prob_da"].is_monotonic_decreasing
    np.testing.assert_allclose(table["effect_size"], table["est_prob2"] - table["est_prob1"])
    np.testing.assert_allclose(table["emp_effect"], table["emp_prob2"] - table["emp_prob1"])
    assert table[["est_prob1", "est_prob2"]].to_numpy().min() >= 0
    assert table[["est_prob1", "est_prob2"]].to_numpy().max() <= 1
    assert table["is_da_fdr"].dtype == bool


def test_estimated_probability_is_that_of_a_cell_of_median_depth(model, mdata, types):
    cells = np.flatnonzero(mdata.obs["cell_type"] == types[0])
    table = model.differential_accessibility(idx1=cells, n_samples_overall=2000, silent=True)
    rates = model.get_normalized_accessibility(
        indices=cells, use_z_mean=False, n_samples=20, library_size="median"
    )
    expected = (-np.expm1(-rates)).mean(0)
    found = table["est_prob1"].reindex(expected.index)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_expression_columns_and_scales(model, mdata, types):
    table = model.differential_expression(groupby="cell_type", group1=[types[0]], **FAST)
    assert list(table.columns) == DE_COLUMNS + GROUP_COLUMNS
    assert set(table.index) == set(mdata["rna"].var_names)
    assert table["scale1"].sum() == pytest.approx(1.0, abs=1e-4)
    assert (table["group2"] == "Rest").all()


def test_blocks_of_genes_give_the_same_normaliser(model, monkeypatch):
    from atacvi.models import _change, _differential_expression

    mask = np.arange(model.adata.n_obs) < 50
    before = model.differential_expression(idx1=mask, pseudocounts=1e-4, **FAST)
    monkeypatch.setattr(_change, "_VALUES_PER_BLOCK", 200 * 7)
    monkeypatch.setattr(_differential_expression, "_LOGITS_PER_BLOCK", 200 * 7)
    after = model.differential_expression(idx1=mask, pseudocounts=1e-4, **FAST)
    pd.testing.assert_frame_equal(before.sort_index(), after.sort_index(), rtol=1e-4, atol=1e-5)


def test_all_groups_in_turn(model, types):
    table = model.differential_accessibility(groupby="cell_type", **FAST)
    assert list(table["group1"].unique()) == types
    assert len(table) == len(types) * 150


def test_cells_as_positions_mask_and_query(model, mdata, types):
    mask = (mdata.obs["cell_type"] == types[0]).to_numpy()
    tables = [
        model.differential_accessibility(idx1=cells, **FAST)
        for cells in (mask, np.flatnonzero(mask), f"cell_type == '{types[0]}'")
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table)
    assert "comparison" not in tables[0]


def test_twice_is_identical_and_seeds_matter(model, types):
    options = {"groupby": "cell_type", "group1": types[0], **FAST}
    first = model.differential_expression(**options)
    pd.testing.assert_frame_equal(first, model.differential_expression(**options))
    scvi.settings.seed = 1
    other = model.differential_expression(**options)
    scvi.settings.seed = 0
    assert not np.array_equal(first["scale1"].sort_index(), other["scale1"].sort_index())


def test_vanilla_mode(model, types):
    options = {"groupby": "cell_type", "group1": types[0], "mode": "vanilla", **FAST}
    expression = model.differential_expression(**options)
    assert {"proba_m1", "proba_m2"} <= set(expression)
    accessibility = model.differential_accessibility(**options)
    assert accessibility["is_da_fdr"].isna().all()


def test_batch_correction_decodes_both_groups_as_every_batch(model, types):
    options = {"groupby": "cell_type", "group1": types[0], "batch_correction": True, **FAST}
    every = model.differential_accessibility(**options)
    batches = list(model.adata_manager.get_state_registry("batch").categorical_mapping)
    named = model.differential_accessibility(batchid1=batches, batchid2=batches, **options)
    pd.testing.assert_frame_equal(every, named)
    one = model.differential_accessibility(
        batchid1=batches[:1], batchid2=batches[1:], use_permutation=True, **options
    )
    assert not np.array_equal(one["est_prob1"].sort_index(), every["est_prob1"].sort_index())


def test_without_statistics_of_counts(model, types):
    options = {"groupby": "cell_type", "group1": types[0], "all_stats": False, **FAST}
    assert "emp_prob1" not in model.differential_accessibility(**options)
    assert "raw_mean1" not in model.differential_expression(**options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"groupby": "cell_type", "group1": "no"}, ValueError, "group1='no' is no group"),
        ({"groupby": "cell_type", "group2": "no"}, ValueError, "group2='no'"),
        ({"groupby": "kind"}, KeyError, r"Searched: obs holds"),
        ({}, ValueError, "groupby"),
        ({"idx1": []}, ValueError, "idx1 selects no cell"),
        ({"idx1": [10_000]}, IndexError, "10000"),
        ({"idx1": [True]}, ValueError, "mask of 1"),
        ({"groupby": "cell_type", "mode": "x"}, ValueError, "mode='x'"),
        ({"groupby": "cell_type", "batchid1": ["a"]}, ValueError, "batch_correction=True"),
        (
            {"groupby": "cell_type", "batch_correction": True, "batchid1": ["a"]},
            ValueError,
            "not a batch",
        ),
        ({"groupby": "cell_type", "n_sample": 3}, TypeError, "n_sample"),
    ],
)
def test_bad_arguments(model, options, error, match):
    with pytest.raises(error, match=match):
        model.differential_accessibility(silent=True, **options)


def test_empty_category(mdata):
    column = mdata.obs["cell_type"].astype("category").cat.add_categories(["none"])
    copy = mdata.copy()
    copy.obs["with_empty"] = column
    with pytest.raises(ValueError, match="'none' of 'with_empty' is empty"):
        resolve_groups(copy, "with_empty", "none")


def test_columns_of_a_modality_are_found(mdata):
    copy = mdata.copy()
    copy["rna"].obs["half"] = np.repeat(["a", "b"], copy.n_obs // 2)
    assert len(resolve_groups(copy, "half")) == 2


def test_statistics_of_counts_equal_scvi(model):
    manager = model.adata_manager
    first, second = np.arange(40), np.arange(60, 160)
    masks = [np.isin(np.arange(160), cells) for cells in (first, second)]
    ours = raw_statistics(manager.get_from_registry("X"), None, (first, second), "rna")
    theirs = scrna_raw_counts_properties(manager, *masks)
    model.adata.obs.drop(columns="_scvi_raw_norm_scaling", inplace=True)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, err_msg=name)
    ours = raw_statistics(manager.get_from_registry("atac"), None, (first, second), "atac")
    theirs = scatac_raw_counts_properties(manager, *masks, registry_key="atac")
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


def test_cells_without_the_modality_do_not_count():
    counts = sp.csr_matrix(np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 1.0]]))
    out = raw_statistics(counts, None, (np.array([0, 1]), np.array([2])), "atac")
    assert out["emp_mean1"].tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_500_against_500_cells_and_100k_peaks_within_2_gb():
    script = Path(__file__).with_name("large_comparison.py")
    answer = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True
    )
    measured = json.loads(answer.stdout.splitlines()[-1])
    assert measured["rss_gb"] < 2.0
    # Processor time, 8 s on a quiet machine; 60 s leave room for a very busy one.
    assert measured["cpu_seconds"] < 60.0
