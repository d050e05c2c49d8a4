"""Tiny paired data and a model trained on it, shared by the tests of the models."""

from __future__ import annotations

import pytest
import scvi
import torch
from mudata import MuData

import atacvi
from atacvi._compat import without_pull

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
N_CELLS, N_QUERY = 160, 60


def simulate() -> MuData:
    """Cells of three types and two batches, with 40 genes and 150 peaks, in one genome."""
    return atacvi.datasets.simulate_multiome(
        N_CELLS + N_QUERY,
        n_genes=40,
        n_peaks=150,
        n_cell_types=3,
        n_batches=2,
        median_peaks_per_cell=30,
        random_state=0,
    )


def train(mdata: object, max_epochs: int = 4, **kwargs: object) -> atacvi.MultiViewModel:
    """A small model after a few epochs, the mixture among them."""
    scvi.settings.seed = 0
    options = {"n_clusters": 3, "n_latent": 6, "n_hidden": 16, "n_embed": 8, **kwargs}
    model = atacvi.MultiViewModel(mdata, **options)
    model.train(max_epochs, batch_size=64, **QUIET)
    return model


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tensors of this size take longer on several threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def all_cells() -> MuData:
    with without_pull():
        return simulate()


@pytest.fixture(scope="session")
def mdata(all_cells: MuData) -> MuData:
    """The cells to train on."""
    return all_cells[:N_CELLS].copy()


@pytest.fixture
def query(all_cells: MuData) -> MuData:
    """Other cells with the same features, as a batch of their own."""
    cells = all_cells[N_CELLS:].copy()
    cells.obs["batch"] = "new"
    return cells


@pytest.fixture(scope="session")
def model(mdata: MuData) -> atacvi.MultiViewModel:
    atacvi.MultiViewModel.setup_mudata(mdata, batch_key="batch")
    return train(mdata)
