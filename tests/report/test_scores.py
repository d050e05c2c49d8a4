from __future__ import annotations

import numpy as np
import pandas as pd

from atacvi.report.scores import leiden_clusters, score_table


def _cells(rng):
    truth = pd.Series(np.repeat(["a", "b", "c"], 40))
    latent = rng.normal(size=(120, 4)) + 12.0 * np.repeat(np.arange(3), 40)[:, None]
    return truth, latent.astype(np.float32)


def test_clusters_come_in_the_number_asked_for(rng):
    truth, latent = _cells(rng)
    clusters = leiden_clusters(latent, 3, 0)
    assert list(clusters.categories) == ["0", "1", "2"]
    assert pd.crosstab(truth, clusters).gt(0).to_numpy().sum() == 3
    assert len(leiden_clusters(latent, None, 0)) == 120


def test_scores_leave_out_cells_without_truth(rng):
    truth, latent = _cells(rng)
    perfect = pd.Categorical(truth)
    truth[:10] = None
    random = pd.Categorical(rng.choice(list("xyz"), 120))
    table = score_table(truth, {"perfect": (perfect, latent), "random": (random, latent)})
    assert table["method"].tolist() == ["perfect", "random"]
    assert table["ari"][0] == 1.0
    assert abs(table["ari"][1]) < 0.1
    assert (table["knn_accuracy"] == 1.0).all()


def test_too_few_cells_for_neighbours_give_no_accuracy(rng):
    truth, latent = _cells(rng)
    few = pd.Series(np.repeat(["a", "b"], 5))
    table = score_table(few, {"x": (pd.Categorical(few), latent[:10])})
    assert np.isnan(table["knn_accuracy"][0])
    assert table["ari"][0] == 1.0
