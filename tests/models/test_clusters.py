"""The cluster posterior finds groups that are there."""

from __future__ import annotations

import numpy as np
import pytest
import scvi
from sklearn.metrics import adjusted_rand_score

import atacvi

from .conftest import QUIET


@pytest.mark.slow
def test_three_separated_groups_are_recovered():
    mdata = atacvi.datasets.simulate_multiome(
        300,
        n_genes=100,
        n_peaks=300,
        n_cell_types=3,
        median_genes_per_cell=60,
        median_peaks_per_cell=80,
        effect_size=2.5,
        trajectory=False,
        random_state=0,
    )
    atacvi.MultiViewModel.setup_mudata(mdata)
    scvi.settings.seed = 0
    model = atacvi.MultiViewModel(mdata, n_clusters=3, n_latent=5, n_hidden=32, n_embed=16)
    model.train(40, batch_size=64, **QUIET)
    shares = model.get_cluster_probabilities().to_numpy()
    found = adjusted_rand_score(mdata.obs["cell_type"], shares.argmax(1))
    assert found > 0.9
    assert (shares.mean(0) > 0.05).sum() == 3
    assert np.mean(np.sum(shares * np.log(shares.clip(1e-12)), axis=1)) > -0.2
