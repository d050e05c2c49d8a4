from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atacvi.regions import FragmentReader
from atacvi.regions import _stream as stream

BARCODE = st.text("ACGT-1:é", min_size=1, max_size=20)
FRAGMENT = st.tuples(
    st.sampled_from(["chr1", "1", "chrUn_KI270742v1"]),
    st.integers(0, 2**31 - 2000),
    st.integers(1, 1500),
    BARCODE,
).map(lambda t: (t[0], t[1], t[1] + t[2], t[3]))


def rows(reader):
    out = []
    for block in reader:
        arrays = (block.chrom, block.start, block.end, block.barcode)
        out += list(zip(*(a.tolist() for a in arrays), strict=True))
    names = [*reader.barcodes, None, None]
    chroms = reader.chroms
    return [(chroms[c], s, e, names[b]) for c, s, e, b in out]


@given(
    st.lists(FRAGMENT, min_size=1, max_size=40),
    st.sampled_from([[], ["3"], ["3", "+", "x"]]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_read_back(tmp_path_factory, fragments, more, end, packed):
    path = tmp_path_factory.mktemp("fragments") / "f.tsv"
    text = f"# header{end}" + "".join("\t".join(map(str, [*f, *more])) + end for f in fragments)
    text = text.removesuffix(end)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert rows(FragmentReader(path)) == fragments


def test_small_blocks_give_the_same(tmp_path, monkeypatch, rng):
    fragments = [
        (f"chr{i % 7}", int(s), int(s) + 30, f"B{rng.integers(3000)}")
        for i, s in enumerate(rng.integers(0, 10**6, 5000))
    ]
    path = tmp_path / "f.tsv"
    path.write_text("".join("\t".join(map(str, f)) + "\n" for f in fragments))
    monkeypatch.setattr(
        stream.line_blocks, "__kwdefaults__", {"block_bytes": 100, "on_bytes": None}
    )
    assert rows(FragmentReader(path)) == fragments


def test_many_and_long_barcodes(tmp_path):
    # more keys and bytes than the first tables hold
    names = [f"{i}-" + "ACGT" * (i % 300) for i in range(5000)]
    path = tmp_path / "f.tsv"
    path.write_text("".join(f"chr{i}\t1\t9\t{name}\n" for i, name in enumerate(names)))
    reader = FragmentReader(path)
    assert [row[3] for row in rows(reader)] == names
    assert reader.n_chroms == reader.n_barcodes == 5000


def test_listed_barcodes_come_first_and_alone(tmp_path):
    path = tmp_path / "f.tsv"
    path.write_text("chr1\t1\t9\tC\nchr1\t2\t9\tA\nchr1\t3\t9\t\t1\nchr1\t4\t9\tB\n")
    reader = FragmentReader(path, barcodes=["A", "B"], chroms=["chr2"])
    codes = [block.barcode.tolist() for block in reader]
    assert codes == [[-1, 0, -2, 1]]
    assert (reader.barcodes, reader.chroms) == (["A", "B"], ["chr2", "chr1"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("chr1\t5\t9", "fewer than four columns"),
        ("chr1 5 9 A", "fewer than four columns"),
        ("", None),
        ("\t5\t9\tA", "fewer than four columns"),
        ("chr1\t9\t5\tA", "a start that is not below its end"),
        ("chr1\t5\t5\tA", "a start that is not below its end"),
        ("chr1\t5.0\t9\tA", "no whole number"),
        ("chr1\t-5\t9\tA", "no whole number"),
        ("chr1\t5\t2147483648\tA", "no whole number"),
        ("chrom\tstart\tend\tbarcode", "no whole number"),
        ("chr1\t5\t9\t" + "A" * 5000, "a name of more than 4096"),
    ],
)
def test_bad_lines_are_named_with_their_number(tmp_path, line, problem):
    path = tmp_path / "bad.tsv"
    path.write_text(f"# id=x\nchr1\t1\t9\tA\n{line}\nchr1\t5\t9\tA\n")
    if problem is None:
        assert len(rows(FragmentReader(path))) == 2
        return
    with pytest.raises(ValueError, match=rf"bad\.tsv, line 3 has .*{problem}"):
        rows(FragmentReader(path))


def test_truncated_gzip(tmp_path):
    data = gzip.compress(b"".join(b"chr1\t%d\t%d\tA\n" % (i, i + 9) for i in range(1000)))
    path = tmp_path / "cut.tsv.gz"
    path.write_bytes(data[:-20])
    with pytest.raises(ValueError, match=r"cut\.tsv\.gz is truncated"):
        rows(FragmentReader(path))


def test_a_line_longer_than_a_block(tmp_path):
    path = tmp_path / "f.bin"
    path.write_bytes(b"a" * (stream.BLOCK_BYTES + 5))
    with pytest.raises(ValueError, match="it is no table of text"):
        rows(FragmentReader(path))


def test_bytes_are_told(tmp_path):
    path = tmp_path / "f.tsv.gz"
    path.write_bytes(gzip.compress(b"chr1\t1\t9\tA\n" * 1000))
    told = []
    for _ in FragmentReader(path, on_bytes=told.append):
        pass
    assert sum(told) == path.stat().st_size
