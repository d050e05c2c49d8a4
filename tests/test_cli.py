"""The command line: what it refuses, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import atacvi
from atacvi.cli import main


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """A simulated data set of 150 cells in a file."""
    path = tmp_path_factory.mktemp("input") / "tiny.h5mu"
    mdata = atacvi.datasets.simulate_multiome(150, 80, 300, 3, random_state=0)
    mdata.write(path)
    return path


def _write(path, change):
    """Write tiny data after a change."""
    mdata = atacvi.datasets.simulate_multiome(60, 40, 80, 3, random_state=0)
    result = change(mdata)
    (mdata if result is None else result).write(path)
    return path


def _refused(capsys, arguments, *words):
    """The command ends with code 2 and one line on stderr that holds the words."""
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    assert code == 2, out
    assert out.err.count("\n") == 1
    assert out.err.startswith("atacvi: error: ")
    assert "Traceback" not in out.err
    for word in words:
        assert word in out.err


# ---- usage --------------------------------------------------------------------------------------


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"atacvi {atacvi.__version__}"


def test_help_names_the_command(capsys):
    assert main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "COMMAND"),
        (["dem"], "dem"),
        (["demo"], "--out"),
        (["demo", "--out", ""], "empty"),
        (["demo", "--out", "x", "--max-epochs", "1"], "at least 2"),
        (["demo", "--out", "x", "--max-epochs", "many"], "'many'"),
        (["demo", "--out", "x", "--cells", "10"], "at least 100"),
        (["demo", "--out", "x", "--seed", "-1"], "at least 0"),
        (["demo", "--out", "x", "--colour", "red"], "--colour"),
    ],
)
def test_wrong_usage(arguments, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _refused(capsys, arguments, word)
    assert not list(tmp_path.iterdir())


# ---- the output folder --------------------------------------------------------------------------


def test_out_that_cannot_be_made(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    _refused(capsys, ["demo", "--out", file], "is a file")
    _refused(capsys, ["demo", "--out", tmp_path / "no" / "demo"], "does not exist")
    _refused(capsys, ["demo", "--out", tmp_path], "not empty", "--overwrite")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "mine"


def test_overwrite_spares_what_is_no_earlier_output(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    _refused(capsys, ["demo", "--out", tmp_path, "--overwrite"], "not replaced")
    assert (tmp_path / "thesis.txt").exists()


def test_input_inside_out_is_refused(capsys, tmp_path):
    for name in ("report.html", "multiome.h5mu"):
        (tmp_path / name).write_text("")
    arguments = ["demo", "--out", tmp_path, "--overwrite", "--input", tmp_path / "multiome.h5mu"]
    _refused(capsys, arguments, "lies in --out")
    assert (tmp_path / "multiome.h5mu").exists()


# ---- the input file -----------------------------------------------------------------------------


def test_input_that_is_no_file(capsys, tmp_path):
    out = ["demo", "--out", tmp_path / "demo", "--input"]
    _refused(capsys, [*out, tmp_path / "none.h5mu"], "does not exist")
    _refused(capsys, [*out, tmp_path], "is a folder")
    (tmp_path / "data.h5ad").write_text("")
    _refused(capsys, [*out, tmp_path / "data.h5ad"], ".h5mu")
    (tmp_path / "broken.h5mu").write_text("not HDF5")
    _refused(capsys, [*out, tmp_path / "broken.h5mu"], "cannot be read")
    assert not (tmp_path / "demo").exists()


def _rename(mdata):
    import mudata

    return mudata.MuData({"gex": mdata["rna"], "atac": mdata["atac"]})


def _negative(mdata):
    mdata["rna"].X = mdata["rna"].X.astype(np.float32)
    mdata["rna"].X.data[0] = -1.0


def _fractional(mdata):
    mdata["atac"].X = mdata["atac"].X.astype(np.float32) * 0.5


def _missing_numbers(mdata):
    mdata["rna"].X = mdata["rna"].X.astype(np.float32)
    mdata["rna"].X.data[3] = np.nan


def _other_order(mdata):
    import mudata

    return mudata.MuData({"rna": mdata["rna"], "atac": mdata["atac"][::-1].copy()})


def _few_cells(mdata):
    import mudata

    return mudata.MuData({name: mdata[name][:20].copy() for name in ("rna", "atac")})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_rename, ["'gex'", "'rna'"]),
        (_negative, ["negative"]),
        (_fractional, ["fractional"]),
        (_missing_numbers, ["NaN"]),
        (_other_order, ["order"]),
        (_few_cells, ["20 cells", "at least 50"]),
    ],
)
def test_input_that_does_not_hold_paired_counts(change, words, capsys, tmp_path):
    path = _write(tmp_path / "bad.h5mu", change)
    _refused(capsys, ["demo", "--out", tmp_path / "demo", "--input", path], "bad.h5mu", *words)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.h5mu"]


def test_columns_of_a_modality_are_found(tmp_path):
    from atacvi.report.source import read_source

    def hide(mdata):
        mdata.obs = mdata.obs[[]]

    source = read_source(_write(tmp_path / "x.h5mu", hide), "batch")
    assert source.mdata.obs["cell_type"].nunique() == 3
    assert "batch" in source.mdata.obs


def test_unknown_batch_key(capsys, tmp_path, tiny_file):
    arguments = ["demo", "--out", tmp_path / "demo", "--input", tiny_file, "--batch-key", "lane"]
    _refused(capsys, arguments, "'lane'")


# ---- runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tiny_file, tmp_path_factory):
    """Folder of a run on the tiny file."""
    out = tmp_path_factory.mktemp("run") / "demo"
    assert main(["demo", "--out", str(out), "--input", str(tiny_file), "--max-epochs", "2"]) == 0
    return out


@pytest.mark.slow
def test_demo_writes_everything(finished):
    names = {path.name for path in finished.iterdir()}
    expected = ["figures", "markers.csv", "model", "multiome.h5mu", "report.html", "scores.csv"]
    assert names == set(expected)
    assert [p.name for p in finished.parent.iterdir()] == ["demo"]
    figures = {path.stem for path in (finished / "figures").iterdir()}
    assert {"umap", "mixture_weights", "responsibilities", "training", "imputation"} <= figures
    scores = pd.read_csv(finished / "scores.csv")
    assert scores[["ari", "nmi"]].le(1).all(axis=None)
    assert scores["knn_accuracy"].between(0, 1).all()


@pytest.mark.slow
def test_results_load_as_the_report_says(finished, tiny_file):
    import mudata

    mdata = mudata.read_h5mu(finished / "multiome.h5mu")
    model = atacvi.MultiViewModel.load(str(finished / "model"), adata=mdata)
    latent = mdata.obsm["X_multiview"]
    np.testing.assert_allclose(model.get_latent_representation(), latent, atol=1e-5)
    clusters = model.predict_clusters().astype(str).to_numpy()
    np.testing.assert_array_equal(mdata.obs["multiview_cluster"].astype(str), clusters)
    assert list(mdata.obs_names) == list(mudata.read_h5mu(tiny_file).obs_names)
    markers = mdata.uns["atacvi"]["markers"]
    for name in ("rna", "atac"):
        features = markers.loc[markers["modality"] == name, "feature"]
        if len(features):
            imputed = mdata[name].obsm["imputed_markers"]
            assert set(imputed.columns) == set(features)
            assert np.isfinite(imputed.to_numpy()).all()


@pytest.mark.slow
def test_report_needs_nothing_but_itself(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(list((finished / "figures").iterdir()))
    for foreign in ("http://", "https://", "<script", "<link", 'src="/', "file:"):
        assert foreign not in page
    for part in ("Scores", "Marker genes", "Time and versions", "MultiViewModel.load"):
        assert part in page


@pytest.mark.slow
def test_earlier_output_is_replaced_only_when_told(finished, tiny_file, capsys):
    before = (finished / "report.html").read_bytes()
    arguments = ["demo", "--out", finished, "--input", tiny_file, "--max-epochs", "2"]
    _refused(capsys, arguments, "--overwrite")
    assert (finished / "report.html").read_bytes() == before
    (finished / "old").write_text("")
    assert main([str(a) for a in [*arguments, "--overwrite"]]) == 0
    assert not (finished / "old").exists()
    assert [p.name for p in finished.parent.iterdir()] == ["demo"]


@pytest.mark.slow
def test_failed_run_leaves_nothing(tmp_path, tiny_file, monkeypatch, capsys):
    def fail(*args, **kwargs):
        msg = "No space left on device"
        raise OSError(msg)

    monkeypatch.setattr("atacvi.report.demo._write", fail)
    arguments = ["demo", "--out", tmp_path / "demo", "--input", tiny_file, "--max-epochs", "2"]
    assert main([str(a) for a in arguments]) == 1
    assert "No space left on device; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_leaves_nothing(number, code, tmp_path, tiny_file):
    source = str(Path(atacvi.__file__).parents[1])
    run = subprocess.Popen(
        [sys.executable, "-m", "atacvi.cli", "demo", "--out", str(tmp_path / "demo")]
        + ["--input", str(tiny_file), "--max-epochs", "5000"],
        env={**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in run.stdout:
        if "epoch 1 " in line:  # in the middle of the training
            break
    assert any(tmp_path.iterdir())
    time.sleep(0.2)
    run.send_signal(number)
    rest, errors = run.communicate(timeout=60)
    assert "Exception" not in rest
    assert run.returncode == code, errors
    assert errors.strip().splitlines()[-1] == "atacvi: error: interrupted; nothing was written"
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
