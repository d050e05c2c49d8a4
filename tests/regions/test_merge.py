from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import merge, parse_regions

REGION = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr10"]), st.integers(0, 200), st.integers(1, 25)
).map(lambda t: (t[0], t[1], t[1] + t[2]))
REGIONS = st.lists(REGION, min_size=1, max_size=40).map(
    lambda rows: pd.DataFrame(rows, columns=["chrom", "start", "end"]).astype(
        {"chrom": object, "start": np.int64, "end": np.int64}
    )
)


@given(REGIONS, st.integers(0, 10))
def test_merge_equals_bioframe(regions, max_gap):
    import bioframe

    expected = bioframe.merge(regions, min_dist=max_gap)
    of_region, merged = merge(regions, max_gap=max_gap)
    columns = ["chrom", "start", "end", "n_regions"]
    wanted = expected.rename(columns={"n_intervals": "n_regions"})[columns]
    assert sorted(map(tuple, merged.to_numpy().tolist())) == sorted(
        map(tuple, wanted.to_numpy().tolist())
    )
    inside = merged.iloc[of_region].reset_index(drop=True)
    assert (inside["chrom"].to_numpy() == regions["chrom"].to_numpy()).all()
    assert (inside["start"] <= regions["start"]).all()
    assert (inside["end"] >= regions["end"]).all()


def test_nothing_to_merge():
    of_region, merged = merge(parse_regions([]))
    assert (len(of_region), len(merged)) == (0, 0)
    with pytest.raises(ValueError, match="max_gap=-1"):
        merge(parse_regions([]), max_gap=-1)


def test_a_long_region_holds_later_ones():
    merged = merge(parse_regions(["chr1:0-100", "chr1:5-10", "chr1:50-60", "chr1:101-110"]))[1]
    assert merged.to_numpy().tolist() == [["chr1", 0, 100, 3], ["chr1", 101, 110, 1]]
