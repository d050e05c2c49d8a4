from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import nearest, parse_regions

REGION = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr10"]), st.integers(0, 60), st.integers(1, 25)
).map(lambda t: (t[0], t[1], t[1] + t[2]))
REGIONS = st.lists(REGION, max_size=20).map(
    lambda rows: pd.DataFrame(rows, columns=["chrom", "start", "end"]).astype(
        {"chrom": object, "start": np.int64, "end": np.int64}
    )
)


@given(REGIONS, REGIONS)
def test_distance_equals_brute_force(query, reference):
    index, distance = nearest(query, reference)
    for row, (chrom, start, end) in enumerate(query.to_numpy().tolist()):
        gaps = [
            max(0, s - end, start - e) if c == chrom else np.inf
            for c, s, e in reference.to_numpy().tolist()
        ]
        if not gaps or min(gaps) == np.inf:
            assert (index[row], distance[row]) == (-1, -1)
        else:
            assert distance[row] == min(gaps) == gaps[index[row]]


def test_distance_equals_bioframe(rng):
    import bioframe

    tables = []
    for n in (2000, 300):
        start = rng.integers(0, 10**6, n)
        chrom = rng.choice(["chr1", "chr2", "chrX"], n).astype(object)
        table = pd.DataFrame({"chrom": chrom, "start": start, "end": start + 500})
        tables.append(table)
    expected = bioframe.closest(*tables, return_index=True).sort_values("index")
    found = nearest(*tables)[1]
    assert (expected["distance"].to_numpy(dtype=int) == found).all()


def test_the_left_one_of_equals():
    query = parse_regions(["chr1:50-60"])
    assert nearest(query, parse_regions(["chr1:70-80", "chr1:30-40"]))[0].tolist() == [1]
