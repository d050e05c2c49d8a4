from __future__ import annotations

import anndata
import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from atacvi.metrics import coaccessibility_correlation, depth_ks, peak_mean_correlation
from atacvi.pl import generation

TYPES = np.repeat(["a", "b", "c"], 15)


@pytest.fixture
def pair(rng):
    rate = rng.gamma(0.5, 1.0, (3, 50))[np.repeat(np.arange(3), 15)]
    return rng.poisson(rate), rng.poisson(rate)


def test_titles_are_the_scores(pair):
    origin, depth, frequency, pairs = generation(*pair)
    assert depth.get_title(loc="left") == f"depth: KS {depth_ks(*pair):.2f}"
    r = peak_mean_correlation(*pair).pcc
    assert frequency.get_title(loc="left") == f"r = {r:.2f} (50 peaks)"
    r = coaccessibility_correlation(*pair)
    assert pairs.get_title(loc="left").startswith(f"r = {r:.2f} (")
    # 45 + 45 cells are too few for a UMAP
    assert origin.get_xlabel() == "LSI 2"
    assert [text.get_text() for text in origin.get_legend().get_texts()] == [
        "real (45)",
        "generated (45)",
    ]


def test_each_cell_has_the_colour_of_its_set(pair):
    origin = generation(pair[0], pair[1][:20])[0]
    colours = [matplotlib.colors.to_hex(c) for c in origin.collections[0].get_facecolors()]
    handles = [h.get_color().lower() for h in origin.get_legend().legend_handles]
    assert [colours.count(colour) for colour in handles] == [45, 20]


def test_depths_are_all_in_the_histogram(pair):
    empty = pair[1].copy()
    empty[0] = 0  # a cell without any peak stays on the paper
    bars = generation(pair[0], empty)[1].patches
    heights = sum(bar.get_height() for bar in bars if hasattr(bar, "get_height"))
    assert heights == pytest.approx(2)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_profiles_are_centred_correlations(kind, pair):
    axes = generation(kind(pair[0]), kind(pair[1]), TYPES, TYPES)
    assert len(axes) == 6
    shares = [np.stack([(m[TYPES == t] > 0).mean(axis=0) for t in "abc"]) for m in pair]
    expected = np.corrcoef(*[s - s.mean(axis=0) for s in shares])[:3, 3:]
    np.testing.assert_allclose(axes[5].images[0].get_array(), expected, atol=1e-10)
    assert (expected.argmax(axis=1) == np.arange(3)).all()


def test_a_column_of_both_names_the_types(pair):
    cells = [
        anndata.AnnData(
            x.astype(np.float32),
            obs=pd.DataFrame({"type": TYPES}, index=[f"c{i}" for i in range(45)]),
        )
        for x in pair
    ]
    found = generation(*cells, "type")[5].images[0].get_array()
    expected = generation(*pair, TYPES, TYPES)[5].images[0].get_array()
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(KeyError, match="'kind' is neither"):
        generation(*cells, "kind")


def test_types_that_differ_give_a_table_of_both(pair):
    profiles = generation(*pair, TYPES, np.repeat(["a", "z"], [30, 15]))[5]
    assert profiles.images[0].get_array().shape == (3, 2)


def test_large_sets_are_sampled_in_the_space_only(pair):
    axes = generation(*pair, max_cells=10)
    assert len(axes[0].collections[0].get_offsets()) == 20
    assert axes[1].get_title(loc="left") == f"depth: KS {depth_ks(*pair):.2f}"


@pytest.mark.slow
def test_many_cells_get_a_umap(pair):
    twice = [np.vstack([part, part]) for part in pair]
    assert generation(*twice)[0].get_xlabel() == "UMAP 1"
    assert generation(*twice, basis="lsi")[0].get_xlabel() == "LSI 2"


def test_what_does_not_fit_is_refused_before_a_figure_is_made(pair):
    import matplotlib.pyplot as plt

    with pytest.raises(ValueError, match="'umap', 'lsi' or None"):
        generation(*pair, basis="tsne")
    with pytest.raises(ValueError, match="50 peaks and `generated` 49"):
        generation(pair[0], pair[1][:, 1:])
    with pytest.raises(ValueError, match="names a column of obs"):
        generation(*pair, "type")
    with pytest.raises(ValueError, match="give both or neither"):
        generation(*pair, TYPES)
    with pytest.raises(ValueError, match="44 known labels for 45 real cells"):
        generation(*pair, [None, *TYPES[1:]], TYPES)
    with pytest.raises(ValueError, match="negative"):
        generation(pair[0], -pair[1])
    assert not plt.get_fignums()
