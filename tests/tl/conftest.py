"""Small paired data with known links, and a stand-in for a fitted model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi import datasets


class FakeModel:
    """Answers the getters from given matrices, and counts the largest minibatch asked for."""

    def __init__(self, mdata, expression, accessibility):
        self.names = {"rna": mdata["rna"].var_names, "atac": mdata["atac"].var_names}
        self.values = {"rna": expression, "atac": accessibility}
        self.largest = 0
        self.asked = []

    def _get(self, name, indices, wanted):
        self.largest = max(self.largest, len(indices))
        columns = slice(None) if wanted is None else self.names[name].get_indexer(wanted)
        return self.values[name][indices][:, columns]

    def get_normalized_expression(self, indices, gene_list=None, return_numpy=False):
        assert return_numpy
        return self._get("rna", indices, gene_list)

    def get_normalized_accessibility(self, indices, region_list=None, return_numpy=False):
        assert return_numpy
        return self._get("atac", indices, region_list)

    def get_latent_representation(self):
        return np.log(self.values["rna"] + 1e-6)[:, :10]

    def differential_accessibility(self, **kwargs):
        self.asked.append(kwargs)
        return pd.DataFrame({"prob_da": [0.5]}, index=["peak"])


@pytest.fixture(scope="session")
def simulated():
    return datasets.simulate_multiome(300, 120, 800, 4, random_state=0)


@pytest.fixture
def mdata(simulated):
    return simulated.copy()


@pytest.fixture
def model(mdata):
    return FakeModel(mdata, datasets.true_expression(mdata), datasets.true_accessibility(mdata))
