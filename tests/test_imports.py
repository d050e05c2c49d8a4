"""The rooms of the package import downwards only, and the heavy libraries where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "atacvi"

# From the ground up: a room imports itself and rooms further left.
ROOMS = [
    "_constants",
    "_compat",
    "_docs",
    "likelihoods",
    "priors",
    "diffusion",
    "regions",
    "metrics",
    "data",
    "datasets",
    "pp",
    "nn",
    "modules",
    "training",
    "models",
    "hub",
    "tl",
    "pl",
    "report",
    "cli",
]

# Loading one of these must not load torch or scvi-tools.
LIGHT_ROOMS = ["regions", "metrics", "data", "datasets", "pp", "pl", "hub"]
# Files of these rooms may name torch or scvi-tools inside functions only.
LIGHT_PREFIXES = ("pp", "metrics", "regions", "data.checks", "datasets", "pl", "hub")
# What a room may never import, at any depth of its code
FORBIDDEN = {
    "regions": {"torch", "scvi", "lightning", "pyro"},
    "metrics": {"torch", "scvi", "lightning", "pyro"},
    "likelihoods": {"anndata", "mudata", "scanpy", "muon"},
    "priors": {"anndata", "mudata", "scanpy", "muon"},
    "diffusion": {"anndata", "mudata", "scanpy", "muon"},
    "nn": {"anndata", "mudata", "scanpy", "muon"},
}
# Rooms of plain numpy: what they may import of the package
NUMPY_WORLD = {
    "regions": {"_constants", "_compat", "_docs"},
    "metrics": {"_constants", "_compat", "_docs", "regions"},
    "pp": {"_constants", "_compat", "_docs", "regions", "data"},
}
PRIVATE_OF = {"scvi", "lightning", "anndata", "mudata"}


@dataclass(frozen=True)
class Import:
    """One import statement: what, where, and whether it runs when the file is loaded."""

    file: Path
    line: int
    module: str
    names: tuple[str, ...]
    at_load: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(SRC)}:{self.line} imports {self.module}"


def _module_name(file: Path) -> str:
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _absolute(file: Path, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = ["atacvi", *file.relative_to(SRC).parts[:-1]]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _walk(file: Path, body: list[ast.stmt], at_load: bool) -> list[Import]:
    found = []
    for node in body:
        if isinstance(node, ast.Import):
            found += [Import(file, node.lineno, a.name, (), at_load) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append(Import(file, node.lineno, _absolute(file, node), names, at_load))
        elif _is_type_checking(node):
            found += _walk(file, node.orelse, at_load)
        else:
            inner = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                found += _walk(file, getattr(node, field, []), inner)
    return found


def _imports() -> list[Import]:
    files = sorted(SRC.rglob("*.py"))
    return [i for file in files for i in _walk(file, ast.parse(file.read_text()).body, True)]


def _room(file: Path) -> str:
    return _module_name(file).split(".")[0]


def _rooms_named(imported: Import) -> set[str]:
    """Rooms of the package that an import statement reaches."""
    parts = imported.module.split(".")
    if parts[0] != "atacvi":
        return set()
    if len(parts) > 1:
        return {parts[1]}
    return {name for name in imported.names if name in ROOMS} or {"__init__"}


IMPORTS = _imports()


def test_every_file_belongs_to_a_known_room():
    rooms = {_room(file) for file in SRC.rglob("*.py")} - {""}
    assert rooms <= set(ROOMS), f"unknown rooms: {sorted(rooms - set(ROOMS))}"


def test_imports_run_downwards_only():
    wrong = []
    for imported in IMPORTS:
        room = _room(imported.file)
        if not room:
            continue  # the top level looks names up in every room
        for target in _rooms_named(imported) - {room}:
            # `from atacvi import __version__` reads a string and loads no room
            if target == "__init__" and set(imported.names) == {"__version__"}:
                continue
            if target not in ROOMS or ROOMS.index(target) > ROOMS.index(room):
                wrong.append(str(imported))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", sorted(NUMPY_WORLD))
def test_numpy_rooms_import_numpy_rooms_only(room):
    allowed = NUMPY_WORLD[room] | {room, "__init__"}
    wrong = [str(i) for i in IMPORTS if _room(i.file) == room and _rooms_named(i) - allowed]
    assert not wrong, "\n".join(wrong)


def test_light_rooms_name_torch_and_scvi_in_functions_only():
    wrong = []
    for imported in IMPORTS:
        name = _module_name(imported.file) + "."
        light = any(name.startswith(prefix + ".") for prefix in LIGHT_PREFIXES)
        heavy = imported.module.split(".")[0] in {"torch", "scvi", "lightning", "pyro"}
        if light and heavy and imported.at_load:
            wrong.append(str(imported))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_do_not_know_foreign_libraries(room):
    wrong = [
        str(i)
        for i in IMPORTS
        if _room(i.file) == room and i.module.split(".")[0] in FORBIDDEN[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_private_names_of_the_stack_are_in_compat_only():
    wrong = []
    for imported in IMPORTS:
        parts = imported.module.split(".")
        if parts[0] not in PRIVATE_OF or _room(imported.file) == "_compat":
            continue
        private = [p for p in (*parts, *imported.names) if p.startswith("_") and p[:2] != "__"]
        if private:
            wrong.append(f"{imported}: {', '.join(private)}")
    assert not wrong, "\n".join(wrong)


def _run(code: str) -> str:
    """Run code in a fresh interpreter that finds the package where the tests found it."""
    import atacvi

    where = str(Path(atacvi.__file__).parents[1])
    prelude = f"import sys; sys.path.insert(0, {where!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_quick_and_light():
    code = """
    import time
    start = time.perf_counter()
    import atacvi
    seconds = time.perf_counter() - start
    heavy = {"torch", "scvi", "scanpy", "muon", "anndata", "lightning"} & set(sys.modules)
    print(seconds, *sorted(heavy))
    """
    seconds, *heavy = _run(code).split()
    assert float(seconds) < 2.0
    assert not heavy


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_light_rooms_load_without_torch_and_scvi(room):
    if not (SRC / room).exists():
        pytest.skip(f"no room {room} in this version")
    code = f"""
    import atacvi.{room}
    print(*sorted({{"torch", "scvi", "lightning", "pyro"}} & set(sys.modules)))
    """
    assert _run(code) == ""
