from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import overlap, parse_regions

REGION = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr10"]), st.integers(0, 60), st.integers(1, 25)
).map(lambda t: (t[0], t[1], t[1] + t[2]))
REGIONS = st.lists(REGION, max_size=25).map(
    lambda rows: pd.DataFrame(rows, columns=["chrom", "start", "end"]).astype(
        {"chrom": object, "start": np.int64, "end": np.int64}
    )
)


def brute_force(a, b):
    found = []
    for i, (ca, sa, ea) in enumerate(a.to_numpy().tolist()):
        for j, (cb, sb, eb) in enumerate(b.to_numpy().tolist()):
            length = min(ea, eb) - max(sa, sb)
            if ca == cb and length > 0:
                found.append((i, j, length))
    return found


@given(REGIONS, REGIONS)
def test_overlap_equals_brute_force(a, b):
    assert list(zip(*(x.tolist() for x in overlap(a, b)), strict=True)) == brute_force(a, b)


def test_overlap_equals_bioframe(rng):
    import bioframe

    tables = []
    for n in (3000, 2000):
        start = rng.integers(0, 10**6, n)
        chrom = rng.choice(["chr1", "chr2", "chrX"], n).astype(object)
        end = start + rng.integers(1, 2000, n)
        tables.append(pd.DataFrame({"chrom": chrom, "start": start, "end": end}))
    a, b = tables
    expected = bioframe.overlap(a, b, how="inner", return_index=True, return_overlap=True)
    length = (expected["overlap_end"] - expected["overlap_start"]).to_numpy(dtype=int)
    rows = zip(expected["index"].astype(int), expected["index_"].astype(int), length, strict=True)
    assert sorted(zip(*(x.tolist() for x in overlap(a, b)), strict=True)) == sorted(
        (int(i), int(j), int(n)) for i, j, n in rows
    )


def test_touching_regions_do_not_overlap():
    a, b = parse_regions(["chr1:0-10"]), parse_regions(["chr1:10-20"])
    assert [len(x) for x in overlap(a, b)] == [0, 0, 0]


def test_chromosome_end_does_not_reach_the_next_chromosome():
    a, b = parse_regions(["chr1:0-100"]), parse_regions(["chr2:0-100"])
    assert len(overlap(a, b)[0]) == 0
