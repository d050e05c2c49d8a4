"""The LSI of a reference against a full decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.metrics import lsi_space


@pytest.fixture
def counts(rng):
    rate = np.repeat(rng.gamma(0.3, 1.0, (4, 60)), 30, axis=0)
    return sp.csr_matrix(rng.poisson(rate))


def _weights(binary, idf):
    return np.log1p(1e4 * binary / np.maximum(binary.sum(axis=1, keepdims=True), 1) * idf)


def test_matches_a_full_decomposition(counts):
    reference, other = counts[::2], counts[1::2]
    binary, unseen = ((matrix.toarray() > 0).astype(float) for matrix in (reference, other))
    idf = np.where(binary.sum(0) > 0, 60 / np.maximum(binary.sum(0), 1), 0)
    _, _, right = np.linalg.svd(_weights(binary, idf))
    spaces = lsi_space(reference, other, n_components=3)
    for space, matrix in zip(spaces, (binary, unseen), strict=True):
        expected = _weights(matrix, idf) @ right[1:4].T
        signs = np.sign((space * expected).sum(axis=0))
        np.testing.assert_allclose(space * signs, expected, atol=2e-2 * np.abs(expected).max())


def test_others_do_not_shape_the_space(counts):
    alone = lsi_space(counts[:80], n_components=5)[0]
    beside = lsi_space(counts[:80], counts[80:], counts[:1], n_components=5)
    np.testing.assert_array_equal(alone, beside[0])
    np.testing.assert_allclose(beside[2], beside[0][:1], rtol=1e-4, atol=1e-4)


def test_counts_are_read_as_open_or_closed(counts):
    for first, second in zip(
        lsi_space(counts, counts * 3), lsi_space(counts > 0, counts.toarray()), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_an_empty_cell_and_an_unseen_peak_give_finite_coordinates(counts):
    wide = sp.csr_matrix(sp.hstack([counts, sp.csr_matrix((120, 1))]))
    odd = sp.csr_matrix(([1.0], ([1], [60])), shape=(2, 61))
    space = lsi_space(wide, odd, n_components=4)[1]
    np.testing.assert_array_equal(space, 0)


def test_a_small_reference_gives_what_it_has(counts):
    assert lsi_space(counts[:6])[0].shape == (6, 5)
    with pytest.raises(ValueError, match=r"shape \(1, 60\)"):
        lsi_space(counts[:1])
    with pytest.raises(ValueError, match=r"60 peaks and `others\[0\]` 59"):
        lsi_space(counts, counts[:, 1:])
