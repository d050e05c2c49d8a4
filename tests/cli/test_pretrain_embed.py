"""``atacvi pretrain`` and ``atacvi embed``."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from atacvi.cli._arguments import Parser
from atacvi.cli._embed import add_embed
from atacvi.cli._pretrain import add_pretrain
from atacvi.models import AtacformerModel


def run(*words) -> int:
    parser = Parser(prog="atacvi")
    commands = parser.add_subparsers(required=True)
    add_pretrain(commands)
    add_embed(commands)
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.run(arguments)


def cells(n_cells=80, seed=0):
    rng = np.random.default_rng(seed)
    start = np.arange(50) * 5_000
    var = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})
    var.index = [f"chr1:{s}-{s + 500}" for s in start]
    obs = pd.DataFrame(index=[f"cell{seed}_{i}" for i in range(n_cells)])
    return anndata.AnnData(sp.csr_matrix(rng.random((n_cells, 50)) < 0.3).astype(float), obs, var)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    for seed in (0, 1):
        cells(seed=seed).write_h5ad(folder / f"part{seed}.h5ad")
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder):
    out = folder.parent / "checkpoint"
    code = run("pretrain", folder, "--out", out, "--max-epochs", 1, "--accelerator", "cpu")
    assert code == 0
    return out


def test_pretrain_writes_a_checkpoint_of_all_files(checkpoint, folder, capsys):
    names = {p.name for p in checkpoint.iterdir()}
    assert names == {"config.json", "model.safetensors", "universe.bed.gz", "history.csv"}
    model = AtacformerModel.from_pretrained(checkpoint)
    assert model.get_latent_representation(cells(5, seed=7)).shape == (5, 64)
    assert "context_gain_train" in pd.read_csv(checkpoint / "history.csv").columns
    assert run("pretrain", folder, "--out", checkpoint, "--max-epochs", 1) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_pretrain_goes_on_from_a_checkpoint(checkpoint, folder, tmp_path):
    words = ("--max-epochs", 1, "--accelerator", "cpu", "--from", checkpoint)
    assert run("pretrain", folder / "part0.h5ad", "--out", tmp_path / "next", *words) == 0
    assert (tmp_path / "next" / "model.safetensors").exists()


def test_embed_cells_and_bed_files(checkpoint, folder, tmp_path, capsys):
    out = tmp_path / "embedded.h5ad"
    assert run("embed", folder / "part0.h5ad", "--model", checkpoint, "--out", out) == 0
    assert "80 rows, 64 dimensions" in capsys.readouterr().out
    found = anndata.read_h5ad(out)
    model = AtacformerModel.from_pretrained(checkpoint)
    expected = model.get_latent_representation(anndata.read_h5ad(folder / "part0.h5ad"))
    np.testing.assert_allclose(found.obsm["X_atacformer"], expected, atol=1e-6)
    bed = tmp_path / "sample.bed"
    bed.write_text("".join(f"chr1\t{s}\t{s + 300}\n" for s in range(0, 100_000, 10_000)))
    assert run("embed", bed, "--model", checkpoint, "--out", tmp_path / "bed.h5ad") == 0
    assert anndata.read_h5ad(tmp_path / "bed.h5ad").obsm["X_atacformer"].shape == (1, 64)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pretrain", "none.h5ad", "--out", "{tmp}/x"), "none.h5ad does not exist"),
        (("pretrain", "{folder}", "--out", "{tmp}/no/x"), "make it first"),
        (("pretrain", "{tmp}", "--out", "{tmp}/x"), "holds no file that ends in .h5ad"),
        (
            ("embed", "{folder}", "--model", "{tmp}", "--out", "{tmp}/x.h5ad"),
            "holds no universe.bed.gz",
        ),
        (("embed", "{folder}", "--model", "{tmp}", "--out", "{tmp}/x.txt"), "ends in .h5ad"),
        (("embed", "none.bed", "--model", "{check}", "--out", "{tmp}/x.h5ad"), "does not exist"),
    ],
)
def test_wrong_input_leaves_nothing_behind(words, message, folder, checkpoint, tmp_path, capsys):
    places = {"tmp": tmp_path, "folder": folder, "check": checkpoint}
    assert run(*(word.format(**places) for word in words)) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_of_different_peaks_are_refused(folder, tmp_path, capsys):
    other = cells(seed=3)[:, :40].copy()
    other.write_h5ad(tmp_path / "other.h5ad")
    files = (folder / "part0.h5ad", tmp_path / "other.h5ad")
    assert run("pretrain", *files, "--out", tmp_path / "x") == 2
    assert "other peaks" in capsys.readouterr().err
