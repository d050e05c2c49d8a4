"""Starting values from data."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from atacvi.modules import MultiViewModule
from atacvi.training import cell_parts
from atacvi.training.starts import spectral_peak_embeddings, start_atac, start_rna

N_CELLS, N_GENES, N_PEAKS = 50, 8, 30


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr(cell_parts, "_CELLS_A_BLOCK", 16)


@pytest.fixture
def module() -> MultiViewModule:
    return MultiViewModule(N_GENES, N_PEAKS, n_clusters=2, n_latent=3, n_hidden=8, n_embed=8)


def test_statistics_of_expression(module, rng):
    counts = rng.poisson(2.0, (N_CELLS, N_GENES)).astype(np.float32)
    counts[3] = 0  # not measured
    start_rna(module, sp.csr_matrix(counts).__getitem__, N_CELLS)
    measured = np.delete(counts, 3, axis=0).astype(np.float64)
    depth = measured.sum(1, keepdims=True)
    logged = np.log1p(measured * np.median(depth) / depth)
    encoder = module.rna_encoder
    np.testing.assert_allclose(encoder.mean, logged.mean(0), rtol=1e-5)
    np.testing.assert_allclose(encoder.inverse_deviation, 1 / logged.std(0), rtol=1e-4)
    assert float(encoder.median_depth) == np.median(depth)
    offset = module.rna_head.offset.detach().exp().numpy()
    np.testing.assert_allclose(offset / offset.sum(), counts.sum(0) / counts.sum(), atol=1e-2)


def test_statistics_of_accessibility(module, rng):
    counts = sp.csr_matrix(rng.poisson(0.5, (N_CELLS, N_PEAKS)).astype(np.float32))
    start_atac(module, counts.__getitem__, N_CELLS, np.random.default_rng(0))
    idf = module.atac_encoder.idf.numpy()
    n_open = np.asarray((counts > 0).sum(0)).ravel()
    assert (np.argsort(-n_open, kind="stable")[:1] == idf.argmin()).all() or idf.min() > 0
    assert float(module.atac_median_depth) == np.median(np.asarray(counts.sum(1)))
    assert module.peak_table.isfinite().all()


def test_nothing_measured_changes_nothing(module):
    before = module.peak_table.clone()
    start_rna(module, sp.csr_matrix((4, N_GENES)).__getitem__, 4)
    start_atac(module, sp.csr_matrix((4, N_PEAKS)).__getitem__, 4, np.random.default_rng(0))
    assert torch.equal(before, module.peak_table)


def test_peaks_that_open_together_lie_together():
    """Two sets of peaks, each open in its own cells, have embeddings apart."""
    open_together = np.kron(np.eye(2), np.ones((20, 15))).astype(np.float32)
    rng = np.random.default_rng(0)
    open_together *= rng.random(open_together.shape) < 0.7
    counts = sp.csr_matrix(open_together)
    table = spectral_peak_embeddings(counts, np.ones(30), 8, rng)[:, :2]
    within = ((table[:15] - table[:15].mean(0)) ** 2).sum(1).mean()
    between = ((table[:15].mean(0) - table[15:].mean(0)) ** 2).sum()
    assert table.dtype == np.float32
    assert between > 5 * within
