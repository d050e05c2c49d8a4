from __future__ import annotations

import mudata
import numpy as np
import pytest
from scipy import sparse

from atacvi._compat import without_pull
from atacvi.pl import latent_umap


def test_one_colour_gives_one_axes_and_several_give_an_array(cells):
    ax = latent_umap(cells, "group")
    assert ax.get_title(loc="left") == "group"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    axes = latent_umap(cells, ["group", "depth", "g1"])
    assert axes.shape == (3,)
    assert len({panel.figure for panel in axes}) == 1


def test_no_window_is_opened(cells, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("a window was opened"))
    latent_umap(cells)


def test_coordinates_are_kept_and_follow_the_embedding(cells):
    latent_umap(cells)
    first = cells.obsm["X_multiview_umap"].copy()
    assert first.shape == (60, 2)
    assert "neighbors" not in cells.uns
    assert "connectivities" not in cells.obsp
    cells.obsm["X_multiview_umap"] = first + 1.0  # kept, not computed again
    latent_umap(cells)
    np.testing.assert_array_equal(cells.obsm["X_multiview_umap"], first + 1.0)
    cells.obsm["X_multiview"] = cells.obsm["X_multiview"][::-1].copy()
    latent_umap(cells)
    assert not np.array_equal(cells.obsm["X_multiview_umap"], first + 1.0)


def test_kept_coordinates_survive_a_file(cells, tmp_path):
    import anndata

    latent_umap(cells)
    cells.write(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    again.obsm["X_multiview_umap"] = again.obsm["X_multiview_umap"] + 1.0
    marked = again.obsm["X_multiview_umap"].copy()
    latent_umap(again)
    np.testing.assert_array_equal(again.obsm["X_multiview_umap"], marked)


def test_basis_is_drawn_as_it_is(cells):
    cells.obsm["X_pca"] = np.arange(180.0).reshape(60, 3)
    ax = latent_umap(cells, basis="X_pca")
    drawn = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(np.sort(drawn, axis=0), cells.obsm["X_pca"][:, :2])


def test_points_keep_their_colours_when_shuffled(cells):
    from matplotlib.colors import to_hex

    from atacvi.pl._style import palette

    cells.obsm["X_multiview"] = np.column_stack([np.repeat([0.0, 1.0, 2.0], 20), np.arange(60.0)])
    dots = latent_umap(cells, "group").collections[0]
    group = np.asarray(dots.get_offsets())[:, 0].astype(int)
    colours = [to_hex(c) for c in dots.get_facecolors()]
    assert colours == [to_hex(palette(3)[g]) for g in group]


def test_missing_values_are_grey_and_named(cells):
    cells.obs.loc[cells.obs_names[:5], "group"] = None
    names = [t.get_text() for t in latent_umap(cells, "group").get_legend().get_texts()]
    assert names == ["a", "b", "c", "missing"]
    cells.obs.loc[cells.obs_names[:5], "depth"] = np.nan
    assert len(latent_umap(cells, "depth").collections) == 2


def test_numbers_as_names_stand_in_their_order(cells):
    cells.obs["number"] = cells.obs["number"].astype(str)
    names = [t.get_text() for t in latent_umap(cells, "number").get_legend().get_texts()]
    assert names == [str(i) for i in range(11)]


def test_many_categories_stay_beside_the_axes(cells):
    cells.obs["many"] = [f"type {i % 40}" for i in range(60)]
    ax = latent_umap(cells, "many")
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    legend = ax.get_legend().get_window_extent(renderer)
    assert legend.x0 >= ax.get_window_extent(renderer).x1
    assert legend.x1 <= ax.figure.bbox.x1 + 1
    assert legend.y0 >= -1
    assert legend.y1 <= ax.figure.bbox.y1 + 1


def test_names_on_data_do_not_overlap(cells):
    cells.obs["many"] = [f"t{i % 8}" for i in range(60)]  # all medians fall together
    ax = latent_umap(cells, "many", legend="on data")
    heights = np.sort([text.get_position()[1] for text in ax.texts])
    assert np.diff(heights).min() > 0.02 * np.ptp(cells.obsm["X_multiview_umap"][:, 1])
    assert ax.get_legend() is None


def test_colours_of_a_mudata_are_found_in_its_modalities(cells):
    rna, atac = cells.copy(), cells.copy()
    rna.X = sparse.csr_matrix(rna.X)
    atac.var_names = ["p0", "p1", "p2"]
    del atac.obs["depth"]
    with without_pull():
        mdata = mudata.MuData({"rna": rna, "atac": atac})
    mdata.obsm["X_multiview"] = cells.obsm["X_multiview"]
    assert latent_umap(mdata, ["depth", "g2", "p1"]).shape == (3,)


def test_wrong_arguments_are_named(cells):
    with pytest.raises(KeyError, match="'X_nothing'; it holds.*X_multiview"):
        latent_umap(cells, use_rep="X_nothing")
    with pytest.raises(KeyError, match="'grup' is neither.*group"):
        latent_umap(cells, "grup")
    assert "X_multiview_umap" not in cells.obsm  # refused before the work
    with pytest.raises(ValueError, match="'beside', 'on data' or 'none'"):
        latent_umap(cells, legend="inside")
    with pytest.raises(ValueError, match="no `ax` with a list"):
        latent_umap(cells, ["group", "depth"], ax=latent_umap(cells))
    cells.obsm["X_multiview"][3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        latent_umap(cells)
