"""Local inverse Simpson's indices against scib-metrics and against a direct computation."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.metrics import batch_ilisi, label_clisi, lisi


@pytest.fixture
def cells(rng):
    labels = rng.integers(0, 3, 400)
    shift = np.zeros((3, 4))
    shift[:, 0] = [0.0, 1.0, 6.0]
    return rng.normal(size=(400, 4)) + shift[labels], labels


def test_index_is_that_of_a_direct_computation(cells):
    z, labels = cells
    found = lisi(z, labels, perplexity=10, n_neighbors=30)
    for cell in range(0, 400, 57):
        distance = np.linalg.norm(z - z[cell], axis=1)
        nearest = np.argsort(distance)[1:31]
        d = distance[nearest]
        low, high = 1e-4, 1e4
        for _ in range(200):
            beta = np.sqrt(low * high)
            p = np.exp(-beta * (d - d.min()))
            p /= p.sum()
            entropy = -(p * np.log(p + 1e-300)).sum()
            low, high = (beta, high) if entropy > np.log(10) else (low, beta)
        shares = [p[labels[nearest] == k].sum() for k in range(3)]
        assert found[cell] == pytest.approx(1 / np.square(shares).sum(), abs=1e-3)


def test_ends_of_the_scales(rng):
    labels = np.arange(600) % 2
    z = rng.normal(size=(600, 3))
    assert batch_ilisi(z, labels) > 0.9
    assert label_clisi(z, labels) < 0.1
    apart = z + 50 * labels[:, None]
    assert batch_ilisi(apart, labels) == pytest.approx(0, abs=1e-6)
    assert label_clisi(apart, labels) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_agreement_with_scib_metrics(cells):
    import scib_metrics as scib
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    z, labels = cells
    # Their neighbours hold the cell itself first, at distance zero.
    distance, index = NearestNeighbors(n_neighbors=91).fit(z).kneighbors(z)
    found = NeighborsResults(indices=index, distances=distance)
    theirs = scib.clisi_knn(found, labels, perplexity=30, scale=True)
    assert label_clisi(z, labels) == pytest.approx(theirs, abs=0.03)
    theirs = scib.ilisi_knn(found, labels, perplexity=30, scale=True)
    assert batch_ilisi(z, labels) == pytest.approx(theirs, abs=0.03)


def test_what_does_not_fit_is_refused(cells):
    z, labels = cells
    with pytest.raises(ValueError, match="perplexity=30 with 9 neighbours of 10 cells"):
        lisi(z[:10], labels[:10])
    with pytest.raises(ValueError, match="One group"):
        lisi(z, np.zeros(400))
