from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.pl import attention


@pytest.fixture
def blocks():
    return pd.DataFrame(
        {
            "chrom": ["chr1", "chr1,chr2,chr3", "chr3"],
            "start": [0, 5e7, 8e7],
            "end": [5e7, 8e7, 9e7],
        }
    )


@pytest.fixture
def weights(rng):
    return rng.dirichlet(np.ones(3), size=(2, 3))


def test_multiples_of_even_attention_are_drawn(weights, blocks):
    ax = attention((weights, blocks))
    np.testing.assert_allclose(ax.images[0].get_array(), 3 * weights.mean(0))
    names = ["chr1:0–50", "chr1:50–chr3:80", "chr3:80–90"]
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    one = attention((weights, blocks), head=1)
    np.testing.assert_allclose(one.images[0].get_array(), 3 * weights[1])


def test_the_model_is_asked_for_the_cells(weights, blocks, tmp_path):
    class Model:
        def get_attention(self, indices=None):
            self.asked = indices
            return weights, blocks

    model = Model()
    ax = attention(model, indices=[1, 2])
    assert model.asked == [1, 2]
    ax.figure.savefig(tmp_path / "attention.png")


def test_what_does_not_fit_is_refused(weights, blocks):
    with pytest.raises(IndexError, match="head=2; the model has 2"):
        attention((weights, blocks), head=2)
    with pytest.raises(TypeError, match="no get_attention"):
        attention(object())
