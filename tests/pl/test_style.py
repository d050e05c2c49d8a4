from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from atacvi.pl._style import palette, shorten


@pytest.mark.parametrize("n_categories", [1, 8, 9, 15, 40])
def test_colours_are_distinct(n_categories):
    colours = palette(n_categories)
    assert len(set(colours)) == n_categories


@pytest.mark.parametrize("n_categories", [8, 15])
def test_colours_differ_for_the_colour_blind(n_categories):
    """Deuteranopia after Viénot et al. (1999): red and green fall together."""
    matrix = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    linear = np.array([to_rgb(c) for c in palette(n_categories)]) ** 2.2
    seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert distance[np.triu_indices(n_categories, 1)].min() > 0.08


def test_long_labels_are_cut():
    assert shorten("x" * 40) == "x" * 27 + "…"
    assert shorten(3) == "3"
