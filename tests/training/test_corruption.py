from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from atacvi.training import NEGATIVES, TokenCorruption

N_REGIONS = 120


def cells(n_cells=200, n_regions=N_REGIONS, seed=0, share=0.15) -> sp.csr_matrix:
    """Token sets with very unequal frequencies."""
    rng = np.random.default_rng(seed)
    rate = np.clip(share * rng.lognormal(0, 1, n_regions), 0.01, 0.8)
    return sp.csr_matrix(rng.random((n_cells, n_regions)) < rate)


REGIONS = pd.DataFrame(
    {
        "chrom": np.repeat(["chr1", "chr2"], N_REGIONS // 2),
        "start": np.tile(np.arange(N_REGIONS // 2) * 50_000, 2),
        "end": np.tile(np.arange(N_REGIONS // 2) * 50_000 + 500, 2),
    }
)


def corrupt(corruption, tokens, seed=0):
    ids = tokens.indices.astype(np.int64)
    offsets = tokens.indptr.astype(np.int64)
    return ids, *corruption(ids, offsets, ids, offsets, np.random.default_rng(seed))


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("rate", [0.15, 0.45])
def test_share_of_replacements_and_no_token_that_the_cell_holds(negatives, rate):
    tokens = cells(600)
    corruption = TokenCorruption(tokens, rate, negatives, regions=REGIONS)
    ids, changed, labels = corrupt(corruption, tokens)
    np.testing.assert_array_equal(labels, changed != ids)
    assert labels.mean() == pytest.approx(rate, abs=0.015)
    assert changed.min() >= 0
    assert changed.max() < N_REGIONS
    cell = np.repeat(np.arange(tokens.shape[0]), np.diff(tokens.indptr))
    held = np.asarray(tokens[cell[labels], changed[labels]]).ravel()
    assert not held.any()


def test_uniform_draws_of_the_publication_keep_coincidences_unlabelled():
    tokens = cells(800, n_regions=20)
    corruption = TokenCorruption(tokens, 0.45, "uniform", forbid_held=False)
    ids, changed, labels = corrupt(corruption, tokens)
    np.testing.assert_array_equal(labels, changed != ids)
    assert labels.mean() == pytest.approx(0.45 * (1 - 1 / 20), abs=0.015)


def test_the_same_generator_gives_the_same_draws():
    tokens = cells()
    corruption = TokenCorruption(tokens)
    one, two, other = (corrupt(corruption, tokens, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_tokens_beyond_the_context_are_not_drawn_either():
    tokens = sp.csr_matrix(np.ones((1, 8), dtype=bool))
    wide = sp.hstack([tokens, sp.csr_matrix((1, 2))]).tocsr()
    corruption = TokenCorruption(sp.csr_matrix(np.ones((3, 10))), 0.5, "uniform")
    offsets = np.array([0, 4])
    ids = np.arange(4)
    held, held_offsets = wide.indices.astype(np.int64), np.array([0, 8])
    changed, labels = corruption(ids, offsets, held, held_offsets, np.random.default_rng(0))
    assert set(changed[labels]) <= {8, 9}


def test_a_cell_that_holds_everything_is_left_alone():
    tokens = sp.csr_matrix(np.ones((2, 5), dtype=bool))
    ids, changed, labels = corrupt(TokenCorruption(tokens, 0.5), tokens)
    assert not labels.any()
    np.testing.assert_array_equal(changed, ids)


def test_unigram_draws_follow_the_frequencies():
    tokens = cells(3000, share=0.03)
    count = np.asarray(tokens.sum(0)).ravel()
    corruption = TokenCorruption(tokens, 0.45, "unigram")
    _, changed, labels = corrupt(corruption, tokens)
    drawn = np.bincount(changed[labels], minlength=N_REGIONS)
    assert np.corrcoef(drawn, count)[0, 1] > 0.95
    flat = TokenCorruption(tokens, 0.45, "unigram", alpha=0.0)
    _, changed, labels = corrupt(flat, tokens)
    assert np.bincount(changed[labels], minlength=N_REGIONS).std() < 0.3 * drawn.std()


def test_local_draws_are_nearby():
    tokens = cells(3000, share=0.05)
    assert tokens.sum(0).min() > 0
    corruption = TokenCorruption(tokens, 0.45, "local", regions=REGIONS, window=100_000)
    ids, changed, labels = corrupt(corruption, tokens)
    one, two = REGIONS.iloc[ids[labels]], REGIONS.iloc[changed[labels]]
    assert (one["chrom"].to_numpy() == two["chrom"].to_numpy()).all()
    # five regions on either side at most, 50 kb apart
    assert np.abs(one["start"].to_numpy() - two["start"].to_numpy()).max() <= 5 * 50_000


@pytest.mark.parametrize("negatives", ["uniform", "unigram"])
@pytest.mark.parametrize("forbid_held", [True, False])
def test_closed_form_equals_the_loss_of_an_oracle_without_context(negatives, forbid_held):
    """The oracle counts how often each token was replaced, over many corruptions."""
    tokens = cells(400, n_regions=40)
    corruption = TokenCorruption(tokens, 0.3, negatives, forbid_held=forbid_held)
    seen, replaced = np.zeros(40), np.zeros(40)
    draws = [corrupt(corruption, tokens, seed)[1:] for seed in range(40)]
    for changed, labels in draws:
        seen += np.bincount(changed, minlength=40)
        replaced += np.bincount(changed[labels], minlength=40)
    p = np.clip(replaced / np.maximum(seen, 1), 1e-12, 1 - 1e-12)
    losses = [-np.where(lab, np.log(p[ch]), np.log1p(-p[ch])).mean() for ch, lab in draws]
    assert corruption.unigram_bayes_loss(tokens) == pytest.approx(np.mean(losses), abs=2e-3)


def test_draws_by_frequency_leave_nothing_to_know_without_context():
    tokens = cells(2000, share=0.01)
    for rate, entropy in ((0.45, 0.6881), (0.30, 0.6109), (0.15, 0.4227)):
        corruption = TokenCorruption(tokens, rate, "unigram", forbid_held=False)
        found = corruption.unigram_bayes_loss(tokens)
        assert found == pytest.approx(entropy, abs=0.01)
        uniform = TokenCorruption(tokens, rate, "uniform").unigram_bayes_loss(tokens)
        assert uniform < found - 0.01


@given(st.integers(0, 1000))
def test_the_loss_without_context_lies_below_the_entropy_of_the_labels(seed):
    tokens = cells(50, n_regions=30, seed=seed)
    regions = REGIONS.iloc[:30]
    for negatives in NEGATIVES:
        found = TokenCorruption(tokens, 0.45, negatives, regions=regions).unigram_bayes_loss(tokens)
        assert 0 < found <= 0.6882


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rate": 0.0}, "between 0 and 1"),
        ({"rate": 1.0}, "between 0 and 1"),
        ({"negatives": "hard"}, "uniform, unigram, batch, local"),
        ({"negatives": "local"}, "coordinates"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TokenCorruption(cells(), **kwargs)


def test_no_tokens():
    with pytest.raises(ValueError, match="no tokens"):
        TokenCorruption(sp.csr_matrix((3, 5)))
