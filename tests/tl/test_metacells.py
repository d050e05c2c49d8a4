"""Groups of alike cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.tl import metacells
from atacvi.tl.metacells import averaging_matrix


def test_metacells_are_compact_and_of_like_size(mdata):
    mdata.obsm["X"] = np.random.default_rng(0).normal(size=(300, 2))
    metacells(mdata, 20, "X")
    sizes = mdata.obs["metacell"].value_counts()
    assert len(sizes) == 20
    assert sizes.max() <= 4 * sizes.min()
    z = pd.DataFrame(mdata.obsm["X"]).groupby(mdata.obs["metacell"].to_numpy())
    assert z.var(ddof=0).mean().mean() < 0.15
    with pytest.raises(ValueError, match="between 1 and the cells"):
        metacells(mdata, 301, "X")


def test_averages_leave_out_cells_without_a_group():
    matrix, names = averaging_matrix(np.array(["b", "a", None, "b"], dtype=object))
    assert list(names) == ["a", "b"]
    np.testing.assert_allclose(matrix @ np.array([1.0, 2.0, 9.0, 3.0]), [2.0, 2.0])
