from __future__ import annotations

import gzip
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.data import _counting as counting_module
from atacvi.data import read_fragments
from atacvi.data.fragments import gene_regions
from atacvi.regions import Universe, merge, overlap, parse_regions

REGIONS = ["chr1:0-100", "chr1:150-300", "chr2:0-50"]
LINES = [
    ("chr1", 10, 90, "A"),
    ("chr1", 40, 200, "B"),
    ("chr1", 95, 99, "A"),
    ("chr1", 99, 150, "A"),
    ("chr2", 49, 60, "B"),
    ("chr2", 60, 70, "C"),
]


def write(path, lines, end=""):
    text = "".join("\t".join(map(str, line)) + f"{end}\n" for line in lines)
    data = text.encode()
    Path(path).write_bytes(gzip.compress(data) if str(path).endswith(".gz") else data)
    return path


def random_lines(rng, n, n_cells=20, chroms=("chr1", "chr2"), length=10**5):
    start = rng.integers(0, length, n)
    width = rng.integers(1, 600, n)
    chrom = rng.choice(np.array(chroms, dtype=object), n)
    cells = rng.integers(0, n_cells, n)
    return [
        (c, int(s), int(s + w), f"C{b}")
        for c, s, w, b in zip(chrom, start, width, cells, strict=True)
    ]


def by_hand(lines, regions, cells, counting):
    """Counts by the overlap join of whole fragments or of their ends."""
    table = pd.DataFrame(lines, columns=["chrom", "start", "end", "cell"])
    first, last = table.copy(), table.copy()
    first["end"], last["start"] = table["start"] + 1, table["end"] - 1
    queries = [table] if counting == "fragment" else [first, last]
    row = pd.Index(cells).get_indexer(table["cell"])
    pairs = []
    for query in queries:
        i, j, _ = overlap(query, regions)
        pairs.append(pd.DataFrame({"fragment": i, "region": j}))
    hits = pd.concat(pairs)
    if counting == "paired-insertion":
        hits = hits.drop_duplicates()
    counts = np.zeros((len(cells), len(regions)), int)
    np.add.at(counts, (row[hits["fragment"]], hits["region"].to_numpy()), 1)
    return counts


@pytest.mark.parametrize(
    ("counting", "expected"),
    [
        ("fragment", [[3, 0, 0], [1, 1, 1], [0, 0, 0]]),
        ("insertion", [[5, 0, 0], [1, 1, 1], [0, 0, 0]]),
        ("paired-insertion", [[3, 0, 0], [1, 1, 1], [0, 0, 0]]),
    ],
)
def test_ways_to_count(tmp_path, counting, expected):
    path = write(tmp_path / "f.tsv.gz", LINES, "\t1")
    adata = read_fragments(path, REGIONS, counting=counting)
    assert adata.X.toarray().tolist() == expected
    assert adata.obs_names.tolist() == ["A", "B", "C"]
    assert adata.var_names.tolist() == REGIONS
    assert adata.obs["n_fragments"].tolist() == [3, 2, 1]
    assert adata.obs["fraction_in_regions"].tolist() == [1, 1, 0]
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.X.dtype == np.int32


@pytest.mark.parametrize("counting", ["fragment", "insertion", "paired-insertion"])
@pytest.mark.parametrize("room", [3, 2**20])
def test_counts_equal_the_overlap_join(tmp_path, rng, counting, room, monkeypatch):
    monkeypatch.setattr(counting_module, "_ROOM", room)
    start = rng.integers(0, 10**5, 300)
    regions = pd.DataFrame(
        {"chrom": rng.choice(["chr1", "chr2"], 300), "start": start, "end": start + 400}
    ).drop_duplicates(ignore_index=True)
    n = 60 if room == 3 else 4000  # 3: many small matrices are added, one fragment fills several
    lines = random_lines(rng, n)
    path = write(tmp_path / "f.tsv", lines)
    cells = [f"C{i}" for i in range(20)]
    adata = read_fragments(path, regions, barcodes=cells, counting=counting)
    assert (adata.X.toarray() == by_hand(lines, regions, cells, counting)).all()


def test_listed_barcodes_keep_their_order_and_empty_cells(tmp_path):
    path = write(tmp_path / "f.tsv", LINES)
    listed = tmp_path / "barcodes.tsv"
    listed.write_text("barcode\tcell_type\nC\tx\nnone\ty\nA\tz\n")
    adata = read_fragments(path, REGIONS, barcodes=listed, tss=parse_regions(["chr1:5-6"]))
    assert adata.obs_names.tolist() == ["C", "none", "A"]
    assert adata.obs["n_fragments"].tolist() == [1, 0, 3]
    assert adata.obs["fraction_in_regions"].isna().tolist() == [False, True, False]
    assert adata.obs["tss_enrichment"].isna().tolist() == [False, True, False]


def test_progress_is_shown_when_wanted(tmp_path, capsys):
    paths = [write(tmp_path / f"{name}.tsv", LINES) for name in "ab"]
    for given_ in (paths[0], paths):
        shown = read_fragments(given_, REGIONS, progress=True)
        assert "counting fragments" in capsys.readouterr().err
        assert (shown.X != read_fragments(given_, REGIONS, progress=False).X).nnz == 0
        assert capsys.readouterr().err == ""


def test_shallow_barcodes(tmp_path):
    path = write(tmp_path / "f.tsv", LINES)
    assert read_fragments(path, REGIONS, min_fragments=2).obs_names.tolist() == ["A", "B"]
    with pytest.raises(ValueError, match="no barcode .* has 9 fragments .the largest has 3"):
        read_fragments(path, REGIONS, min_fragments=9)


def test_tiles_with_counts_and_all_tiles(tmp_path):
    paths = [write(tmp_path / "a.tsv", LINES[:4]), write(tmp_path / "b.tsv", LINES[4:])]
    adata = read_fragments(paths, tile_size=50)
    assert adata.var_names.tolist() == [
        "chr1:0-50", "chr1:50-100", "chr1:100-150", "chr1:150-200", "chr2:0-50", "chr2:50-100",
    ]  # fmt: skip
    assert adata.to_df().loc["a:A"].tolist() == [1, 4, 1, 0, 0, 0]
    assert adata.to_df().loc["b:B"].tolist() == [0, 0, 0, 0, 1, 1]
    sizes = {"chr2": 120, "chr3": 60}
    whole = read_fragments(paths, tile_size=50, chrom_sizes=sizes, counting="fragment")
    assert whole.var_names.tolist() == [
        "chr2:0-50", "chr2:50-100", "chr2:100-150", "chr3:0-50", "chr3:50-100",
    ]  # fmt: skip
    assert whole.X.sum(axis=0).tolist() == [[1, 2, 0, 0, 0]]


@pytest.mark.parametrize("counting", ["fragment", "insertion", "paired-insertion"])
def test_tiles_equal_regions_of_the_same_places(tmp_path, rng, counting):
    path = write(tmp_path / "f.tsv", random_lines(rng, 3000))
    tiles = read_fragments(path, tile_size=300, counting=counting)
    same = read_fragments(path, tiles.var, counting=counting)
    assert (tiles.X != same.X).nnz == 0
    assert tiles.X.sum() > 0


def test_gene_bodies(tmp_path):
    genes = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr1", "chr2", "chrX", "chrY"],
            "start": [100, 120, 500, 10, 7, 7],
            "end": [150, 300, 600, 40, 9, 9],
            "name": ["F", "F", "R", "G", "P", "P"],
            "strand": ["+", "+", "-", "+", "+", "+"],
        }
    )
    var = gene_regions(genes, 50)
    assert var.index.tolist() == ["F", "R", "G", "P", "P-1"]
    assert var[["start", "end"]].to_numpy().tolist()[:3] == [[50, 300], [500, 650], [0, 40]]
    path = write(tmp_path / "f.tsv", [("chr1", 55, 640, "A"), ("chr1", 20, 49, "A")])
    adata = read_fragments(path, genes=genes, upstream=50)
    assert adata.to_df().loc["A"].tolist() == [1, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="genes lacks 'strand'"):
        read_fragments(path, genes=genes.drop(columns="strand"))
    assert len(gene_regions(genes.drop(columns="strand"), 0)) == 5


def test_start_site_enrichment(tmp_path):
    # 22 insertions in the 11 bp of the centre, 20 in the 200 bp of the flanks
    centre = [("chr1", 4998, 5003, "A")] * 11
    flanks = [("chr1", 3001, 6950, "A")] * 10 + [("chr1", 4000, 4500, "A")] * 9
    path = write(tmp_path / "f.tsv", centre + flanks)
    genes = pd.DataFrame(
        {"chrom": ["chr1"] * 2, "start": [5000, 5000], "end": [9000, 9500], "strand": ["+", "+"]}
    )
    adata = read_fragments(path, REGIONS[:1], tss=genes)
    assert adata.obs["tss_enrichment"].tolist() == pytest.approx([2 / (0.1 + 0.1)])
    reverse = pd.DataFrame({"chrom": ["chr1"], "start": [4000], "end": [5001], "strand": ["-"]})
    again = read_fragments(path, REGIONS[:1], tss=reverse)
    assert again.obs["tss_enrichment"].tolist() == adata.obs["tss_enrichment"].tolist()
    with pytest.raises(ValueError, match="no column 'strand'"):
        read_fragments(path, REGIONS[:1], tss=genes.drop(columns="strand"))


def test_files_are_told_apart(tmp_path, rng):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.fragments.tsv.gz", random_lines(rng, 200))
    (tmp_path / "notes.txt").write_text("no fragments")
    adata = read_fragments(tmp_path, tile_size=1000)
    assert adata.obs["sample"].cat.categories.tolist() == ["a", "b"]
    assert adata.obs_names.is_unique
    assert (adata.obs_names == adata.obs["sample"].astype(str) + ":" + adata.obs["barcode"]).all()
    named = read_fragments({"x": tmp_path / "a.fragments.tsv.gz"}, tile_size=1000)
    assert named.obs_names.str.startswith("x:C").all()
    one = {"x": tmp_path / "a.fragments.tsv.gz", "y": tmp_path / "b.fragments.tsv.gz"}
    picked = read_fragments(one, tile_size=1000, barcodes={"x": ["C1"], "y": ["C1", "C2"]})
    assert picked.obs_names.tolist() == ["x:C1", "y:C1", "y:C2"]
    with pytest.raises(KeyError, match="no entry for 'y'"):
        read_fragments(one, barcodes={"x": ["C1"]})
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "a.tsv", LINES)
    with pytest.raises(ValueError, match="several files are called 'a'"):
        read_fragments([tmp_path / "a.fragments.tsv.gz", tmp_path / "other" / "a.tsv"])


@pytest.mark.parametrize(
    "scheduler",
    ["threads", pytest.param("processes", marks=pytest.mark.slow), "client"],
)
def test_dask_gives_the_same(tmp_path, rng, scheduler):
    paths = [write(tmp_path / f"{i}.tsv", random_lines(rng, 300)) for i in range(3)]
    expected = read_fragments(paths, REGIONS)
    if scheduler == "client":
        import distributed

        with distributed.Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as client:
            found = read_fragments(paths, REGIONS, scheduler=client, progress=True)
    else:
        found = read_fragments(paths, REGIONS, scheduler=scheduler)
    assert (found.X != expected.X).nnz == 0
    pd.testing.assert_frame_equal(found.obs, expected.obs)


def test_dask_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    path = write(tmp_path / "f.tsv", LINES)
    with pytest.raises(ImportError, match=r"pip install 'atacvi\[dask\]'"):
        read_fragments(path, REGIONS, scheduler="threads")
    with pytest.raises(ValueError, match="scheduler='cluster'"):
        read_fragments(path, REGIONS, scheduler="cluster")


def test_an_error_in_one_file_ends_the_others(tmp_path):
    good = write(tmp_path / "a.tsv", LINES * 1000)
    bad = write(tmp_path / "b.tsv", [("chr1", 9, 1, "A")])
    with pytest.raises(ValueError, match=r"b\.tsv, line 1 has a start that is not below"):
        read_fragments([good, bad], REGIONS)
    assert threading.active_count() < 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genes": "x.bed"}, "regions or genes, not both"),
        ({"tile_size": 0}, "tile_size=0"),
        ({"upstream": -1}, "upstream=-1"),
        ({"counting": "reads"}, "'reads' is no way to count"),
        ({"barcodes": []}, "holds no barcode"),
        ({"barcodes": ["A", "A"]}, "1 barcodes more than once: 'A'"),
        ({"barcodes": ["A", ""]}, "an empty barcode"),
        ({"barcodes": ["A-1"]}, r"none of the 1 barcodes occurs .*'A', 'B', 'C'.*'A-1'"),
        ({"regions": ["chr7:1-5"]}, "no chromosome in common: 'chr1', 'chr2' and 'chr7'"),
        ({"regions": ["chr1:1-5", "chr1:1-5"]}, "1 names of regions occur more than once"),
        ({"regions": []}, "no region to count in"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    path = write(tmp_path / "f.tsv", LINES)
    with pytest.raises(ValueError, match=message):
        read_fragments(path, **{"regions": REGIONS, **options})


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_fragments(tmp_path / "none.tsv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no file that ends in"):
        read_fragments(tmp_path / "empty")
    with pytest.raises(ValueError, match="no file was given"):
        read_fragments([])
    with pytest.raises(ValueError, match="holds no fragments"):
        read_fragments(write(tmp_path / "e.tsv", []))
    with pytest.raises(ValueError, match="all fragments .* have an empty barcode"):
        read_fragments(write(tmp_path / "b.tsv", [("chr1", 1, 2, "", 1)]))
    with pytest.warns(UserWarning, match="1 fragments .* have an empty barcode and are left out"):
        read_fragments(write(tmp_path / "c.tsv", [("chr1", 1, 2, "", 1), ("chr1", 1, 2, "A", 1)]))


@pytest.mark.slow
def test_memory_is_flat_as_the_file_grows(tmp_path, rng):
    regions = Universe([f"chr{c}:{s}-{s + 300}" for c in (1, 2) for s in range(0, 10**5, 500)])
    lines = random_lines(rng, 40_000)
    peaks = []
    for times in (1, 10):
        path = write(tmp_path / f"{times}.tsv.gz", lines * times)
        tracemalloc.start()
        read_fragments(path, regions)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.real_data
def test_counts_of_cell_ranger(real_file):
    """The matrix counts the ends of fragments, the second one a base pair further."""
    import mudata

    mdata = mudata.read_h5mu(real_file("pbmc_multiome_muon_test_nolabels.h5mu"))
    atac = mdata["atac"]
    path = real_file("fragments/pbmc_multiome_muon_regions.fragments.tsv.gz")
    adata = read_fragments(path, atac, barcodes=atac.obs_names)
    assert adata.var_names.equals(atac.var_names)

    # The file holds the fragments of some stretches of the genome: only peaks that lie inside one,
    # further from its ends than a fragment reaches, can agree.
    columns = ["chrom", "start", "end", "cell"]
    lines = pd.read_csv(path, sep="\t", header=None, usecols=range(4), names=columns)
    stretches = merge(lines, max_gap=20_000)[1]
    stretches["start"] += 1000
    stretches["end"] -= 1000
    regions = parse_regions(atac.var)
    peak, _, length = overlap(regions, stretches)
    inside = peak[length == (regions["end"] - regions["start"]).to_numpy()[peak]]
    assert len(inside) >= 95
    difference = (adata.X - atac.X)[:, inside]
    difference.eliminate_zeros()
    n_entries = atac.X[:, inside].nnz
    assert difference.nnz < 0.005 * n_entries
    assert abs(adata.X[:, inside].sum() / atac.X[:, inside].sum() - 1) < 0.001
    for counting in ("fragment", "paired-insertion"):  # no other way comes near
        other = read_fragments(path, atac, barcodes=atac.obs_names, counting=counting)
        assert (other.X != atac.X)[:, inside].nnz > 0.5 * n_entries

    # What is left is the base pair: with it, all entries agree.
    lines = lines[lines["cell"].isin(atac.obs_names)]
    ends = pd.concat([lines.assign(end=lines["start"] + 1), lines.assign(start=lines["end"])])
    ends["end"] = ends["start"] + 1
    i, j, _ = overlap(ends, regions)
    row = atac.obs_names.get_indexer(ends["cell"])[i]
    shifted = sp.csr_matrix((np.ones(len(i), int), (row, j)), shape=atac.shape)
    assert abs(shifted - atac.X)[:, inside].sum() <= 1


@pytest.mark.real_data
def test_start_sites_are_enriched_in_real_cells(real_file, tmp_path):
    columns = ["chrom", "start", "end", "cell", "count"]
    path = real_file("fragments/pbmc10k_tiny.fragments.tsv.gz")
    lines = pd.read_csv(path, sep="\t", header=None, names=columns)
    lines["cell"] = "all"  # a cell has a few fragments around fifty genes
    lines.to_csv(tmp_path / "all.tsv", sep="\t", header=False, index=False)
    sites = real_file("annotation/RefSeqTSS.hg38.bed.gz")
    adata = read_fragments(tmp_path / "all.tsv", tss=sites)
    assert adata.obs["tss_enrichment"].item() > 5
