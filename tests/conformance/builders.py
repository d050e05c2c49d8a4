"""Ways to build a model of atacvi, and a model trained in each of them.

A file of conformance tests imports both fixtures by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mudata
import pytest
import scvi
import torch

import atacvi
from atacvi._compat import without_pull
from atacvi.data import concat_modalities

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
TINY = {"n_clusters": 3, "n_latent": 5, "n_hidden": 16, "n_embed": 8, "n_tokens": 4}
N_CELLS, N_QUERY, N_EPOCHS = 120, 40, 4


def simulate() -> mudata.MuData:
    """Cells of three types in two batches; 30 genes and 120 peaks."""
    with without_pull():
        return atacvi.datasets.simulate_multiome(
            N_CELLS + N_QUERY,
            n_genes=30,
            n_peaks=120,
            n_cell_types=3,
            n_batches=2,
            median_peaks_per_cell=30,
            random_state=0,
        )


def as_is(mdata: mudata.MuData) -> mudata.MuData:
    return mdata.copy()


def join(mdata: mudata.MuData) -> Any:
    adata = concat_modalities(mdata)
    # Truth of the simulation that only one kind of feature has; not needed here
    adata.var = adata.var[["modality", "chrom", "start", "end"]]
    return adata


def setup_mudata(data: Any, **kwargs: Any) -> None:
    atacvi.MultiViewModel.setup_mudata(data, batch_key="batch", **kwargs)


def setup_anndata(data: Any) -> None:
    atacvi.MultiViewModel.setup_anndata(data, batch_key="batch")


@dataclass(frozen=True)
class Builder:
    """How to build a model."""

    name: str
    model: type
    setup: Callable[..., None]
    convert: Callable[[mudata.MuData], Any] = as_is
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self, data: Any) -> Any:
        scvi.settings.seed = 0
        return self.model(data, **TINY, **self.arguments)

    def train(self, data: Any, max_epochs: int = N_EPOCHS, **kwargs: Any) -> Any:
        self.setup(data)
        model = self.build(data)
        model.train(max_epochs, batch_size=48, **{**QUIET, **kwargs})
        return model


BUILDERS = [
    Builder("multiview", atacvi.MultiViewModel, setup_mudata),
    Builder("multiview-anndata", atacvi.MultiViewModel, setup_anndata, join),
    Builder("multiview-paper", atacvi.MultiViewModel, setup_mudata, arguments={"preset": "paper"}),
]


@dataclass(frozen=True)
class Case:
    """A builder, its data and the model trained on them."""

    builder: Builder
    data: Any
    query: Any
    model: Any


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors of this size take longer on several threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="case", scope="module", params=BUILDERS, ids=lambda builder: builder.name)
def trained_case(request) -> Case:
    builder = request.param
    cells = simulate()
    data = builder.convert(cells[:N_CELLS].copy())
    query = builder.convert(cells[N_CELLS:].copy())
    return Case(builder, data, query, builder.train(data))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def assert_same_weights(one: Any, two: Any) -> None:
    first, second = weights(one), weights(two)
    assert set(first) == set(second)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, different
