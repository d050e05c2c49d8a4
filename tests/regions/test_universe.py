from __future__ import annotations

import gzip
import hashlib
import pickle

import anndata
import numpy as np
import pandas as pd
import pytest

from atacvi.regions import Universe, parse_regions

NAMES = ["chr2:5-9", "chr1:100-200", "chr1:150-160"]


def test_special_ids_follow_the_regions():
    universe = Universe(NAMES)
    assert list(universe.special_ids) == ["unk", "pad", "mask", "cls", "eos", "bos", "sep"]
    assert list(universe.special_ids.values()) == list(range(3, 10))
    assert (universe.unk_id, universe.pad_id, universe.mask_id) == (3, 4, 5)
    assert universe.vocab_size == len(universe) + 7 == 10


def test_ids_of_the_human_vocabulary():
    start = np.arange(890_704) * 10
    universe = Universe(pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 5}))
    assert list(universe.special_ids.values()) == list(range(890_704, 890_711))
    assert universe.vocab_size == 890_711


def test_the_same_from_names_table_anndata_and_file(tmp_path):
    universe = Universe(NAMES)
    path = tmp_path / "u.bed"
    path.write_text(
        "# v1\ntrack name=u\nchr2\t5\t9\tp1\n\nchr1\t100\t200\tp2\nchr1\t150\t160\tp3\n"
    )
    adata = anndata.AnnData(var=pd.DataFrame(index=NAMES))
    others = [Universe.from_regions(parse_regions(NAMES)), Universe.from_regions(adata)]
    others += [Universe.from_bed(path), pickle.loads(pickle.dumps(universe))]
    others += [Universe.from_arrays(universe.to_arrays())]
    assert all(other == universe and hash(other) == hash(universe) for other in others)
    assert universe.names.tolist() == NAMES
    assert universe != Universe(NAMES[::-1])
    assert universe != NAMES
    assert not universe.is_sorted()
    assert Universe(NAMES[1:]).is_sorted()


def test_hash_is_that_of_the_lines_of_a_bed_file():
    expected = hashlib.sha256(b"chr1\t1\t5\n").hexdigest()
    assert Universe(["chr1:1-5"]).hash == expected


def test_repeats_are_dropped_and_ids_follow_the_file(tmp_path):
    path = tmp_path / "u.bed.gz"
    path.write_bytes(gzip.compress(b"chr1\t5\t9\nchr1\t5\t9\nchr1\t1\t3\n"))
    with pytest.warns(UserWarning, match="1 of 3 regions .*repeat an earlier one .*chr1:5-9"):
        universe = Universe.from_bed(path)
    assert universe.names.tolist() == ["chr1:5-9", "chr1:1-3"]


def test_saved_and_loaded(tmp_path):
    universe = Universe(NAMES)
    assert universe.save(tmp_path / "folder").name == "universe.bed.gz"
    universe.save(tmp_path / "u.bed")
    assert Universe.load(tmp_path / "folder") == universe == Universe.load(tmp_path / "u.bed")
    assert Universe.from_folder(tmp_path / "folder") == universe
    with pytest.raises(FileNotFoundError, match=r"holds no universe\.bed\.gz"):
        Universe.from_folder(tmp_path)


@pytest.mark.parametrize("bad", [[], ["chr1:5-5"], ["chr1:9-5"], ["MYC"]])
def test_no_region_or_bad_ones(bad):
    with pytest.raises(ValueError, match="at least one region|reversed, empty|not regions"):
        Universe(bad)


def test_empty_region_of_a_file(tmp_path):
    path = tmp_path / "u.bed"
    path.write_text("chr1\t5\t5\n")
    with pytest.raises(ValueError, match="empty"):
        Universe.from_bed(path)


def test_consensus_of_sets(tmp_path):
    path = tmp_path / "c.bed"
    path.write_text("chr1\t190\t210\nchr3\t1\t2\n")
    sets = [NAMES, parse_regions(["chr1:195-300", "chr2:20-30"]), path, Universe(["chr10:1-2"])]
    union = Universe.consensus(sets)
    assert union.names.tolist() == [
        "chr1:100-300", "chr2:5-9", "chr2:20-30", "chr3:1-2", "chr10:1-2",
    ]  # fmt: skip
    assert Universe.consensus(sets, min_sets=3).names.tolist() == ["chr1:100-300"]
    assert Universe.consensus(sets, max_gap=11).names.tolist()[1] == "chr2:5-30"
    with pytest.raises(ValueError, match="min_sets=5 for 4 sets"):
        Universe.consensus(sets, min_sets=5)
    with pytest.raises(ValueError, match="no region has peaks in 4 sets"):
        Universe.consensus(sets, min_sets=4)
