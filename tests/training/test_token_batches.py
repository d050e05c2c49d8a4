from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from atacvi.training import (
    BatchPlan,
    TokenBatchSampler,
    TokenDataModule,
    TokenDataset,
    TokenRows,
    pack,
    split_cells,
    thin_cells,
    token_loader,
)


@pytest.fixture
def tokens():
    dense = np.random.default_rng(0).random((40, 200)) < 0.2
    dense[7] = False
    return sp.csr_matrix(dense)


# ---- contexts -------------------------------------------------------------------------------


def test_long_cells_give_exactly_the_context_without_repeats(tokens):
    rows = TokenRows(tokens, max_tokens=10, seed=3)
    for cell in range(tokens.shape[0]):
        sample, row = rows.sample(cell), rows.row(cell)
        assert len(sample) == min(10, len(row)) == rows.lengths[cell]
        assert len(set(sample)) == len(sample)
        assert set(sample) <= set(row)


def test_samples_are_seeded_by_seed_epoch_and_cell(tokens):
    rows = TokenRows(tokens, max_tokens=10, seed=3)
    np.testing.assert_array_equal(rows.sample(0, epoch=1), rows.sample(0, epoch=1))
    assert not np.array_equal(rows.sample(0, epoch=1), rows.sample(0, epoch=2))
    other = TokenRows(tokens, max_tokens=10, seed=4)
    assert not np.array_equal(rows.sample(0), other.sample(0))
    together, offsets = rows.gather([5, 0, 9])
    np.testing.assert_array_equal(together[offsets[1] : offsets[2]], rows.sample(0))


def test_cells_that_fit_do_not_depend_on_the_seed(tokens):
    one, two = (TokenRows(tokens, max_tokens=200, seed=s) for s in (0, 1))
    np.testing.assert_array_equal(one.gather(range(40))[0], two.gather(range(40))[0])
    np.testing.assert_array_equal(one.gather(range(40))[0], tokens.indices)


def test_first_keeps_the_lowest_ids(tokens):
    rows = TokenRows(tokens, max_tokens=5, truncation="first")
    np.testing.assert_array_equal(rows.sample(0), np.sort(rows.row(0))[:5])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"max_tokens": 0}, "at least 1 token"), ({"truncation": "last"}, "choose 'random'")],
)
def test_wrong_contexts(tokens, kwargs, message):
    with pytest.raises(ValueError, match=message):
        TokenRows(tokens, **kwargs)


# ---- minibatches ----------------------------------------------------------------------------

lengths = st.lists(st.integers(0, 50), min_size=1, max_size=60)


@given(lengths, st.integers(1, 200), st.booleans(), st.booleans(), st.integers(0, 3))
def test_each_cell_comes_once_in_minibatches_within_the_budget(sizes, budget, shuffle, by, epoch):
    sizes = np.array(sizes)
    sampler = TokenBatchSampler(
        sizes, np.arange(len(sizes)), budget, shuffle=shuffle, by_length=by, seed=1
    )
    sampler.set_epoch(epoch)
    plans = list(sampler)
    assert sorted(np.concatenate([plan.cells for plan in plans])) == list(range(len(sizes)))
    longest = max(1, sizes.max())
    assert all(np.maximum(sizes[plan.cells], 1).sum() < budget + longest + 1 for plan in plans)
    assert len(plans) <= len(sampler)


@given(lengths, st.integers(1, 3))
def test_devices_share_the_cells_and_take_equal_steps(sizes, n_devices):
    sizes = np.array(sizes)
    shares = []
    for rank in range(n_devices):
        sampler = TokenBatchSampler(
            sizes, np.arange(len(sizes)), 40, rank=rank, n_devices=n_devices
        )
        shares.append(list(sampler))
    assert len({len(share) for share in shares}) == 1
    seen = np.concatenate([plan.cells for share in shares for plan in share])
    assert set(seen) == set(range(len(sizes)))


def test_the_order_changes_with_the_epoch_but_not_the_number_of_minibatches():
    sizes = np.random.default_rng(0).integers(1, 30, 100)
    sampler = TokenBatchSampler(sizes, np.arange(100), 60, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([plan.cells.tolist() for plan in sampler])
        assert len(orders[-1]) == len(sampler)
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]


def test_cells_of_similar_length_come_together_when_asked():
    sizes = np.random.default_rng(0).permutation(np.repeat([1, 1000], 200))
    spread = []
    for by_length in (False, True):
        sampler = TokenBatchSampler(sizes, np.arange(400), 10_000, by_length=by_length)
        spread.append(np.mean([sizes[plan.cells].std() for plan in sampler]))
    assert spread[1] < 0.5 * spread[0]


def test_max_cells():
    sampler = TokenBatchSampler(np.ones(100, dtype=int), np.arange(100), 1000, max_cells=16)
    assert max(len(plan.cells) for plan in sampler) <= 16


def test_wrong_minibatches():
    with pytest.raises(ValueError, match="at least 1 token"):
        TokenBatchSampler(np.ones(3), np.arange(3), 0)
    with pytest.raises(ValueError, match="no cells"):
        TokenBatchSampler(np.ones(3), np.arange(0), 5)


# ---- views ----------------------------------------------------------------------------------


@given(lengths, st.integers(0, 100))
def test_parts_of_a_cell_are_disjoint_and_complete(sizes, seed):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    ids = np.arange(offsets[-1]) * 3
    parts = split_cells(ids, offsets, np.random.default_rng(seed))
    for cell in range(len(sizes)):
        one, two = (set(i[o[cell] : o[cell + 1]]) for i, o in parts)
        assert not one & two
        assert one | two == set(ids[offsets[cell] : offsets[cell + 1]])
        if sizes[cell] > 1:
            assert one
            assert two


def test_parts_are_of_unequal_size():
    offsets = np.arange(0, 100 * 201, 100)
    (_, first), _ = split_cells(np.arange(20_000), offsets, np.random.default_rng(0))
    shares = np.diff(first) / 100
    assert shares.min() < 0.3
    assert shares.max() > 0.7
    assert 0.25 <= shares.min()
    assert shares.max() <= 0.75


@given(lengths, st.floats(0, 1))
def test_thinned_cells_keep_a_token(sizes, share):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    ids, kept = thin_cells(np.arange(offsets[-1]), offsets, np.random.default_rng(0), share)
    for cell, size in enumerate(sizes):
        row = ids[kept[cell] : kept[cell + 1]]
        assert set(row) <= set(range(offsets[cell], offsets[cell + 1]))
        assert (len(row) > 0) == (size > 0)


def test_loader_gives_views_and_columns(tokens):
    rows = TokenRows(tokens)

    def view(plan, ids, offsets):
        return {"tokens": pack(ids, offsets)}

    dataset = TokenDataset(rows, view, {"labels": np.arange(40)[:, None]})
    loader = token_loader(dataset, TokenBatchSampler(rows.lengths, np.arange(40), 400))
    for batch in loader:
        cells = batch["labels"].ravel().numpy()
        ids, offsets = rows.gather(cells)
        assert batch["tokens"].ids.tolist() == ids.tolist()
        assert batch["tokens"].offsets.tolist() == offsets.tolist()


def test_data_module_leaves_out_empty_cells_and_repeats_its_validation(tokens):
    rows = TokenRows(tokens)
    plans: list[BatchPlan] = []

    def view(plan, ids, offsets):
        plans.append(plan)
        return {}

    dataset = TokenDataset(rows, view)
    parts = (np.arange(30), np.arange(30, 40), np.arange(0))
    data = TokenDataModule(dataset, dataset, *parts, token_budget=100)
    list(data.train_dataloader())
    assert sorted(np.concatenate([p.cells for p in plans])) == [i for i in range(30) if i != 7]
    found = []
    for _ in range(2):
        plans.clear()
        loader = data.val_dataloader()
        loader.sampler.set_epoch(len(found))
        list(loader)
        found.append([(p.epoch, p.number, p.cells.tolist()) for p in plans])
    assert found[0] == found[1]
    assert (data.n_train, data.n_val) == (30, 10)
