"""The committed notebooks are executed, clean and listed; their tables are compared as promised."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tutorials"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# Paths of a machine: what stands in the documentation of a stranger says nothing there.
MACHINE_PATH = re.compile(r"(?<![\w.])(/tmp|/home|/work|/root|/Users|/var|/opt|[A-Z]:\\Users)\b")


@pytest.fixture(scope="module")
def compare():
    specification = importlib.util.spec_from_file_location("compare", FOLDER / "compare.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(params=NOTEBOOKS)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def _code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _outputs(notebook):
    return [output for cell in _code(notebook) for output in cell["outputs"]]


def _text(value):
    return "".join(value)


def _words(output):
    """All text of an output; a figure is none."""
    parts = [_text(output.get("text", ""))]
    parts += [_text(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(parts)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_executed_from_top_to_bottom_without_error(notebook):
    counts = [cell["execution_count"] for cell in _code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [o for o in _outputs(notebook) if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in _outputs(notebook))


def test_no_noise_and_no_path_of_a_machine(notebook):
    assert not [_words(o) for o in _outputs(notebook) if o.get("name") == "stderr"]
    words = "\n".join(_words(o) for o in _outputs(notebook))
    words += "\n".join(_text(cell["source"]) for cell in notebook["cells"])
    assert not MACHINE_PATH.findall(words)
    assert "\r" not in words  # progress bars


def test_small_and_without_metadata_of_a_machine(name, notebook):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert not [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]]


def test_says_where_its_cells_come_from(notebook):
    words = "\n".join(_words(o) for o in _outputs(notebook))
    assert "Real data" in words or "simulated" in words


def test_listed_where_a_reader_looks(name):
    assert f"({name}.ipynb)" in (FOLDER / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert f"\ntutorials/{name}\n" in page


def test_lists_name_only_what_is_there():
    page = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^tutorials/(\w+)$", page, flags=re.MULTILINE)) == NOTEBOOKS


def test_tables_are_committed_with_rules_that_hold(compare, name, notebook):
    folder = FOLDER / "data" / name
    written = re.findall(r"TABLES / f?\"([\w{}]+)\.csv\"", "\n".join(_sources(notebook)))
    patterns = [re.sub(r"\{\w+\}", r"\\w+", one) for one in written]  # f"umap_{key}.csv"
    tables = [path.stem for path in folder.glob("*.csv")]
    for pattern in patterns:
        assert any(re.fullmatch(pattern, table) for table in tables), pattern
    for table in tables:
        assert any(re.fullmatch(pattern, table) for pattern in patterns), table
    assert tables
    assert compare.compare_folders(folder, folder) == []  # the rules can be read and fit the tables
    assert max(path.stat().st_size for path in folder.glob("*.csv")) < 150_000


def _sources(notebook):
    return [_text(cell["source"]) for cell in _code(notebook)]


def test_no_tables_of_a_notebook_that_is_gone():
    assert {path.name for path in (FOLDER / "data").iterdir()} <= set(NOTEBOOKS)


# ---- the comparison itself


TABLE = pd.DataFrame({"method": ["a", "b"], "score": [0.5, 0.25], "n": [3, 4]})


def test_rounding_is_no_difference(compare):
    assert compare.compare(TABLE.assign(score=TABLE["score"] * (1 + 1e-5)), TABLE, {}) == []


@pytest.mark.parametrize(
    ("doctored", "words"),
    [
        (TABLE.assign(score=[0.5, 0.26]), "score differs in 1 rows, first row 1: .*0.26.*0.25"),
        (TABLE.assign(score=[0.5, np.nan]), "score differs in 1 rows"),
        (TABLE.assign(method=["a", "c"]), "method differs in 1 rows"),
        (TABLE.assign(score=["0.5", "x"]), "score is not numeric"),
        (TABLE.iloc[:1], "1 rows, committed 2"),
        (TABLE.iloc[::-1].reset_index(drop=True), "method differs in 2 rows"),
        (TABLE[["method", "n", "score"]], "columns are"),
        (TABLE.assign(more=1), "columns are"),
    ],
)
def test_a_doctored_table_is_found(compare, doctored, words):
    found = " ".join(compare.compare(doctored, TABLE, {}))
    assert re.search(words, found), found


def test_tolerances_hold_for_a_table_or_a_column(compare):
    other = TABLE.assign(score=[0.52, 0.27])
    assert compare.compare(other, TABLE, {"absolute": 0.03}) == []
    assert compare.compare(other, TABLE, {"absolute": 0.01})
    assert compare.compare(other, TABLE, {"columns": {"score": {"absolute": 0.03}}}) == []
    assert compare.compare(other, TABLE, {"columns": {"n": {"absolute": 0.03}}})


def test_curves_may_end_at_another_epoch(compare):
    epochs = np.arange(20)
    curve = pd.DataFrame({"epoch": epochs, "loss": 10 + 5 * np.exp(-epochs / 5)})
    rule = {"kind": "curves", "relative": 0.01}
    assert compare.compare(curve.iloc[:17], curve, rule) == []
    assert compare.compare(curve.iloc[:10], curve, rule) == ["10 rows, committed 20"]
    assert compare.compare(curve.assign(loss=curve["loss"] * 1.05).iloc[:17], curve, rule)
    assert compare.compare(curve.assign(epoch=epochs + 50), curve, rule)


def test_cells_may_turn_and_be_renamed_but_not_move(compare):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 400)
    points = rng.normal(size=(400, 2)) + 8 * np.stack([group % 2, group // 2], axis=1)
    cells = pd.DataFrame({"cluster": [f"c{k}" for k in group], "sure": rng.random(400)})
    cells[["x", "y"]] = points
    rule = {"kind": "cells", "coordinates": ["x", "y"], "agreement": 0.9, "neighbours": 0.8}
    turned = cells.assign(cluster=[f"c{3 - k}" for k in group], x=-cells["y"], y=cells["x"] + 5)
    assert compare.compare(turned, cells, rule) == []
    other = rng.permutation(400)
    shuffled = {
        "share of neighbours": turned.assign(x=points[other, 0], y=points[other, 1]),
        "Rand index": turned.assign(cluster=cells["cluster"].to_numpy()[other]),
        "correlation of sure": turned.assign(sure=cells["sure"].to_numpy()[other]),
    }
    for words, doctored in shuffled.items():
        found = compare.compare(doctored, cells, rule)
        assert len(found) == 1
        assert words in found[0]
    assert compare.compare(turned.assign(sure=1.0), cells, rule)  # constant: no correlation
    assert compare.compare(cells.iloc[:-1], cells, rule) == ["399 rows, committed 400"]


def test_folders_must_hold_the_same_tables(compare, tmp_path):
    committed, found = tmp_path / "committed", tmp_path / "found"
    for folder in (committed, found):
        folder.mkdir()
        TABLE.to_csv(folder / "scores.csv", index=False)
    assert compare.compare_folders(found, committed) == []
    TABLE.to_csv(committed / "lost.csv", index=False)
    TABLE.to_csv(found / "new.csv", index=False)
    TABLE.assign(n=[3, 5]).to_csv(found / "scores.csv", index=False)
    faults = compare.compare_folders(found, committed)
    assert faults[:2] == ["lost: not written", "new: not committed"]
    assert faults[2].startswith("scores: n differs in 1 rows")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("[tables.a]\nabsolute = 1", "does not say why"),
        ("[tables.a]\nwhy = 'x'\ntolerance = 1", "unknown"),
        ("[tables.a]\nwhy = 'x'\nkind = 'loose'", "kind of a is 'loose'"),
        ("data = []", "unknown"),
    ],
)
def test_rules_that_mean_nothing_are_refused(compare, tmp_path, rules, words):
    (tmp_path / compare.RULES).write_text(rules)
    with pytest.raises(ValueError, match=words):
        compare.read_rules(tmp_path)


def test_a_rule_without_table_is_a_fault(compare, tmp_path):
    (tmp_path / compare.RULES).write_text("[tables.gone]\nwhy = 'x'\nabsolute = 1")
    faults = compare.compare_folders(tmp_path, tmp_path)
    assert faults == [f"gone: has a rule in {compare.RULES} but no table"]


def test_check_tells_which_real_data_is_missing(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    for module in ("compare", "execute"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    specification = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    execute = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(execute)
    monkeypatch.setattr(execute, "HERE", tmp_path)
    rules = tmp_path / "data" / "one" / execute.RULES
    rules.parent.mkdir(parents=True)
    rules.write_text("files = ['a.h5ad', 'b.h5ad']")
    (tmp_path / "a.h5ad").touch()
    monkeypatch.setenv("ATACVI_DATA_DIR", str(tmp_path))
    assert execute.missing_files("one") == ["b.h5ad"]
    monkeypatch.delenv("ATACVI_DATA_DIR")
    assert execute.missing_files("one") == ["a.h5ad", "b.h5ad"]
    assert execute.missing_files("two") == []
