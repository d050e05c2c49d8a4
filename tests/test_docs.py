"""The documentation names everything that the package promises."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["data", "datasets", "diffusion", "hub", "likelihoods", "metrics", "models", "pl", "pp"]
ROOMS += ["priors", "regions", "tl"]
MODEL_GUIDES = ["multiview", "atacdiff", "atacformer", "craft"]
PAGES = sorted(
    str(file.relative_to(ROOT))
    for folder in ("docs", "docs/user_guide")
    for file in (ROOT / folder).glob("*.md")
)


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


def _argument_table(guide: str) -> dict[str, list[str]]:
    """Default of each argument, and that of the other preset where the guide gives it."""
    page = (ROOT / "docs" / "user_guide" / f"{guide}.md").read_text()
    lines = page.split("| argument |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        name: [cell.strip("`") for cell in defaults]
        for names, _, *defaults in rows
        for name in re.findall(r"`(\w+)`", names)
    }


def _defaults(function, left_out: list[str]) -> dict[str, object]:
    """Defaults of a signature."""
    from inspect import signature

    parameters = signature(function).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: value for name, value in found.items() if name not in left_out}


def _assert_same(table: dict[str, list[str]], *columns: dict[str, object]) -> None:
    assert set(table) == set(columns[0])
    for name, texts in table.items():
        for text, values in zip(texts, columns, strict=True):
            if values[name] is None and text != "None":  # said in words
                continue
            same = text.strip('"') == str(values[name]) or float(text) == values[name]
            assert same, f"{name}: {text} in the guide, {values[name]}"


# what the models set from the data or from arguments of their own
OF_THE_DATA = ["n_batch", "n_cats_per_cov", "n_continuous_cov", "n_clusters"]


def test_guide_lists_the_arguments_of_the_module_with_their_defaults():
    from atacvi.models._presets import model_defaults
    from atacvi.modules import MultiViewModule

    left_out = [*OF_THE_DATA, "n_latent", "n_hidden", "n_embed"]
    left_out += ["peak_block", "gene_columns", "peak_columns"]
    wanted = _defaults(MultiViewModule, left_out)
    paper = {**wanted, **model_defaults("paper")}
    _assert_same(_argument_table("multiview"), wanted, paper)


def test_guide_to_atacdiff_lists_the_arguments_of_the_module():
    from atacvi.models._atacdiff_presets import atacdiff_defaults
    from atacvi.modules import ATACDiffModule

    wanted = _defaults(ATACDiffModule, [*OF_THE_DATA, "n_labels", "n_condition", "insertions"])
    paper = {**wanted, **atacdiff_defaults("paper")}
    _assert_same(_argument_table("atacdiff"), wanted, paper)


def test_guide_to_atacformer_lists_the_arguments_of_the_model_and_its_sizes():
    from atacvi.models import AtacformerModel
    from atacvi.regions import Universe

    wanted = _defaults(AtacformerModel, ["adata", "registry"])
    columns = []
    for preset in ("small", "base-hg38"):
        universe = Universe(["chr1:0-10", "chr1:20-30"])
        config = AtacformerModel(universe=universe, preset=preset).module.config
        sizes = {
            "n_embed": config.hidden_size,
            "n_layers": config.num_hidden_layers,
            "n_heads": config.num_attention_heads,
            "n_feedforward": config.intermediate_size,
            "pooling": config.pooling,
        }
        columns.append({**wanted, **sizes, "preset": preset})
    _assert_same(_argument_table("atacformer"), *columns)


def test_guide_to_craft_lists_the_arguments_of_the_model():
    from atacvi.models import CRAFTModel

    # of saved models alone
    left_out = ["adata", "registry", "geneformer_config"]
    _assert_same(_argument_table("craft"), _defaults(CRAFTModel, left_out))


@pytest.fixture
def short_training(monkeypatch):
    """A few epochs of training without a progress bar, whatever is asked for."""
    from functools import partialmethod

    from atacvi import models

    changes = {
        "MultiViewModel": {"train": {"max_epochs": 4, "mixture_start": 2}},
        "ATACDiffModel": {"train": {"max_epochs": 2}},
        "AtacformerModel": {"pretrain": {"max_epochs": 1}, "finetune": {"max_epochs": 1}},
        "CRAFTModel": {"train": {"max_epochs": 1, "imputation_epochs": 2}},
    }
    for name, methods in changes.items():
        model = getattr(models, name)
        for method, options in methods.items():
            quick = partialmethod(getattr(model, method), **options, enable_progress_bar=False)
            monkeypatch.setattr(model, method, quick)


def _run_blocks(page: str) -> dict:
    """Run every block of a page as it stands; return the names that it leaves."""
    import matplotlib as mpl

    mpl.use("agg")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    scope: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)
    return scope


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_python_of_the_page_runs(page, tmp_path, monkeypatch, short_training):
    """Every block as it stands, on simulated data in place of the file."""
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
    scope = _run_blocks(page)
    assert scope["mdata"].n_obs > 0
    assert scope["model"].is_trained


GUIDES = [f"user_guide/{name}" for name in (*MODEL_GUIDES, "fragments", "tools")]


@pytest.mark.slow
@pytest.mark.parametrize("guide", [*GUIDES, "scaling", "reproducibility", "hub"])
def test_python_of_the_guide_runs(guide, tmp_path, monkeypatch, short_training):
    monkeypatch.chdir(tmp_path)
    scope = _run_blocks(f"docs/{guide}.md")
    if guide == "user_guide/fragments":
        tokens = [scope[name].obsm["X_tokens"] for name in ("cells", "same")]
        # a cell has the same set from fragments as from the peaks that its fragments hit
        assert (tokens[0] != tokens[1]).nnz == 0
    elif guide == "reproducibility":
        assert len(scope["fingerprint"]) == 64
    else:
        assert scope["model"].is_trained


@pytest.mark.parametrize("guide", MODEL_GUIDES)
def test_guide_of_a_model_has_all_sections(guide):
    page = (ROOT / "docs" / "user_guide" / f"{guide}.md").read_text()
    headings = re.findall(r"^## (.+)$", page, flags=re.MULTILINE)
    assert {"Generative process", "Model"} & set(headings)
    wanted = {"Tasks", "Arguments", "Limits"}
    wanted.add("What differs from the publication, and from the authors' code")
    assert wanted <= set(headings), wanted - set(headings)
    assert "| variable | meaning | in the code |" in page


@pytest.mark.parametrize("guide", MODEL_GUIDES)
def test_guide_names_methods_that_exist(guide):
    """Every call of the table of tasks is a method of the model, or a function of the package."""
    from atacvi import models

    names = {name.lower(): name for name in models.__all__}
    model = getattr(models, names[f"{guide}model"])
    page = (ROOT / "docs" / "user_guide" / f"{guide}.md").read_text()
    tasks = page.split("\n## Tasks\n")[1].split("\n## ")[0]
    table = "\n".join(line for line in tasks.splitlines() if line.startswith("|"))
    calls = re.findall(r"`(\w+)\(", table) + re.findall(r"`(get_\w+|prepare_\w+)`", table)
    assert calls
    missing = [name for name in calls if not hasattr(model, name)]
    assert not missing
    for path in re.findall(r"`atacvi\.(\w+\.\w+)", table):
        room, name = path.split(".")
        assert hasattr(import_module(f"atacvi.{room}"), name), path


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


LINKED = ["README.md", "CHANGELOG.md", "benchmarks/README.md", "tutorials/README.md", *PAGES]


@pytest.mark.parametrize("page", LINKED)
def test_links_to_files_and_headings_lead_somewhere(page):
    source = ROOT / page
    text = re.sub(r"```.*?```", "", source.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", text)
    links += re.findall(r"^:::\{drawn\} (\S+)", source.read_text(), flags=re.MULTILINE)
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = source.parent / path if path else source
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_in_a_table_of_contents():
    named: set[str] = set()
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
            named |= {line.strip() for line in block.splitlines() if line and line[0] != ":"}
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES} - {"index"}
    assert pages <= named, pages - named


def test_figures_have_their_script():
    drawn = (ROOT / "docs" / "draw_figures.py").read_text()
    figures = list((ROOT / "docs" / "figures").glob("*.png"))
    assert figures, "draw them: python docs/draw_figures.py"
    unknown = [figure.name for figure in figures if f'"{figure.stem}"' not in drawn]
    assert not unknown


def test_tables_of_benchmarks_have_machine_and_command():
    for table in (ROOT / "docs" / "figures").glob("*.csv"):
        source = table.with_suffix(".md").read_text()
        assert re.search(r"^Machine: \S", source, flags=re.MULTILINE), table.name
        command = re.search(r"^Command: `python benchmarks/(\w+\.py)", source, flags=re.MULTILINE)
        assert command, table.name
        assert (ROOT / "benchmarks" / command[1]).exists(), table.name


def _benchmark_table():
    """What the Sphinx extension reads tables of benchmarks with."""
    import importlib.util

    path = ROOT / "docs" / "extensions" / "benchmark_table.py"
    spec = importlib.util.spec_from_file_location("benchmark_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_measured_table_is_read_with_its_columns(tmp_path):
    table = tmp_path / "speed.csv"
    table.write_text("method,seconds,error\nours,1.23456,\ntheirs,12,nan\n")
    read = _benchmark_table().read_table
    assert read(table, None) == (
        ["method", "seconds", "error"],
        [["ours", "1.23", ""], ["theirs", "12", ""]],
    )
    assert read(table, "seconds=s, method") == (
        ["s", "method"],
        [["1.23", "ours"], ["12", "theirs"]],
    )
    with pytest.raises(KeyError, match="no columns"):
        read(table, "minutes")
