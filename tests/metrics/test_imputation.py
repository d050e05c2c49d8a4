"""Masking and the area of masked entries against zeros."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from atacvi.metrics import mask_nonzeros, masked_auroc, sample_zeros


@pytest.fixture
def counts():
    return sp.random(200, 80, density=0.1, format="csr", random_state=0, dtype=np.float32)


def test_masking_moves_entries_and_loses_none(counts):
    before = counts.copy()
    masked, rows, cols = mask_nonzeros(counts, 0.1, random_state=1)
    assert (counts != before).nnz == 0
    assert masked.nnz + rows.size == counts.nnz
    assert rows.size == pytest.approx(0.1 * counts.nnz, abs=3)
    assert np.all(np.asarray(masked[rows, cols]) == 0)
    back = masked + sp.csr_matrix(
        (np.asarray(counts[rows, cols]).ravel(), (rows, cols)), counts.shape
    )
    assert (back != counts).nnz == 0


def test_masking_follows_the_seed(counts):
    first, again = mask_nonzeros(counts, 0.2, 5), mask_nonzeros(counts, 0.2, 5)
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[2], again[2])
    assert not np.array_equal(first[2], mask_nonzeros(counts, 0.2, 6)[2])


def test_no_cell_is_emptied_and_empty_cells_stay():
    dense = np.vstack([np.eye(50), np.zeros((3, 50))])
    dense[0, 7] = 2
    counts = sp.csr_matrix(dense)
    masked, rows, _ = mask_nonzeros(counts, 0.9, random_state=0)
    left = np.diff(masked.indptr)
    assert np.all(left[:50] == 1)
    assert np.all(left[50:] == 0)
    assert set(rows.tolist()) <= {0}


def test_explicit_zeros_are_not_entries():
    counts = sp.csr_matrix((np.array([1.0, 0.0, 2.0]), ([0, 0, 0], [0, 1, 2])), shape=(1, 4))
    masked, rows, cols = mask_nonzeros(counts, 0.5)
    assert rows.tolist() == [0]
    assert cols.tolist() in ([0], [2])
    assert masked.nnz == 1


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_fraction_out_of_range(counts, fraction):
    with pytest.raises(ValueError, match="has to lie between 0 and 1"):
        mask_nonzeros(counts, fraction)


def test_nothing_to_mask():
    with pytest.raises(ValueError, match="no non-zero"):
        mask_nonzeros(sp.csr_matrix((3, 3)))


def test_area_matches_scikit_learn():
    rng = np.random.default_rng(0)
    positive, negative = np.round(rng.normal(1, 1, 60), 1), np.round(rng.normal(0, 1, 90), 1)
    truth = np.repeat([1, 0], [60, 90])
    expected = roc_auc_score(truth, np.concatenate([positive, negative]))
    assert masked_auroc(positive, negative) == pytest.approx(expected, abs=1e-12)


def test_area_of_bad_scores_is_named():
    with pytest.raises(ValueError, match="`zero_scores` is empty"):
        masked_auroc([1.0], [])
    with pytest.raises(ValueError, match="`masked_scores` holds 1 NaN"):
        masked_auroc([np.nan], [1.0])


def test_zeros_are_drawn_uniformly():
    counts = sp.csr_matrix([[1, 0, 3, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    rows, cols = sample_zeros(counts, 6000, random_state=0)
    drawn = np.zeros(counts.shape)
    np.add.at(drawn, (rows, cols), 1)
    assert drawn[counts.toarray() > 0].sum() == 0
    np.testing.assert_allclose(drawn[counts.toarray() == 0], 1000, atol=130)
    with pytest.raises(ValueError, match="no zero to draw"):
        sample_zeros(sp.csr_matrix(np.ones((2, 2))), 1)
