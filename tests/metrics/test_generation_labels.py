"""Types of generated cells: recovery, and training on them."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.metrics import label_recovery, synthetic_training_accuracy

LABELS = np.repeat(["a", "b", "c"], 40)
CENTRES = 8.0 * np.eye(3)


@pytest.fixture
def draw(rng):
    return lambda: CENTRES[np.repeat(np.arange(3), 40)] + rng.normal(size=(120, 3))


def test_separated_types_are_recovered(draw):
    assert label_recovery(draw(), LABELS, draw(), LABELS) == pytest.approx(1, abs=0.02)
    # Asked for types in another order, every cell is of the wrong one.
    assert label_recovery(draw(), LABELS, draw(), np.roll(LABELS, 40)) == pytest.approx(0, abs=0.02)


def test_a_generator_that_ignores_the_type_is_at_chance(draw, rng):
    assert label_recovery(draw(), LABELS, rng.permutation(draw()), LABELS) == pytest.approx(
        1 / 3, abs=0.12
    )


def test_a_dropped_type_costs_its_share(draw):
    drawn = draw()
    two = LABELS != "c"
    found = synthetic_training_accuracy(drawn[two], LABELS[two], draw(), LABELS, draw(), LABELS)
    assert found.synthetic == pytest.approx(2 / 3, abs=0.02)
    assert found.real == pytest.approx(1, abs=0.02)


def test_labels_of_all_kinds_compare_as_text(draw):
    import pandas as pd

    train, cells = draw(), draw()
    codes = np.repeat([1, 2, 3], 40)
    expected = label_recovery(train, codes, cells, codes)
    assert label_recovery(train, pd.Categorical(codes), cells, codes.astype(str)) == expected


def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(ValueError, match="of type 'a'"):
        label_recovery(draw()[:40], LABELS[:40], draw(), LABELS)
    with pytest.raises(ValueError, match="`generated_labels` holds 40 labels for 120"):
        label_recovery(draw(), LABELS, draw(), LABELS[:40])
