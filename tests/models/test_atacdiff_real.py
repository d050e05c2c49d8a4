"""ATACDiffModel on cells of blood and leukemia whose types are known."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scvi
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier

import atacvi
from atacvi.pp import fit_spectral, map_spectral

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def test_types_of_leukemia_cells_are_recovered(real_file):
    adata = anndata.read_h5ad(real_file("leukemia_corces2016.h5ad"))
    atacvi.pp.filter_features(adata, min_cells=5)
    atacvi.ATACDiffModel.setup_anndata(adata, labels_key="cell_type")
    scvi.settings.seed = 0
    model = atacvi.ATACDiffModel(adata)
    model.train(15, batch_size=64, enable_progress_bar=False)
    types = adata.obs["cell_type"].astype(str).to_numpy()
    assert adjusted_rand_score(types, model.predict_clusters()) > 0.3
    labels = np.repeat(np.unique(types), 20)
    drawn = model.generate(labels=labels, seed=0, output="binary")
    assert drawn.X.sum() / drawn.n_obs == pytest.approx((adata.X > 0).sum() / adata.n_obs, rel=0.3)
    # A classifier of real cells in a space fitted to these, which the generated ones never saw
    fit = fit_spectral(adata.X, 10)
    known = KNeighborsClassifier(10).fit(map_spectral(adata.X, fit), types)
    found = known.predict(map_spectral(drawn.X, fit))
    chance = 1 / len(np.unique(types))
    error = np.sqrt(chance * (1 - chance) / len(labels))
    assert (found == labels).mean() > chance + 4 * error
