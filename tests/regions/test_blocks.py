from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import genome_blocks, parse_regions, sort_order


def test_chromosomes_are_ordered_naturally():
    chroms = ["chrM", "chrUn_10", "chr10", "chrX", "chrUn_9", "chr2", "GL000194.1", "chrY", "chr1"]
    regions = parse_regions([f"{chrom}:1-5" for chrom in chroms])
    ordered = regions["chrom"].iloc[sort_order(regions)].tolist()
    assert ordered[:6] == ["chr1", "chr2", "chr10", "chrX", "chrY", "chrM"]
    assert ordered[6:] == ["GL000194.1", "chrUn_9", "chrUn_10"]


def test_positions_are_ordered_as_numbers_and_stable():
    regions = parse_regions(["chr1:100-200", "chr1:20-90", "chr1:20-30", "chr1:100-200"])
    assert sort_order(regions).tolist() == [2, 1, 0, 3]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70))
def test_blocks_are_contiguous_and_balanced(chroms, n_blocks):
    rng = np.random.default_rng(len(chroms))
    start = rng.integers(0, 1000, len(chroms))
    regions = pd.DataFrame(
        {"chrom": [f"chr{c}" for c in chroms], "start": start, "end": start + 10}
    )
    block, table = genome_blocks(regions, n_blocks)
    expected = min(n_blocks, len(chroms))
    assert len(table) == expected
    assert np.bincount(block, minlength=expected).tolist() == table["n_regions"].tolist()
    assert (table["n_regions"] > 0).all()
    # numbered along the genome: neighbours stay together
    assert (np.diff(block[sort_order(regions)]) >= 0).all()
    if expected >= len(set(chroms)):
        assert regions.groupby(block)["chrom"].nunique().max() == 1
    else:
        assert np.ptp(table["n_regions"]) <= 1
    for i, row in table.iterrows():
        inside = regions[block == i]
        assert set(row["chrom"].split(",")) == set(inside["chrom"])
        if "," not in row["chrom"]:
            assert (row["start"], row["end"]) == (inside["start"].min(), inside["end"].max())


def test_large_chromosomes_get_more_blocks():
    regions = parse_regions(
        [f"chr1:{i}-{i + 1}" for i in range(90)] + [f"chr2:{i}-{i + 1}" for i in range(10)]
    )
    _, table = genome_blocks(regions, 10)
    assert table["n_regions"].tolist() == [10] * 10


@pytest.mark.parametrize(("n_blocks", "names"), [(0, ["chr1:1-2"]), (3, [])])
def test_blocks_refuse_nothing_to_cut(n_blocks, names):
    with pytest.raises(ValueError, match="at least 1"):
        genome_blocks(parse_regions(names), n_blocks)
