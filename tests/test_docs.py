"""The documentation names everything that the package promises."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["data", "datasets", "likelihoods", "metrics", "pl", "pp", "priors", "regions"]


@pytest.mark.parametrize("room", ROOMS)
def test_api_page_lists_exactly_what_is_public(room):
    page = (ROOT / "docs" / "api.md").read_text()
    listed = set(re.findall(rf"^   {room}\.(\w+)$", page, flags=re.MULTILINE))
    module = import_module(f"atacvi.{room}")
    # constants are described where they are used
    public = {name for name in module.__all__ if callable(getattr(module, name))}
    assert listed == public, f"docs/api.md: add {public - listed}, remove {listed - public}"


def test_readme_holds_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.count("python -m pip install . && atacvi demo --out demo") == 1
    assert lines.count('python -m pip install -e ".[test]" && python -m pytest') == 1


def _argument_table() -> dict[str, tuple[str, str]]:
    """Default and preset "paper" of each argument, from the table of the guide."""
    page = (ROOT / "docs" / "user_guide" / "multiview.md").read_text()
    lines = page.split("| argument |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        name: (default.strip("`"), paper.strip("`"))
        for names, _, default, paper in rows
        for name in re.findall(r"`(\w+)`", names)
    }


def test_guide_lists_the_arguments_of_the_module_with_their_defaults():
    from inspect import signature

    from atacvi.models._presets import model_defaults
    from atacvi.modules import MultiViewModule

    # what the model sets from the data or from arguments of its own
    of_the_model = ["n_batch", "n_cats_per_cov", "n_continuous_cov", "n_clusters", "n_latent"]
    of_the_model += ["n_hidden", "n_embed", "peak_block", "gene_columns", "peak_columns"]
    parameters = signature(MultiViewModule).parameters.values()
    wanted = {p.name: p.default for p in parameters if p.default is not p.empty}
    wanted = {name: value for name, value in wanted.items() if name not in of_the_model}
    table = _argument_table()
    assert set(table) == set(wanted)
    for name, default in wanted.items():
        if default is None:  # said in words
            continue
        paper = {**wanted, **model_defaults("paper")}[name]
        for text, value in zip(table[name], (default, paper), strict=True):
            assert text.strip('"') == str(value) or float(text) == value, name


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_python_of_the_page_runs(page, tmp_path, monkeypatch):
    """Every block as it stands, on simulated data in place of the file."""
    from functools import partialmethod

    import atacvi

    # six genes repeat a name, as in files of 10x; one peak is open nowhere
    mdata = atacvi.datasets.simulate_multiome(n_cells=200, n_genes=100, n_peaks=400)
    names = mdata["rna"].var_names.to_numpy(dtype=object, copy=True)
    names[:6] = names[6:12]
    mdata["rna"].var_names = names
    counts = mdata["atac"].X.tolil()
    counts[:, 3] = 0
    mdata["atac"].X = counts.tocsr()
    mdata["rna"].obs["sample"] = mdata["rna"].obs["batch"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("muon.read_10x_h5", lambda path: mdata)
    train = partialmethod(
        atacvi.MultiViewModel.train, max_epochs=4, mixture_start=2, enable_progress_bar=False
    )
    monkeypatch.setattr(atacvi.MultiViewModel, "train", train)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert "model.train()" in blocks[0]
    scope: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)
    assert scope["mdata"].n_obs > 0
    assert scope["model"].is_trained


@pytest.mark.parametrize("page", ["README.md", "docs/contributing.md", "benchmarks/README.md"])
def test_links_to_files_lead_somewhere(page):
    source = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", source.read_text())
    missing = [link for link in links if not (source.parent / link).exists()]
    assert not missing
