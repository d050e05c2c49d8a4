"""A model that answers as MultiViewModel does, without training one."""

from __future__ import annotations

import anndata
import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")


class FakeWeights:
    """Stands for a tensor."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def detach(self):
        return self

    def cpu(self):
        return self.values


class FakeModel:
    """What the figures ask of a trained model."""

    def __init__(self, n_cells=60, n_clusters=4, n_epochs=12):
        rng = np.random.default_rng(0)
        self.probabilities = pd.DataFrame(
            rng.dirichlet(np.full(n_clusters, 0.1), n_cells),
            index=[f"cell{i}" for i in range(n_cells)],
            columns=[str(i) for i in range(n_clusters)],
        )
        prior = type("Prior", (), {"weights": FakeWeights(np.full(n_clusters, 1 / n_clusters))})
        self.module = type("Module", (), {"prior": prior})
        epochs = np.arange(n_epochs)
        self.history = {
            f"{term}_{part}": pd.DataFrame(
                {f"{term}_{part}": 10.0 + start * np.exp(-epochs / 3.0)}, index=epochs
            )
            for term, start in (("elbo", 50.0), ("kl_local", 5.0), ("cycle", 2.0))
            for part in ("train", "validation")
        }
        self.history["kl_weight"] = pd.DataFrame({"kl_weight": np.ones(n_epochs)})
        self.history["kl_c_train"] = pd.DataFrame({"kl_c_train": np.zeros(n_epochs)})
        self.training_stages_ = {"warm-up": 0, "mixture": 4, "cycle": 8}

    def get_cluster_probabilities(self):
        return self.probabilities


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def cells():
    """60 cells in three groups with a 5-dimensional embedding."""
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(
        rng.poisson(1.0, (60, 3)).astype(np.float32),
        obs=pd.DataFrame(
            {
                "group": np.repeat(["a", "b", "c"], 20),
                "depth": rng.uniform(1, 5, 60),
                "number": pd.Categorical(np.arange(60) % 11),
            },
            index=[f"cell{i}" for i in range(60)],
        ),
    )
    adata.var_names = ["g0", "g1", "g2"]
    adata.obsm["X_multiview"] = (
        rng.normal(size=(60, 5)) + 8.0 * np.repeat(np.arange(3), 20)[:, None]
    )
    return adata
