"""What stands beside the source: metadata, extras, the entries of lists."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import atacvi

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "atacvi"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Where the name that is imported is not that of the package
DISTRIBUTIONS = {"circe": "circe-py", "pyro": "pyro-ppl", "scvi": "scvi-tools"}
DISTRIBUTIONS |= {"sklearn": "scikit-learn"}
# Extras of a user; the others are for working on the package
OF_USERS = {"dask", "geneformer", "hub", "links"}


def _names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def _imports() -> dict[str, set[Path]]:
    """Distributions that the package imports, and where."""
    found: dict[str, set[Path]] = {}
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {n.partition(".")[0] for n in names}:
                if name not in sys.stdlib_module_names and name != "atacvi":
                    found.setdefault(DISTRIBUTIONS.get(name, name), set()).add(file)
    return found


def test_every_import_is_a_dependency_or_an_extra():
    required = _names(PROJECT["dependencies"])
    optional = {name: extra for extra in OF_USERS for name in _names(EXTRAS[extra])}
    imports = _imports()
    assert set(imports) <= required | set(optional), set(imports) - required - set(optional)
    for name, files in imports.items():
        for file in files if name not in required else []:
            # whoever imports an extra says its name where it is missing
            assert f"pip install 'atacvi[{optional[name]}]'" in file.read_text(), (name, file)


def test_extras_that_errors_name_exist():
    named = {
        extra
        for file in SRC.rglob("*.py")
        for extra in re.findall(r"atacvi\[(\w+)\]", file.read_text())
    }
    assert named == OF_USERS
    assert set(EXTRAS) >= named


@pytest.mark.parametrize("page", ["README.md", "docs/installation.md"])
def test_extras_are_described(page):
    text = (ROOT / page).read_text()
    assert {extra for extra in OF_USERS if f"`{extra}`" in text} == OF_USERS


def test_the_tests_bring_what_they_import():
    """A missing extra fails a test, it does not skip it: so the test extra must hold it."""
    assert _names(EXTRAS["hub"]) | _names(EXTRAS["dask"]) <= _names(EXTRAS["test"])


def test_without_circe_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "circe", None)
    mdata = atacvi.datasets.simulate_multiome(60, n_genes=80, n_peaks=200, n_cell_types=3)
    with pytest.raises(ImportError, match=r"pip install 'atacvi\[links\]'"):
        atacvi.tl.co_accessibility(mdata, method="circe")


def test_the_entry_for_the_ecosystem_is_complete():
    entry = yaml.safe_load((ROOT / "docs" / "meta.yaml").read_text())
    required = {"name", "description", "project_home", "documentation_home", "install", "license"}
    required |= {"tags", "contact", "version"}
    assert required <= set(entry)
    assert entry["name"] == PROJECT["name"]
    assert entry["license"] == PROJECT["license"]
    assert entry["version"] == atacvi.__version__
    assert entry["install"]["pypi"] == PROJECT["name"]
    assert all(entry[key].startswith("https://") for key in entry if key.endswith("_home"))
    assert len(set(entry["tags"])) == len(entry["tags"]) > 0


def test_the_citation_holds_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert str(citation["version"]) == atacvi.__version__
    types = {"article", "conference-paper", "software", "generic"}
    for work in [citation, *citation["references"]]:
        assert work["title"]
        assert all("name" in author or "family-names" in author for author in work["authors"])
    assert {work["type"] for work in citation["references"]} <= types


def test_the_changelog_tells_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "semver.org" in text
    assert atacvi.__version__ in text


def test_python_versions_agree():
    versions = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if ":: 3." in c}
    workflow = (ROOT / ".github" / "workflows" / "test.yaml").read_text()
    tested = set(re.findall(r'python: "(3\.\d+)"', workflow))
    assert versions <= tested
    assert PROJECT["requires-python"] == f">={min(versions)}"
