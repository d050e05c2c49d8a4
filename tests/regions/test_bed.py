from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import parse_regions, read_bed, write_bed

LINE = st.tuples(
    st.sampled_from(["chr1", "1", "MT", "GL000194.1", "HLA-A*01:01"]),
    st.integers(0, 10**6),
    st.integers(0, 10**4),
).map(lambda t: (t[0], t[1], t[1] + t[2]))


@given(st.lists(LINE, min_size=1, max_size=20), st.integers(3, 12), st.sampled_from("\n \r"))
def test_every_width_is_read_back(tmp_path_factory, lines, width, end):
    path = tmp_path_factory.mktemp("bed") / "a.bed"
    more = [f"c{i}" for i in range(width - 3)]
    text = ["# a comment", 'track name="x"', "", "browser position chr1:1-2"]
    text += ["\t".join(map(str, [*line, *more])) for line in lines]
    path.write_bytes(("\r\n" if end == "\r" else "\n").join(text).encode())
    table = read_bed(path)
    assert table[["chrom", "start", "end"]].to_numpy().tolist() == [list(line) for line in lines]
    assert table.shape == (len(lines), width)
    assert table["start"].dtype == np.int64


def test_names_of_the_columns(tmp_path):
    path = tmp_path / "genes.bed"
    path.write_text("chr1\t5\t9\tMYC\t0\t-\n")
    assert read_bed(path).iloc[0].to_dict() == {
        "chrom": "chr1", "start": 5, "end": 9, "name": "MYC", "score": "0", "strand": "-",
    }  # fmt: skip
    path.write_text('chr1\t5\t9\tNA\t-\nchr1\t7\t9\t"b\t+\n')
    table = read_bed(path)
    assert table["strand"].tolist() == ["-", "+"]
    assert table["name"].tolist() == ["NA", '"b']  # neither missing nor a quotation


def test_blanks_and_gzip_under_another_name(tmp_path):
    path = tmp_path / "peaks.txt"
    path.write_bytes(gzip.compress(b"chr1  5 9\nchr2 1   4\n"))
    assert read_bed(path).to_numpy().tolist() == [["chr1", 5, 9], ["chr2", 1, 4]]


def test_a_chromosome_called_track(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("tracker\t1\t2\n")
    assert read_bed(path)["chrom"].tolist() == ["tracker"]


def test_an_empty_file_has_no_regions(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("# nothing\n")
    table = read_bed(path)
    assert table.columns.tolist() == ["chrom", "start", "end"]
    assert (len(table), table["end"].dtype) == (0, np.int64)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("chr1\t10\t5", "a start above its end"),
        ("chr1\t10", "2 columns, not 3 to 12"),
        ("\t".join(["chr1", "1", "2", *"abcdefghij"]), "13 columns, not 3 to 12"),
        ("chrom\tstart\tend", "a start that is no whole number"),
        ("chr1\t1\t2.5", "an end that is no whole number"),
        ("chr1\t-1\t2", "a start that is no whole number"),
        ("chr1\t1\t3000000000", "an end that is no whole number"),
        ("chr1\t\t2", "a start that is no whole number"),
        ("\t1\t2", "no chromosome"),
    ],
)
def test_bad_lines_are_named_with_their_number(tmp_path, line, problem):
    path = tmp_path / "bad.bed"
    path.write_text(f"# comment\nchr1\t1\t2\n\n{line}\nchr1\t5\t6\n")
    with pytest.raises(ValueError, match=rf"bad\.bed, line 4 has {problem}"):
        read_bed(path)


def test_files_that_are_no_bed(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_bed(tmp_path / "none.bed")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_bed(tmp_path)
    path = tmp_path / "x.bed"
    path.write_bytes(b"BZh91AY")
    with pytest.raises(ValueError, match="compressed with bzip2"):
        read_bed(path)
    path.write_bytes(b"\xff\xfe\x00\x01\n")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_bed(path)


@pytest.mark.parametrize("cut", [1, 9, 200])
def test_truncated_gzip(tmp_path, cut, rng):
    text = "".join(f"chr1\t{i}\t{i + 5}\n" for i in rng.integers(0, 10**8, 500))
    path = tmp_path / "cut.bed.gz"
    path.write_bytes(gzip.compress(text.encode())[:-cut])
    with pytest.raises(ValueError, match=r"cut\.bed\.gz is truncated"):
        read_bed(path)


def test_damaged_gzip(tmp_path):
    data = bytearray(gzip.compress(b"chr1\t1\t2\n" * 1000))
    data[-6] ^= 255
    path = tmp_path / "bad.bed.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        read_bed(path)


def bgzip(text: bytes, end: bool = True) -> bytes:
    """Text as bgzip writes it: members with an extra field that holds their size."""
    out = b""
    for low in range(0, len(text), 1000):
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        part = text[low : low + 1000]
        body = packer.compress(part) + packer.flush()
        size = (len(body) + 25).to_bytes(2, "little")
        tail = zlib.crc32(part).to_bytes(4, "little") + len(part).to_bytes(4, "little")
        out += bytes.fromhex("1f8b08040000000000ff0600424302 00".replace(" ", "")) + size
        out += body + tail
    return out + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000") * end


def test_bgzip_and_its_end_mark(tmp_path):
    text = b"".join(b"chr1\t%d\t%d\n" % (i, i + 5) for i in range(500))
    path = tmp_path / "b.bed.gz"
    path.write_bytes(bgzip(text))
    assert len(read_bed(path)) == 500
    path.write_bytes(bgzip(text, end=False))
    with pytest.warns(UserWarning, match="lacks the end mark of bgzip"):
        assert len(read_bed(path)) == 500


def test_written_files_are_the_same_every_time(tmp_path):
    regions = parse_regions(["chr2:5-9", "chr1:1-3"])
    for name in ("a.bed.gz", "b.bed.gz"):
        write_bed(regions, tmp_path / name)
    assert (tmp_path / "a.bed.gz").read_bytes() == (tmp_path / "b.bed.gz").read_bytes()
    assert read_bed(tmp_path / "a.bed.gz").to_numpy().tolist() == regions.to_numpy().tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bed.gz", "b.bed.gz"]


@pytest.mark.real_data
def test_real_files_are_read(data_dir):
    genes = read_bed(data_dir / "annotation" / "abc_CollapsedGeneBounds.hg38.bed.gz")
    assert genes["name"].iloc[0] == "FAM138A"
    assert set(genes["strand"]) == {"+", "-"}
    for path in sorted((data_dir / "bed").glob("*.bed.gz"))[::16]:
        assert len(read_bed(path)) > 100
