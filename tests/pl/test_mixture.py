from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.pl import cluster_confusion, mixture_weights, responsibilities


def test_weights_and_shares_are_drawn(model):
    ax = mixture_weights(model)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], 0.25)
    shares = ax.lines[0].get_ydata()
    np.testing.assert_allclose(shares, model.probabilities.mean(), rtol=1e-6)
    effective = float(ax.get_title(loc="left").split()[0])
    assert 1 <= effective <= 4


def test_weights_go_into_given_axes(model):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert mixture_weights(model, ax=ax) is ax
    assert responsibilities(model, ax=ax) is ax


def test_model_without_mixture_is_refused():
    with pytest.raises(TypeError, match="no mixture prior"):
        mixture_weights(object())
    with pytest.raises(TypeError, match="no get_cluster_probabilities"):
        responsibilities(object())


def test_cells_are_sorted_by_cluster_then_sureness(model):
    drawn = responsibilities(model).images[0].get_array()
    best = drawn.argmax(axis=1)
    assert (np.diff(best) >= 0).all()
    for cluster in np.unique(best):
        assert (np.diff(drawn[best == cluster].max(axis=1)) <= 0).all()


def test_sample_is_of_the_size_asked_for_and_repeatable(model):
    first = responsibilities(model, 20)
    assert first.get_ylabel() == "20 cells of 60"
    again = responsibilities(model.probabilities, 20)
    np.testing.assert_array_equal(first.images[0].get_array(), again.images[0].get_array())


def test_tables_that_hold_no_probabilities_are_refused(model):
    with pytest.raises(ValueError, match="between 0 and 1"):
        responsibilities(model.probabilities * 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        responsibilities(model.probabilities.iloc[:0])
    with pytest.raises(ValueError, match="at least 1"):
        responsibilities(model, 0)


def test_confusion_rows_sum_to_one_and_matches_lie_on_the_diagonal():
    clusters = pd.Series(["2", "2", "0", "0", "1", "1"], dtype="category")
    labels = pd.Series(["a", "a", "b", "b", "c", "c"])
    ax = cluster_confusion(clusters, labels)
    np.testing.assert_array_equal(ax.images[0].get_array(), np.eye(3))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "0", "1"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a (2)", "b (2)", "c (2)"]


def test_confusion_leaves_out_cells_without_a_label():
    ax = cluster_confusion(["0", "1", "1"], ["a", None, "b"])
    assert ax.images[0].get_array().shape == (2, 2)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a (1)", "b (1)"]


def test_confusion_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 clusters were given for 3 labels"):
        cluster_confusion(["0", "1"], ["a", "b", "b"])
    with pytest.raises(ValueError, match="another order"):
        cluster_confusion(pd.Series(["0", "1"], ["x", "y"]), pd.Series(["a", "b"], ["y", "x"]))
    with pytest.raises(ValueError, match="nothing to draw"):
        cluster_confusion(["0", "1"], [None, None])
