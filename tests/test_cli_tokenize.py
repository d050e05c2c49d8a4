"""The command that makes tokens: what it writes, what it refuses, what it leaves behind."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import atacvi
from atacvi.cli import main
from atacvi.data import get_universe, tokenize_fragments
from atacvi.regions import Universe

NAMES = ["chr1:0-100", "chr1:150-300", "chr2:0-50"]
LINES = [("chr1", 10, 200, "A", 1), ("chr2", 4, 9, "B", 1), ("chr2", 60, 70, "C", 1)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder with a universe and fragments."""
    monkeypatch.chdir(tmp_path)
    Universe(NAMES).save(tmp_path / "universe.bed")
    _write("f.tsv.gz", LINES)
    return tmp_path


def _write(name, lines):
    text = "".join("\t".join(map(str, line)) + "\n" for line in lines).encode()
    Path(name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)


def _run(*arguments):
    common = ["tokenize", "--universe", "universe.bed", "--out", "cells.h5ad"]
    return main([*common, *map(str, arguments)])


def _sets(name="cells.h5ad"):
    cells = anndata.read_h5ad(name)
    rows = [row.indices.tolist() for row in cells.obsm["X_tokens"]]
    return dict(zip(cells.obs_names, rows, strict=True))


def _refused(capsys, arguments, *words):
    before = sorted(Path().iterdir())
    assert _run(*arguments) == 2
    out = capsys.readouterr()
    assert out.err.startswith("atacvi: error: ")
    assert out.err.count("\n") == 1
    for word in words:
        assert word in out.err
    assert sorted(Path().iterdir()) == before


def test_fragments(folder, capsys):
    assert _run("f.tsv.gz") == 0
    out = capsys.readouterr()
    assert "3 cells, median of 1 tokens, 1 empty" in out.out
    assert "Written to cells.h5ad" in out.out
    assert out.err == ""
    assert _sets() == {"A": [0, 1], "B": [2], "C": []}
    cells = anndata.read_h5ad("cells.h5ad")
    assert get_universe(cells) == Universe(NAMES)
    same = tokenize_fragments("f.tsv.gz", NAMES)
    pd.testing.assert_frame_equal(cells.obs, same.obs, check_index_type=False, check_dtype=False)
    assert sorted(p.name for p in folder.iterdir()) == ["cells.h5ad", "f.tsv.gz", "universe.bed"]


def test_options_of_fragments(folder):
    Path("barcodes.tsv").write_text("B\nA\n")
    Path("tss.bed").write_text("chr1\t12\t13\n")
    options = ["--barcodes", "barcodes.tsv", "--mode", "insertion", "--tss", "tss.bed"]
    assert _run("f.tsv.gz", *options) == 0
    assert _sets() == {"B": [2], "A": [0, 1]}
    cells = anndata.read_h5ad("cells.h5ad")
    assert cells.obs["tss_enrichment"].tolist()[1] > 0
    assert cells.uns["atacvi"]["tokens"]["mode"] == "insertion"


def test_samples(folder):
    _write("g.tsv", [("chr2", 4, 9, "A")])
    assert _run("f.tsv.gz", "g.tsv") == 0
    assert list(_sets()) == ["f:A", "f:B", "f:C", "g:A"]
    assert _run("x=f.tsv.gz", "y=g.tsv", "--overwrite") == 0
    assert list(_sets()) == ["x:A", "x:B", "x:C", "y:A"]
    assert _run(".", "--kind", "fragments", "--overwrite", "--min-fragments", "1") == 0
    assert list(_sets()) == ["f:A", "f:B", "f:C", "g:A"]


def test_bed_files(folder):
    _write("a.bed", [("chr1", 5, 8)])
    _write("b.narrowPeak", [("chr2", 5, 8), ("chr1", 99, 151)])
    assert _run("a.bed", "b.narrowPeak") == 0
    assert _sets() == {"a": [0], "b": [0, 1, 2]}


def test_peaks_of_an_anndata(folder):
    var = pd.DataFrame(index=["chr1:90-160", "chr2:10-20"])
    counts = np.array([[2.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    anndata.AnnData(counts, obs=pd.DataFrame(index=["p", "q"]), var=var).write_h5ad("peaks.h5ad")
    Universe(NAMES).save("model")
    assert _run("peaks.h5ad", "--universe", "model") == 0
    assert _sets() == {"p": [0, 1], "q": [2]}


def test_wrong_output(folder, capsys):
    _refused(capsys, ["f.tsv.gz", "--out", "cells.csv"], "ends in .h5ad")
    _refused(capsys, ["f.tsv.gz", "--out", "no/cells.h5ad"], "does not exist")
    Path("cells.h5ad").write_text("mine")
    _refused(capsys, ["f.tsv.gz"], "cells.h5ad exists", "--overwrite")
    assert Path("cells.h5ad").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["none.tsv"], "none.tsv does not exist"),
        (["f.tsv.gz", "--universe", "none.bed"], "none.bed"),
        (["f.tsv.gz", "--mode", "reads"], "'reads'"),
        (["f.tsv.gz", "--min-share", "2"], "'2' is no number within 0 and 1"),
        (["f.tsv.gz", "--min-fragments", "-1"], "at least 0"),
        (["f.tsv.gz", "--barcodes", "notes.txt"], "none of the 1 barcodes"),
        (["f.tsv.gz", "--barcodes", "universe.bed"], "'chr1'"),
        (["universe.bed", "--mode", "insertion"], "--mode is for fragments"),
        (["f.tsv.gz", "universe.bed"], "of several kinds: fragments (f.tsv.gz), bed"),
        (["x=f.tsv.gz", "f.tsv.gz"], "name all files or none"),
        (["x=f.tsv.gz", "x=f.tsv.gz"], "a name of its own"),
        (["notes.txt"], "say what they are: --kind"),
        (["broken.h5ad"], "cannot be read as .h5ad"),
        (["cut.tsv.gz"], "cut.tsv.gz is truncated"),
        (["f.tsv.gz", "bad.tsv"], "bad.tsv, line 2 has a start that is not below its end"),
        (["fly.tsv"], "no chromosome in common"),
    ],
)
def test_refusals_leave_nothing(folder, capsys, arguments, word):
    Path("notes.txt").write_text("AAAC-1\n")
    Path("broken.h5ad").write_text("no HDF5")
    Path("cut.tsv.gz").write_bytes(Path("f.tsv.gz").read_bytes()[:-9])
    _write("bad.tsv", [("chr1", 1, 5, "A"), ("chr1", 5, 1, "A")])
    _write("fly.tsv", [("chr2L", 1, 5, "A")])
    _refused(capsys, arguments, word)


def test_warnings_are_shown_in_one_line(folder, capsys):
    _write("f.tsv.gz", [*LINES, ("chr1", 1, 5, "", 1)])
    assert _run("f.tsv.gz") == 0
    warning = "atacvi: warning: 1 fragments of f.tsv.gz have an empty barcode and are left out\n"
    assert capsys.readouterr().err == warning


def test_a_full_disk_leaves_nothing(folder, capsys, monkeypatch):
    def fail(self, path, **kwargs):
        Path(path).write_bytes(b"half")
        msg = "No space left on device"
        raise OSError(28, msg)

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fail)
    assert _run("f.tsv.gz") == 1
    assert "No space left on device; nothing was written" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["f.tsv.gz", "universe.bed"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
def test_interrupted_run_leaves_nothing(folder):
    block = gzip.compress(b"".join(b"chr1\t%d\t%d\tA\t1\n" % (i, i + 90) for i in range(200_000)))
    Path("large.tsv.gz").write_bytes(block * 150)
    before = sorted(folder.iterdir())
    run = subprocess.Popen(
        [sys.executable, "-m", "atacvi.cli", "tokenize", "large.tsv.gz", "--out", "c.h5ad"]
        + ["--universe", "universe.bed", "--min-share", "0"],
        env={**os.environ, "PYTHONPATH": str(Path(atacvi.__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )
    opened = Path(f"/proc/{run.pid}/fd")
    large = (folder / "large.tsv.gz").resolve()
    while not any(large == link.resolve() for link in opened.iterdir()):  # still being read
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "atacvi: error: interrupted; nothing was written"
    assert "Traceback" not in errors
    assert sorted(folder.iterdir()) == before
