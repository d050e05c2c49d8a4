"""How far guidance must go until labels of drawn cells are told like those of real ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.training.guidance import GUIDANCE_SCALES, LabelReader, calibrate_guidance

N_PEAKS, N_CELLS, DEPTH = 60, 600, 12


def profiles(sharpness: float) -> np.ndarray:
    """Rates of three labels, which differ in ten peaks each; 1 is how real cells are."""
    log_rate = np.zeros((3, N_PEAKS))
    for label in range(3):
        log_rate[label, 10 * label : 10 * label + 10] = 1.2 * sharpness
    rate = np.exp(log_rate)
    return DEPTH * rate / rate.sum(axis=1, keepdims=True)


def cells(labels: np.ndarray, sharpness: float, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return sp.csr_matrix(rng.poisson(profiles(sharpness)[labels]).astype(np.float32))


@pytest.fixture(scope="module")
def real() -> tuple[sp.csr_matrix, np.ndarray]:
    labels = np.random.default_rng(0).integers(0, 3, N_CELLS)
    return cells(labels, 1.0, 1), labels


def calibrate(real, blur: float, labels: np.ndarray | None = None) -> tuple[float, list[float]]:
    """Calibrate a generator that loses a share of what tells labels apart; note what it drew."""
    tried: list[float] = []

    def draw(asked: np.ndarray, scale: float) -> sp.csr_matrix:
        tried.append(scale)
        return cells(asked, scale * (1.0 - blur), 2)

    counts, own = real
    return calibrate_guidance(counts, own if labels is None else labels, draw, 0), tried


def test_no_guidance_for_a_faithful_generator(real):
    assert calibrate(real, 0.0) == (1.0, [1.0])


def test_guidance_makes_up_for_what_is_lost(real):
    # 1.3 * (1 - 0.25) is nearly 1; a standard error less is enough
    scale, tried = calibrate(real, 0.25)
    assert 1.2 <= scale <= 1.4
    assert tried == [s for s in GUIDANCE_SCALES if s <= scale]


def test_guidance_ends_where_it_does_not_help(real):
    scale, tried = calibrate(real, 1.0)
    assert scale == GUIDANCE_SCALES[-1]
    assert tried == list(GUIDANCE_SCALES)


def test_unlabelled_cells_and_rare_labels_are_left_out(real):
    labels = real[1].copy()
    labels[:200] = -1
    labels[200:203] = 7  # of three cells: no fold for each
    assert calibrate(real, 0.0, labels)[0] == 1.0


@pytest.mark.parametrize("code", [0, -1])
def test_a_single_label_needs_none(real, code):
    assert calibrate(real, 1.0, np.full(N_CELLS, code)) == (1.0, [])


def test_reader_reads_real_cells_out_of_fold(real):
    counts, labels = real
    reader = LabelReader(counts, labels, 0)
    fresh = np.random.default_rng(5).integers(0, 3, 4000)
    # new cells of the same profiles are told as well as cells that a classifier has not seen
    assert reader.accuracy == pytest.approx(reader.read(cells(fresh, 1.0, 6), fresh), abs=0.05)
    assert reader.read(cells(fresh, 0.0, 7), fresh) == pytest.approx(1 / 3, abs=0.04)
    # binomial: sqrt(p q (1 / 600 + 1 / 400))
    expected = np.sqrt(reader.accuracy * (1 - reader.accuracy) * (1 / 600 + 1 / 400))
    assert reader.standard_error(400) == pytest.approx(expected)


def test_same_seed_same_scale(real):
    assert calibrate(real, 0.25) == calibrate(real, 0.25)
