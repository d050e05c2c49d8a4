from __future__ import annotations

import pytest

from atacvi.pl import training_curves


def _titles(axes):
    return [ax.get_title(loc="left") for ax in axes]


def test_every_term_is_drawn_for_training_and_held_out_cells(model):
    axes = training_curves(model)
    assert _titles(axes) == ["elbo", "kl local", "cycle"]  # no weights, nothing that is zero
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["training cells", "held-out cells"]


def test_names_of_stages_that_begin_together_can_be_read(model):
    model.training_stages_ = [("warm-up", 0), ("mixture", 5), ("cycle", 5.1)]
    ax = training_curves(model, ["elbo"])[0]
    ax.figure.draw_without_rendering()
    boxes = {text.get_text().strip(): text.get_window_extent() for text in ax.texts}
    assert set(boxes) == {"mixture", "cycle"}
    assert not boxes["mixture"].overlaps(boxes["cycle"])


def test_stages_are_marked(model):
    ax = training_curves(model, ["elbo"])[0]
    assert [text.get_text().strip() for text in ax.texts] == ["mixture", "cycle"]
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [4.0, 8.0]
    model.training_stages_ = [("mixture", 5)]
    assert len(training_curves(model, ["elbo"])[0].lines) == 3


def test_history_alone_is_enough(model):
    axes = training_curves(model.history, ["kl_local", "elbo"])
    assert _titles(axes) == ["kl local", "elbo"]
    assert not axes[0].texts


def test_given_axes_take_one_term(model):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert training_curves(model, ["elbo"], ax=ax) is ax
    with pytest.raises(ValueError, match="`ax` takes one term"):
        training_curves(model, ax=ax)


def test_unknown_terms_and_untrained_models_are_named(model):
    with pytest.raises(KeyError, match="no terms.*'loss'.*elbo"):
        training_curves(model, ["loss"])
    model.history = None
    with pytest.raises(ValueError, match=r"model\.train\(\) first"):
        training_curves(model)
