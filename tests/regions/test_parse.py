from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import format_regions, has_regions, parse_regions

CHROMS = st.sampled_from(["chr1", "1", "X", "chr1_KI270706v1_random", "GL000194.1", "HLA-A*01:01"])
INTERVALS = st.tuples(CHROMS, st.integers(0, 2**31), st.integers(1, 10**6)).map(
    lambda t: (t[0], t[1], t[1] + t[2])
)


@given(st.lists(INTERVALS, max_size=20), st.sampled_from([":-", "--", "__", ":_"]))
def test_parse_reads_back_what_was_written(intervals, separators):
    first, second = separators
    table = parse_regions([f"{c}{first}{s}{second}{e}" for c, s, e in intervals])
    assert [tuple(row) for row in table.to_numpy().tolist()] == intervals
    again = parse_regions(format_regions(table))
    assert again.to_numpy().tolist() == table.to_numpy().tolist()


@pytest.mark.parametrize(
    "columns",
    [
        ("chrom", "start", "end"),
        ("chr", "start", "end"),
        ("seqnames", "start", "stop"),
        ("chromosome", "chromStart", "chromEnd"),
    ],
)
def test_columns_win_over_names(columns):
    var = pd.DataFrame([["chr1", 5, 9]], columns=list(columns), index=["chr9:1-2"])
    table = parse_regions(var)
    assert table.to_numpy().tolist() == [["chr1", 5, 9]]
    assert table.index.tolist() == ["chr9:1-2"]
    assert table["start"].dtype == np.int64


def test_interval_column_of_10x():
    var = pd.DataFrame({"interval": ["chr1:5-9"]}, index=["peak_1"])
    assert parse_regions(var).to_numpy().tolist() == [["chr1", 5, 9]]


def test_columns_of_other_types():
    var = pd.DataFrame({"chrom": pd.Categorical(["chr1"]), "start": ["5"], "end": [9.0]})
    assert parse_regions(var).to_numpy().tolist() == [["chr1", 5, 9]]
    var = var.astype({"chrom": "string", "start": "Int64"})
    assert parse_regions(var).to_numpy().tolist() == [["chr1", 5, 9]]


def test_unparsable_names_are_listed():
    names = ["chr1:1-2", *[f"gene{i}" for i in range(7)]]
    with pytest.raises(
        ValueError, match=r"7 of 8 names are not regions: 'gene0', .*'gene4', \.\.\."
    ):
        parse_regions(names)


@pytest.mark.parametrize("name", ["chr1:10-5", "chr1:5-5"])
def test_reversed_and_empty_regions_are_named(name):
    with pytest.raises(ValueError, match=rf"1 of 2 regions are reversed, empty.*{name} \(row 1\)"):
        parse_regions(["chr1:1-2", name])


@pytest.mark.parametrize(
    ("column", "value"), [("start", np.nan), ("end", "x"), ("start", 1.5), ("chrom", None)]
)
def test_columns_without_coordinates_are_named(column, value):
    var = pd.DataFrame(
        {"chrom": ["chr1", "chr2"], "start": [1, 2], "end": [3, 4]}, index=["p", "q"], dtype=object
    )
    var.loc["q", column] = value
    with pytest.raises(ValueError, match="1 of 2 regions hold no coordinates: 'q "):
        parse_regions(var)


@pytest.mark.parametrize("name", ["", "chr1", "chr1:-5-9", "chr1:5", "chr1:1-2\nchr1:3-4", "a\nb"])
def test_odd_names_are_refused(name):
    with pytest.raises(ValueError, match="not regions"):
        parse_regions([name])


def test_a_line_break_does_not_pass_as_two_names():
    with pytest.raises(ValueError, match="not regions"):
        parse_regions(["chr1:1-2\nchr1:3-4", "CD4"])


def test_one_string_is_refused():
    with pytest.raises(TypeError, match="give a list"):
        parse_regions("chr1:1-2")


def test_has_regions():
    assert has_regions(pd.DataFrame(index=["chr1:1-2"]))
    assert not has_regions(pd.DataFrame(index=["chr1:1-2", "CD4"]))


def test_parse_is_fast(rng):
    starts = rng.integers(0, 10**8, 100_000)
    names = [f"chr{1 + i % 22}:{s}-{s + 500}" for i, s in enumerate(starts)]
    begin = time.process_time()
    table = parse_regions(names)
    # 0.2 s on one busy core; one call of a regular expression or a str method each takes longer
    assert time.process_time() - begin < 2
    assert (table["start"].to_numpy() == starts).all()
