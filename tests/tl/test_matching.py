"""Strata of alike items."""

from __future__ import annotations

import numpy as np

from atacvi.tl._matching import strata


def test_strata_are_of_equal_size_and_nested(rng):
    one, two = rng.normal(size=480), rng.normal(size=480)
    found = strata([one, two], 4, 8)
    assert set(np.bincount(found)) == {30}
    quarter = np.digitize(one, np.quantile(one, [0.25, 0.5, 0.75]))
    for s in range(16):
        mine = found == s
        assert len(set(quarter[mine])) == 1
        others = (quarter == quarter[mine][0]) & ~mine
        inside = (two[others] > two[mine].min()) & (two[others] < two[mine].max())
        assert not inside.any()


def test_few_items_have_few_strata(rng):
    assert strata([rng.normal(size=20)], 4, 8).max() == 1
    assert strata([rng.normal(size=5), rng.normal(size=5)], 4, 8).tolist() == [0] * 5
    assert strata([np.zeros(0)], 4, 8).tolist() == []
