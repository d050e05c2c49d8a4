"""Overlap with a reference list."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.tl import compare_degs


def test_overlap_with_a_reference():
    genes = [f"g{i}" for i in range(50)]
    table = pd.DataFrame(
        {"fdr": np.linspace(0, 0.5, 50), "log2_fold_change": np.linspace(2, -2, 50)}, index=genes
    )
    found = compare_degs(table, [*genes[:4], "other"], n_top=[4, 8])
    assert found["n_shared"].tolist() == [4, 4]
    assert found["precision"].tolist() == [1.0, 0.5]
    assert found["n_not_tested"].tolist() == [1, 1]
    assert found["pvalue"].iloc[0] < 1e-4
    assert compare_degs(table, genes[:4])["n_compared"].item() == 5
    falling = compare_degs(table, genes[:4], min_log2_fold_change=1.9)
    assert falling["n_compared"].item() == 2
    with pytest.raises(ValueError, match="none of the 1 names"):
        compare_degs(table, ["other"])
    with pytest.raises(ValueError, match="n_top="):
        compare_degs(genes, genes)
    with pytest.raises(KeyError, match="fdr"):
        compare_degs(table[["log2_fold_change"]], genes)
