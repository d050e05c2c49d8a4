from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.regions import map_regions, match_chromosome_names, parse_regions


def test_best_takes_the_largest_overlap_and_the_first_of_equals():
    query = parse_regions(["chr1:0-100", "chr1:190-210", "chr2:0-5"])
    reference = parse_regions(["chr1:90-200", "chr1:200-300", "chr1:0-20"])
    mapping = map_regions(query, reference)
    assert (mapping.query.tolist(), mapping.reference.tolist()) == ([0, 1], [2, 0])
    assert mapping.mapped.tolist() == [True, True, False]
    assert mapping.covered.tolist() == [True, False, True]


def test_all_takes_every_overlap():
    query = parse_regions(["chr1:0-100"])
    reference = parse_regions(["chr1:90-200", "chr1:0-20"])
    assert map_regions(query, reference, assign="all").reference.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "n_pairs"),
    [
        ({"min_overlap": 10}, 1),
        ({"min_overlap": 11}, 0),
        ({"min_overlap_fraction": 0.5}, 1),
        ({"min_overlap_fraction": 0.6}, 0),
    ],
)
def test_overlap_thresholds(options, n_pairs):
    query, reference = parse_regions(["chr1:0-100"]), parse_regions(["chr1:90-110"])
    assert len(map_regions(query, reference, min_share=0, **options).query) == n_pairs


def test_other_names_of_the_same_chromosomes():
    query = parse_regions(["1:0-10", "MT:0-10"])
    reference = parse_regions(["chr1:0-10", "chrM:5-10"])
    with pytest.raises(ValueError, match="written in two ways.*match_chromosome_names"):
        map_regions(query, reference)
    assert map_regions(match_chromosome_names(query, reference), reference).share_mapped == 1
    assert query["chrom"].tolist() == ["1", "MT"]


def test_other_species():
    with pytest.raises(ValueError, match="another species"):
        map_regions(parse_regions(["chr2L:0-10"]), parse_regions(["chr1:0-10"]))


def test_other_build():
    query = parse_regions([f"chr1:{i}00000-{i}00500" for i in range(1, 10)])
    reference = parse_regions([f"chr1:{i}50000-{i}50500" for i in range(1, 10)])
    with pytest.raises(ValueError, match=r"only 0 of 9 .*another genome build"):
        map_regions(query, reference)


def random_peaks(rng, n):
    start = np.sort(rng.integers(0, 10**7, n))
    return pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})


def test_overlap_by_chance_is_refused(rng):
    reference = random_peaks(rng, 3000)
    unrelated = random_peaks(rng, 3000)
    share = map_regions(unrelated, reference, min_share=0).share_mapped
    assert 0.2 < share < 0.3
    with pytest.raises(ValueError, match="overlap by chance"):
        map_regions(unrelated, reference)
    # a quarter of real matches is few, but far from chance
    related = pd.concat([unrelated[:500], reference[:300]], ignore_index=True)
    assert map_regions(related, reference).mapped[500:].all()


def test_tiles_that_overlap_everywhere_pass(rng):
    start = np.arange(0, 10**7, 5000)
    tiles = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 5000})
    assert map_regions(tiles, random_peaks(rng, 3000)).share_mapped > 0.5


@pytest.mark.parametrize("options", [{"min_overlap": 0}, {"min_overlap_fraction": 2}])
def test_thresholds_out_of_range(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        map_regions(parse_regions(["chr1:0-1"]), parse_regions(["chr1:0-1"]), **options)


def test_unknown_assignment():
    with pytest.raises(ValueError, match="assign='any'"):
        map_regions(parse_regions(["chr1:0-1"]), parse_regions(["chr1:0-1"]), assign="any")
