from __future__ import annotations

import pickle
import random
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import RegionTokenizer, Universe, overlap, parse_regions

REGION = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr10"]), st.integers(0, 60), st.integers(1, 25)
).map(lambda t: f"{t[0]}:{t[1]}-{t[1] + t[2]}")


def zero_length(chrom, position):
    return pd.DataFrame({"chrom": [chrom], "start": [position], "end": [position]})


@pytest.fixture
def tokenizer():
    return RegionTokenizer(["chr1:10-20", "chr1:20-30", "chr1:40-50", "chr2:0-5"])


def test_half_open(tokenizer):
    assert tokenizer.tokenize_regions(["chr1:50-51"]).tolist() == []
    assert tokenizer.tokenize_regions(["chr1:9-10"]).tolist() == []
    assert tokenizer.tokenize_regions(["chr1:5-45"]).tolist() == [0, 1, 2]
    assert tokenizer.tokenize_regions(["chr1:19-21"]).tolist() == [0, 1]
    assert tokenizer.tokenize_regions(zero_length("chr1", 15)).tolist() == []


def test_sets_and_sequences(tokenizer):
    regions = ["chr2:1-2", "chr1:25-45", "chr2:3-4", "chr9:1-2"]
    assert tokenizer.tokenize_regions(regions).tolist() == [1, 2, 3]
    assert tokenizer.tokenize_regions(regions, keep_duplicates=True).tolist() == [3, 1, 2, 3]


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (["chr9:1-2", "chr2:1-2"], [3]),
        (["chr9:1-2"], [4]),
        ([], [4]),
        (["chr2:1-2", "chr2:1-2"], [3, 3]),
    ],
)
def test_what_gtars_returns(tokenizer, regions, expected):
    found = tokenizer.tokenize_regions(regions, keep_duplicates=True, emit_unknown=True)
    assert found.tolist() == expected
    unique = tokenizer.tokenize_regions(regions)
    assert unique.tolist() == sorted(set(expected) - {4})


def test_names_of_chromosomes(tokenizer):
    assert tokenizer.tokenize_regions(["2:1-2", "1:11-12"]).tolist() == [0, 3]
    both = RegionTokenizer(["chr1:0-5", "1:0-5", "chrM:0-5"])
    assert both.tokenize_regions(["1:1-2"]).tolist() == [1]
    assert both.tokenize_regions(["MT:1-2"]).tolist() == [2]


@pytest.mark.parametrize("kind", [list, np.array, pd.Index, pd.Series])
def test_names_in_any_container(kind):
    names = ["chr1:0-10", "chr1:20-30"]
    universe = Universe(kind(names))  # arrays and Series have a method `var`
    assert universe.names.tolist() == names
    assert RegionTokenizer(universe).tokenize_regions(kind(names)).tolist() == [0, 1]
    assert len(Universe.consensus([kind(names), kind(names)], min_sets=2)) == 2


@given(st.lists(REGION, min_size=1, max_size=25, unique=True), st.lists(REGION, max_size=25))
def test_overlapping_universes_equal_the_overlap_join(universe, query):
    tokenizer = RegionTokenizer(universe)
    a, b, _ = overlap(parse_regions(query), parse_regions(universe))
    assert sorted(map(tuple, tokenizer.hits(query).tolist())) == sorted(
        zip(a.tolist(), b.tolist(), strict=True)
    )
    assert tokenizer.tokenize_regions(query).tolist() == sorted(set(b.tolist()))


def test_unsorted_queries_and_universe(rng):
    start = rng.permutation(np.arange(0, 10**6, 1000))
    universe = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 300})
    tokenizer = RegionTokenizer(universe)
    query = universe.sample(500, random_state=0)
    found = tokenizer.tokenize_regions(query, keep_duplicates=True)
    assert found.tolist() == query.index.tolist()


def test_pickled_tokenizers_are_the_same(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.universe == tokenizer.universe
    assert again.tokenize_regions(["chr1:5-45"]).tolist() == [0, 1, 2]


def test_bed_files(tokenizer, tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("chr1\t5\t45\tx\nchr1\t15\t15\ty\nchr2\t1\t2\tz\n")
    assert tokenizer.tokenize_bed(path).tolist() == [0, 1, 2, 3]


def test_regions_that_are_reversed(tokenizer):
    table = pd.concat([zero_length("chr1", 5), parse_regions(["chr1:1-5"])])
    table.iloc[1, 1:] = [9, 3]
    with pytest.raises(ValueError, match="reversed"):
        tokenizer.tokenize_regions(table)


def test_a_million_regions_take_seconds(rng):
    start = np.arange(200_000) * 1000
    universe = Universe(pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500}))
    tokenizer = RegionTokenizer(universe)
    tokenizer.tokenize_regions(["chr1:1-2"])  # compiled
    at = rng.integers(0, 200_000_000, 1_000_000)
    query = pd.DataFrame({"chrom": "chr1", "start": at, "end": at + 200})
    begin = time.perf_counter()
    pairs = tokenizer.hits(query)
    # 0.3 s on one busy core, the names of chromosomes included; a loop in Python takes minutes
    assert time.perf_counter() - begin < 5
    assert 0.6 < len(pairs) / len(query) < 0.8


def test_equal_to_gtars(tmp_path):
    from gtars import models, tokenizers

    draw = random.Random(0)
    starts = sorted(draw.sample(range(0, 100_000, 200), 300))
    chroms = [draw.choice(["chr1", "chr2"]) for _ in starts]
    universe = Universe([f"{c}:{s}-{s + 100}" for c, s in zip(chroms, starts, strict=True)])
    theirs = tokenizers.Tokenizer.from_bed(str(universe.save(tmp_path / "u.bed")))
    ours = RegionTokenizer(universe)
    for n in (0, 1, 50):
        spans = [(draw.choice(["chr1", "chr2", "chr3"]), draw.randrange(10**5)) for _ in range(n)]
        regions = [(c, s, s + draw.randrange(1, 600)) for c, s in spans]
        expected = theirs([models.Region(c, s, e, "") for c, s, e in regions])["input_ids"]
        names = [f"{c}:{s}-{e}" for c, s, e in regions]
        found = ours.tokenize_regions(names, keep_duplicates=True, emit_unknown=True)
        assert found.tolist() == list(expected)
        assert ours.tokenize_regions(names).tolist() == sorted(set(expected) - {universe.unk_id})
