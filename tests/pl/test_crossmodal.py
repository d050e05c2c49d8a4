"""Figures of two modalities in one space."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi import metrics, pl


@pytest.fixture
def pair(rng):
    rna = rng.normal(size=(60, 4))
    return rna, rna + rng.normal(size=(60, 4))


def test_recall_curve_shows_the_recall(pair):
    axes = pl.retrieval_recall(pair, [1, 5, 60])
    curve, chance = axes.lines
    both = [metrics.recall_at_k(*p, [5])[5] for p in (pair, pair[::-1])]
    assert curve.get_ydata()[1] == pytest.approx(np.mean(both))
    assert curve.get_ydata()[-1] == 1
    np.testing.assert_allclose(chance.get_ydata(), [1 / 60, 5 / 60, 1])


def test_several_pairs_have_a_legend(pair):
    axes = pl.retrieval_recall({"start": pair, "trained": (pair[0], pair[0])})
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["start", "trained", "chance"]


def test_joint_space_draws_all_cells_of_both(pair):
    points = np.vstack([p[:, :2] for p in pair])
    axes = pl.joint_space(*pair, ["a", "b"] * 30, basis=points, links=10)
    assert len(axes) == 2
    assert len(axes[0].collections[-1].get_offsets()) == 120
    assert len(axes[0].collections[0].get_segments()) == 10
    labels = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert labels == ["a", "b"]
    assert len(set(map(tuple, axes[0].collections[-1].get_facecolors()))) == 2


def test_what_cannot_be_drawn(pair):
    with pytest.raises(ValueError, match="one space"):
        pl.joint_space(pair[0], pair[1][:, :2])
    with pytest.raises(ValueError, match="7 labels"):
        pl.joint_space(*pair, list("abcdefg"), basis=np.zeros((120, 2)))
    with pytest.raises(ValueError, match="basis"):
        pl.joint_space(*pair, basis=np.zeros((60, 2)))
    with pytest.raises(ValueError, match="links"):
        pl.joint_space(pair[0], pair[1][:5], basis=np.zeros((65, 2)), links=3)
    with pytest.raises(ValueError, match="no pair"):
        pl.retrieval_recall({})
