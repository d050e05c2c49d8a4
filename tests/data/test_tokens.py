from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from atacvi.data import (
    get_universe,
    read_fragments,
    tokenize_anndata,
    tokenize_bed,
    tokenize_fragments,
)
from atacvi.regions import RegionTokenizer, Universe, parse_regions

NAMES = ["chr2:0-50", "chr1:0-100", "chr1:150-300", "chr1:280-400"]
LINES = [
    ("chr1", 10, 200, "A", 1),
    ("chr1", 40, 90, "A", 5),
    ("chr1", 500, 600, "B", 1),
    ("chr2", 60, 70, "B", 1),
    ("chr2", 40, 70, "C", 1),
]


def write(path, lines):
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return path


def sets(adata):
    return [row.indices.tolist() for row in adata.obsm["X_tokens"]]


@pytest.fixture
def fragments(tmp_path):
    return write(tmp_path / "f.tsv", LINES)


def test_cells_are_sets(fragments):
    cells = tokenize_fragments(fragments, NAMES)
    assert sets(cells) == [[1, 2], [], [0]]
    assert cells.shape == (3, 0)
    tokens = cells.obsm["X_tokens"]
    assert (tokens.dtype, tokens.shape, tokens.format) == (np.dtype(bool), (3, 4), "csr")
    assert cells.obs["n_fragments"].tolist() == [2, 2, 1]
    assert cells.obs["n_tokens"].tolist() == [2, 0, 1]
    assert cells.obs["is_empty"].tolist() == [False, True, False]
    assert cells.obs["fraction_in_universe"].tolist() == [1, 0, 1]
    assert cells.uns["atacvi"]["tokens"]["share_hit"] == pytest.approx(3 / 5)


def test_insertions_need_an_end_inside(fragments):
    for mode in ("insertion", "paired-insertion"):
        assert sets(tokenize_fragments(fragments, NAMES, mode=mode)) == [[1, 2], [], [0]]
    narrow = ["chr1:95-120", "chr1:10-11", "chr1:199-200", "chr1:200-201"]
    assert sets(tokenize_fragments(fragments, narrow)) == [[0, 1, 2], [], []]
    assert sets(tokenize_fragments(fragments, narrow, mode="insertion")) == [[1, 2], [], []]


def test_listed_cells_without_fragments_are_flagged(fragments):
    cells = tokenize_fragments(fragments, NAMES, barcodes=["none", "A"])
    assert cells.obs_names.tolist() == ["none", "A"]
    assert cells.obs["is_empty"].tolist() == [True, False]
    assert cells.obs["fraction_in_universe"].isna().tolist() == [True, False]


def test_universe_is_stored_and_checked(fragments, tmp_path):
    universe = Universe(NAMES)
    cells = tokenize_fragments(fragments, universe)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert get_universe(again) == universe
    assert again.uns["atacvi"]["tokens"]["universe_hash"] == universe.hash
    assert again.obsm["X_tokens"].dtype == bool
    assert sets(again) == sets(cells)
    again.uns["atacvi"]["tokens"]["universe"]["start"][0] += 1
    with pytest.raises(ValueError, match="they were changed"):
        get_universe(again)
    with pytest.raises(KeyError, match="holds no tokens"):
        get_universe(anndata.AnnData(np.ones((1, 1))))


def test_universe_from_files(fragments, tmp_path):
    universe = Universe(NAMES)
    universe.save(tmp_path / "model")
    universe.save(tmp_path / "u.bed")
    for given_ in (tmp_path / "model", str(tmp_path / "u.bed"), parse_regions(NAMES)):
        assert get_universe(tokenize_fragments(fragments, given_)) == universe


REGION = st.tuples(st.sampled_from(["chr1", "chr2"]), st.integers(0, 300), st.integers(1, 60)).map(
    lambda t: (t[0], t[1], t[1] + t[2])
)


@settings(max_examples=15)
@given(
    st.lists(REGION, min_size=1, max_size=20, unique=True),
    st.lists(st.tuples(REGION, st.sampled_from("AB")), min_size=1, max_size=30),
)
def test_three_routes_agree(tmp_path_factory, universe, regions):
    folder = tmp_path_factory.mktemp("routes")
    names = [f"{c}:{s}-{e}" for c, s, e in universe]
    peaks = sorted({region for region, _ in regions})
    matrix = np.zeros((2, len(peaks)), dtype=np.int32)
    for region, cell in regions:
        matrix["AB".index(cell), peaks.index(region)] += 1
    var = pd.DataFrame(peaks, columns=["chrom", "start", "end"])
    var.index = var.index.astype(str)
    adata = anndata.AnnData(sp.csr_matrix(matrix), var=var)
    adata.obs_names = ["A", "B"]
    by_peaks = tokenize_anndata(adata, names, min_share=0)
    lines = [(*region, cell) for region, cell in regions]
    chroms = {c for c, _, _ in universe} & {c for c, *_ in lines}
    files = {}
    for cell in "AB":
        files[cell] = write(folder / f"{cell}.bed", [x[:3] for x in lines if x[3] == cell])
    by_bed = tokenize_bed(files, names, min_share=0)
    tokenizer = RegionTokenizer(names)
    by_hand = [tokenizer.tokenize_bed(files[cell]).tolist() for cell in "AB"]
    assert sets(by_peaks) == sets(by_bed) == by_hand
    path = write(folder / "f.tsv", lines)
    if not chroms or len({cell for _, cell in regions}) < 2:
        return
    by_fragments = tokenize_fragments(path, names, barcodes=["A", "B"], min_share=0)
    assert sets(by_fragments) == by_hand


def random_cells(rng, n_cells, n_peaks, n_open):
    start = np.arange(n_peaks) * 1000
    var = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 400})
    var.index = var.index.astype(str)
    matrix = sp.random(n_cells, n_peaks, n_open / n_peaks, "csr", rng=rng)
    matrix.data = rng.integers(1, 5, matrix.nnz).astype(np.float32)
    return anndata.AnnData(sp.csr_matrix(matrix), var=var)


@pytest.mark.parametrize("shuffled", [False, True])
def test_peaks_equal_the_matrix_product(rng, shuffled):
    adata = random_cells(rng, 30, 400, 40)
    if shuffled:
        adata = adata[:, rng.permutation(400)].copy()
    start = np.sort(rng.choice(400_000, 500, replace=False))
    universe = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 700})
    cells = tokenize_anndata(adata, universe, threshold=1)
    hits = RegionTokenizer(universe).hits(adata.var)
    mapping = np.zeros((400, 500), dtype=int)
    mapping[hits[:, 0], hits[:, 1]] = 1
    expected = (adata.X.toarray() > 1) @ mapping > 0
    assert (cells.obsm["X_tokens"].toarray() == expected).all()
    assert cells.obsm["X_tokens"].has_canonical_format
    n_open = (adata.X.toarray() > 1).sum(axis=1)
    n_hit = ((adata.X.toarray() > 1) & (mapping.sum(axis=1) > 0)).sum(axis=1)
    assert cells.obs["fraction_in_universe"].to_numpy() == pytest.approx(n_hit / n_open)


def test_kinds_of_matrices_give_the_same(rng, tmp_path):
    adata = random_cells(rng, 20, 100, 20)
    adata.obs["donor"] = "d"
    adata.obsm["X_pca"] = rng.normal(size=(20, 2))
    adata.layers["counts"] = adata.X.copy()
    universe = adata.var.assign(start=adata.var["start"] + 100)
    expected = tokenize_anndata(adata, universe)
    assert list(expected.obsm) == ["X_tokens", "X_pca"]
    assert expected.obs["donor"].eq("d").all()
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    dense, csc = adata.copy(), adata.copy()
    dense.X, csc.X = adata.X.toarray(), sp.csc_matrix(adata.X)
    for other, layer in ((backed, None), (dense, None), (csc, None), (adata, "counts")):
        assert sets(tokenize_anndata(other, universe, layer=layer)) == sets(expected)
    backed.file.close()


def test_empty_cells_of_a_matrix(rng):
    adata = random_cells(rng, 5, 100, 20)
    adata.X.data[adata.X.indptr[2] : adata.X.indptr[3]] = 0  # stored zeros are closed as well
    cells = tokenize_anndata(adata, adata.var)
    assert cells.obs["is_empty"].tolist() == [False, False, True, False, False]
    assert cells.obs["fraction_in_universe"].isna().sum() == 1
    with pytest.raises(ValueError, match="threshold=-1"):
        tokenize_anndata(adata, adata.var, threshold=-1)


def far_peaks(rng, n, spacing):
    start = np.arange(n) * spacing + rng.integers(0, spacing // 2, n)
    return pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})


def test_another_genome_is_refused(tmp_path, rng):
    universe = far_peaks(rng, 4000, 5000)
    inside = rng.integers(0, 4000, 3000)
    start = universe["start"].to_numpy()[inside] + rng.integers(0, 300, 3000)
    good = [("chr1", int(s), int(s) + 200, "A") for s in start]
    anywhere = [("chr1", int(s), int(s) + 200, "A") for s in rng.integers(0, 2 * 10**7, 20_000)]
    path = write(tmp_path / "good.tsv", good)
    assert tokenize_fragments(path, universe).uns["atacvi"]["tokens"]["share_hit"] == 1
    path = write(tmp_path / "build.tsv", anywhere)
    with pytest.raises(ValueError, match="they hit by chance.*another genome build"):
        tokenize_fragments(path, universe)
    assert tokenize_fragments(path, universe, min_share=0).obs["n_tokens"].iloc[0] > 1000
    path = write(tmp_path / "few.tsv", [(c, s + 10**9, e + 10**9, b) for c, s, e, b in good])
    with pytest.raises(ValueError, match=r"only 0\.0% of the fragments of 'few'"):
        tokenize_fragments(path, universe)
    path = write(tmp_path / "species.tsv", [("chr2L", s, e, b) for _, s, e, b in good])
    with pytest.raises(ValueError, match="no chromosome in common: 'chr2L' and 'chr1'"):
        tokenize_fragments(path, universe, min_share=0)


def test_bed_files_of_another_genome(tmp_path, rng):
    universe = far_peaks(rng, 4000, 5000)
    other = [("chr1", int(s), int(s) + 500) for s in rng.integers(0, 2 * 10**7, 3000)]
    with pytest.raises(ValueError, match="they hit by chance"):
        tokenize_bed(write(tmp_path / "a.bed", other), universe)
    with pytest.raises(ValueError, match="only 0 of 1 regions"):
        tokenize_bed(write(tmp_path / "b.bed", [("chrX", 1, 2)]), universe)
    empty = tokenize_bed(write(tmp_path / "c.bed", []), universe)
    assert empty.obs["is_empty"].tolist() == [True]
    assert empty.obs["fraction_in_universe"].isna().all()


def test_other_names_of_the_same_chromosomes(tmp_path):
    lines = [("1", 10, 200, "A"), ("2", 40, 70, "A")]
    path = write(tmp_path / "f.tsv", lines)
    assert sets(tokenize_fragments(path, NAMES)) == [[0, 1, 2]]
    assert sets(tokenize_bed(write(tmp_path / "f.bed", [x[:3] for x in lines]), NAMES)) == [
        [0, 1, 2]
    ]
    both = ["1:0-100", "chr1:0-100"]
    assert sets(tokenize_fragments(path, both)) == [[0]]
    adata = anndata.AnnData(np.ones((1, 1)), var=pd.DataFrame(index=["chr1:5-9"]))
    assert sets(tokenize_anndata(adata, both[::-1])) == [[0]]
    var = pd.DataFrame(index=["1:10-200", "2:40-70"])
    assert sets(tokenize_anndata(anndata.AnnData(np.ones((1, 2)), var=var), NAMES)) == [[0, 1, 2]]


def simulated(tmp_path, n=20_000):
    """A universe, and fragments of which some lie in it, as files."""
    draw = np.random.default_rng(1)
    regions = pd.concat(
        [far_peaks(draw, 500, 4000).assign(chrom=chrom) for chrom in ("chr1", "chr2", "chr10")],
        ignore_index=True,
    )
    row = draw.integers(0, len(regions), n)
    start = regions["start"].to_numpy()[row] + draw.integers(-150, 1500, n)
    start = np.maximum(start, 0)
    table = pd.DataFrame({"chrom": regions["chrom"].to_numpy()[row], "start": start})
    table["end"] = start + draw.integers(30, 700, n)
    table["cell"] = [f"CELL{i}-1" for i in draw.integers(0, 30, n)]
    table["count"] = 1
    # each fragment of a cell once: SnapATAC2 would drop what it takes for copies
    table = table.drop_duplicates(["chrom", "start", "end", "cell"])
    table = table.sort_values(["chrom", "start", "end"])
    path = tmp_path / "f.tsv.gz"
    table.to_csv(path, sep="\t", header=False, index=False)
    return Universe(regions), path, table


def test_equal_to_gtars(tmp_path):
    from gtars import tokenizers

    universe, path, _ = simulated(tmp_path)
    theirs = tokenizers.Tokenizer.from_bed(str(universe.save(tmp_path / "u.bed")))
    sequences = tokenizers.tokenize_fragment_file(str(path), theirs)
    cells = tokenize_fragments(path, universe, barcodes=sorted(sequences))
    expected = [sorted(set(sequences[cell]) - {universe.unk_id}) for cell in cells.obs_names]
    assert sets(cells) == expected
    # without the sets: the same tokens as often
    counts = read_fragments(path, universe, barcodes=cells.obs_names, counting="fragment")
    flat = np.concatenate([sequences[cell] for cell in cells.obs_names])
    flat = flat[flat != universe.unk_id]
    assert (
        np.bincount(flat, minlength=len(universe)) == np.asarray(counts.X.sum(axis=0)).ravel()
    ).all()


@pytest.mark.parametrize("counting", ["fragment", "insertion", "paired-insertion"])
def test_equal_to_snapatac2(tmp_path, counting):
    import snapatac2 as snap

    universe, path, table = simulated(tmp_path)
    sizes = dict.fromkeys(["chr1", "chr2", "chr10"], 3_000_000)
    data = snap.pp.import_fragments(
        path, sizes, sorted_by_barcode=False, min_num_fragments=0, tempdir=tmp_path
    )
    peaks = snap.pp.make_peak_matrix(
        data, use_rep=universe.names.tolist(), counting_strategy=counting
    )
    cells = tokenize_fragments(path, universe, barcodes=peaks.obs_names, mode=counting)
    assert (cells.obsm["X_tokens"] != (sp.csr_matrix(peaks.X) > 0)).nnz == 0
    counts = read_fragments(path, universe, barcodes=peaks.obs_names, counting=counting)
    assert (counts.X != sp.csr_matrix(peaks.X)).nnz == 0


def test_start_site_enrichment_equals_snapatac2(tmp_path):
    import snapatac2 as snap

    universe, path, _ = simulated(tmp_path)
    sites = universe.regions.iloc[::5].reset_index(drop=True)
    sites = sites[sites["start"] > 2000]  # SnapATAC2 shifts windows that begin before the genome
    sites["start"] += 200
    sites["end"] = sites["start"] + 1
    with (tmp_path / "genes.gtf").open("w") as file:
        for i, (chrom, start, _) in enumerate(sites.itertuples(index=False)):
            names = "; ".join(f'{key} "G{i}"' for key in ("gene_name", "gene_id", "transcript_id"))
            span = f"{start + 1}\t{start + 900}"
            file.write(f"{chrom}\tx\ttranscript\t{span}\t.\t+\t.\t{names};\n")
    sizes = dict.fromkeys(["chr1", "chr2", "chr10"], 3_000_000)
    data = snap.pp.import_fragments(
        path, sizes, sorted_by_barcode=False, min_num_fragments=0, tempdir=tmp_path
    )
    snap.metrics.tsse(data, tmp_path / "genes.gtf")
    cells = tokenize_fragments(path, universe, barcodes=data.obs_names, tss=sites)
    assert cells.obs["tss_enrichment"].to_numpy() == pytest.approx(data.obs["tsse"].to_numpy())


@pytest.mark.real_data
def test_real_bed_files(data_dir):
    folder = data_dir / "bed"
    sets_ = sorted(folder.glob("nott2019_ATAC_*.hg19.bed.gz"))
    universe = Universe.consensus(sets_)
    cells = tokenize_bed(sets_, universe)
    assert (cells.obs["fraction_in_universe"] == 1).all()
    assert (cells.obsm["X_tokens"].sum(axis=0) >= 1).all()
    other = folder / "bom_mouseE8.25_celltype_specific_peaks.mm10.bed.gz"
    with pytest.raises(ValueError, match="another genome build or species"):
        tokenize_bed(other, universe)


def test_tokens_that_an_object_holds_do_not_come_back():
    var = pd.DataFrame(index=["chr1:0-10", "chr1:50-60"])
    cells = anndata.AnnData(np.eye(2, dtype=np.float32), var=var)
    cells.obsm["X_tokens"] = sp.csr_matrix(np.ones((2, 7), dtype=bool))
    cells.obsm["X_pca"] = np.ones((2, 3))
    found = tokenize_anndata(cells, ["chr1:0-20", "chr1:40-70", "chr2:0-9"])
    assert found.obsm["X_tokens"].toarray().tolist() == [[True, False, False], [False, True, False]]
    assert found.obsm["X_pca"].shape == (2, 3)
