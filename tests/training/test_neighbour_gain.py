from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.training import neighbour_gain
from atacvi.training.neighbour_gain import gain_by_cell, nearest


def planted(rng, n_cells, n_groups=3, n_regions=90):
    group = rng.integers(0, n_groups, n_cells)
    own = np.arange(n_regions) % n_groups == group[:, None]
    return group, sp.csr_matrix(rng.random((n_cells, n_regions)) < np.where(own, 0.4, 0.1))


def test_known_groups_gain_and_no_groups_do_not(rng):
    (known, tokens), (asked, hidden) = planted(rng, 300), planted(rng, 60)
    right = neighbour_gain(np.eye(3)[known], tokens, np.eye(3)[asked], hidden)
    noise = neighbour_gain(rng.normal(size=(300, 3)), tokens, rng.normal(size=(60, 3)), hidden)
    assert right > 0.1
    assert 0 <= noise < 0.03


def test_an_embedding_that_scatters_the_cells_of_a_group_loses(rng):
    (known, tokens), (asked, hidden) = planted(rng, 300), planted(rng, 60)
    one, two = np.eye(3)[known], np.eye(3)[asked]
    scores = [
        neighbour_gain(
            one + s * rng.normal(size=one.shape),
            tokens,
            two + s * rng.normal(size=two.shape),
            hidden,
        )
        for s in (0.1, 1.0, 10.0)
    ]
    assert scores == sorted(scores, reverse=True)


def test_regions_that_no_reference_shows_do_not_count(rng):
    tokens = sp.csr_matrix(np.eye(4, 6))
    assert neighbour_gain(np.eye(4), tokens, np.eye(4)[:1], sp.csr_matrix(np.eye(6)[[5]])) == 0.0
    empty = sp.csr_matrix((1, 6))
    assert neighbour_gain(np.eye(4), tokens, np.eye(4)[:1], empty) == pytest.approx(0.0)


def test_gains_of_cells_sum_to_that_of_all_tokens(rng):
    (known, tokens), (asked, hidden) = planted(rng, 300), planted(rng, 60)
    reference, query = np.eye(3)[known], np.eye(3)[asked]
    by_cell = gain_by_cell(nearest(reference, query), tokens, hidden)
    assert by_cell.shape == (60,)
    expected = neighbour_gain(reference, tokens, query, hidden) * hidden.nnz
    assert by_cell.sum() == pytest.approx(expected)
    alone = sp.vstack([hidden[:5] * 0, hidden[5:]], format="csr")
    alone.eliminate_zeros()
    assert (gain_by_cell(nearest(reference, query), tokens, alone)[:5] == 0).all()
