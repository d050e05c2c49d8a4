"""The functions on a fitted model, whose values are streamed."""

from __future__ import annotations

import numpy as np
import pytest

import atacvi
from atacvi.tl import (
    binarize_accessibility,
    co_accessibility,
    differential,
    link_peaks_to_genes,
    score_regions,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fitted():
    mdata = atacvi.datasets.simulate_multiome(120, 60, 300, 3, random_state=0)
    atacvi.MultiViewModel.setup_mudata(mdata)
    model = atacvi.MultiViewModel(mdata, n_clusters=3)
    model.train(max_epochs=1, enable_progress_bar=False)
    return mdata, model


def test_links_and_co_accessibility(fitted):
    mdata, model = fitted
    links = link_peaks_to_genes(mdata, model=model, metacells=40, n_permutations=0)
    groups = np.arange(120)
    arrays = {
        "expression": np.log1p(1e4 * model.get_normalized_expression(return_numpy=True)),
        "accessibility": model.get_normalized_accessibility(return_numpy=True),
    }
    streamed = link_peaks_to_genes(mdata, model=model, metacells=groups, n_permutations=0)
    given = link_peaks_to_genes(mdata, n_permutations=0, **arrays)
    np.testing.assert_allclose(streamed["score"], given["score"], atol=1e-3)
    assert len(links) == len(given)
    pairs = co_accessibility(mdata, values=model, metacells=40)
    assert np.isfinite(pairs["score"]).all()


def test_scores_calls_and_tests(fitted):
    mdata, model = fitted
    score_regions(mdata, mdata["atac"].var_names[:20], values=model)
    assert mdata["atac"].obs["region_score"].std() > 0
    binarize_accessibility(mdata, model)
    calls = mdata["atac"].layers["open"]
    assert calls.nnz == pytest.approx(0.05 * calls.shape[0] * calls.shape[1], rel=0.1)
    first, second = mdata.obs["cell_type"].cat.categories[:2]
    options = {"n_samples_overall": 50, "silent": True}
    table = differential(mdata, "cell_type", first, second, model=model, **options)
    assert len(table) == mdata["atac"].n_vars
    assert "prob_da" in table


def test_a_model_of_other_cells_is_refused(fitted):
    mdata, model = fitted
    with pytest.raises(ValueError, match="a model of 120 cells that are not the 60"):
        link_peaks_to_genes(mdata[:60].copy(), model=model)
