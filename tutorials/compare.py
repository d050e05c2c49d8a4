"""Compare the tables that figures are drawn from with those of another run.

A notebook writes each such table to ``data/<notebook>/<figure>.csv``. ``compare.toml`` beside the
tables names the real data that they come from and how far a table may differ, and why. A table
that it does not name may differ by rounding only.

Processors round differently, and hundreds of steps of training and layout amplify that; so there
are three kinds of comparison:

- ``values``, the default: the same rows and columns, text equal, numbers within
  ``absolute + relative * |committed|``.
- ``curves``, over the epochs of a training that ends by itself: as ``values`` at those values of
  the first column that both have; the lengths may differ by the share ``length``.
- ``cells``, of one row a cell: groupings agree up to their names (``agreement``, adjusted Rand
  index), other numbers correlate (``correlation``), and points of a layout, which may turn and
  drift as a whole, keep their neighbours (``neighbours``, mean share of the nearest 5 % of cells).
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

RULES = "compare.toml"
_ROUNDING: dict[str, Any] = {"relative": 1e-3, "absolute": 1e-6, "columns": {}}
_KINDS: dict[str, dict[str, Any]] = {
    "values": _ROUNDING,
    "curves": {**_ROUNDING, "length": 0.25},
    "cells": {"coordinates": [], "agreement": 1.0, "correlation": 0.99, "neighbours": 0.9},
}


def read_rules(folder: Path) -> dict[str, Any]:
    """Read the rules of a notebook's tables: the ``files`` it reads, and ``tables``.

    Raises
    ------
    ValueError
        An unknown key, or a tolerance without its reason (``why``).
    """
    path = folder / RULES
    rules = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if unknown := set(rules) - {"files", "tables"}:
        raise ValueError(f"{path}: unknown {sorted(unknown)}; allowed are files and tables")
    for name, rule in rules.get("tables", {}).items():
        kind = rule.get("kind", "values")
        if kind not in _KINDS:
            raise ValueError(f"{path}: kind of {name} is {kind!r}; allowed are {sorted(_KINDS)}")
        if unknown := set(rule) - {"kind", "why", *_KINDS[kind]}:
            raise ValueError(f"{path}: {name} has unknown {sorted(unknown)} for kind {kind!r}")
        if not rule.get("why"):
            raise ValueError(f"{path}: {name} does not say why it may differ; add why = '...'")
    return {"files": rules.get("files", []), "tables": rules.get("tables", {})}


def compare_folders(found: Path, committed: Path) -> list[str]:
    """Say what differs between the tables of a run and the committed ones; empty if nothing."""
    rules = read_rules(committed)
    names = {folder: {p.stem for p in folder.glob("*.csv")} for folder in (found, committed)}
    faults = [f"{name}: not written" for name in sorted(names[committed] - names[found])]
    faults += [f"{name}: not committed" for name in sorted(names[found] - names[committed])]
    unused = set(rules["tables"]) - names[committed]
    faults += [f"{name}: has a rule in {RULES} but no table" for name in sorted(unused)]
    for name in sorted(names[found] & names[committed]):
        tables = (pd.read_csv(folder / f"{name}.csv") for folder in (found, committed))
        faults += [f"{name}: {text}" for text in compare(*tables, rules["tables"].get(name, {}))]
    return faults


def compare(found: pd.DataFrame, committed: pd.DataFrame, rule: dict[str, Any]) -> list[str]:
    """Say what differs between two tables under a rule; empty if nothing."""
    if list(found.columns) != list(committed.columns):
        return [f"columns are {list(found.columns)}, committed {list(committed.columns)}"]
    kind = rule.get("kind", "values")
    rule = {**_KINDS[kind], **rule}
    if abs(len(found) - len(committed)) > rule.get("length", 0.0) * len(committed):
        return [f"{len(found)} rows, committed {len(committed)}"]
    if kind == "cells":
        return _compare_cells(found, committed, rule)
    if kind == "curves":
        x = committed.columns[0]
        found, committed = (
            one[one[x].isin(other[x])].reset_index(drop=True)
            for one, other in ((found, committed), (committed, found))
        )
        if len(found) != len(committed) or found.empty:
            return [f"{x} has no values in common, or some twice"]
    return _compare_values(found, committed, rule)


def _compare_values(found: pd.DataFrame, committed: pd.DataFrame, rule: dict) -> list[str]:
    faults = []
    for column in committed:
        a, b = found[column], committed[column]
        if not _numeric(b):
            differs = ~((a == b) | (a.isna() & b.isna())).to_numpy()
        elif not _numeric(a):
            faults.append(f"{column} is not numeric")
            continue
        else:
            own = {**rule, **rule["columns"].get(column, {})}
            close = {"rtol": own["relative"], "atol": own["absolute"]}
            differs = ~np.isclose(a.to_numpy(float), b.to_numpy(float), equal_nan=True, **close)
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            first = f"{a.iloc[row]!r}, committed {b.iloc[row]!r}"
            faults.append(f"{column} differs in {differs.sum()} rows, first row {row}: {first}")
    return faults


def _compare_cells(found: pd.DataFrame, committed: pd.DataFrame, rule: dict) -> list[str]:
    from sklearn.metrics import adjusted_rand_score

    coordinates = list(rule["coordinates"])
    kept = {}
    for column in committed.columns.difference(coordinates, sort=False):
        a, b = found[column], committed[column]
        if _numeric(a) != _numeric(b):
            return [f"{column} is of another type"]
        if not _numeric(b):
            score = adjusted_rand_score(a.fillna("").astype(str), b.fillna("").astype(str))
            kept[column] = score, rule["agreement"], "adjusted Rand index"
        elif (a.isna() != b.isna()).any():
            kept[column] = 0.0, rule["correlation"], "correlation (missing values elsewhere)"
        else:
            with np.errstate(invalid="ignore"):  # a constant column correlates with nothing
                score = 1.0 if np.allclose(a, b, equal_nan=True) else a.corr(b)
            kept[column] = score, rule["correlation"], "correlation"
    if coordinates:
        score = shared_neighbours(found[coordinates], committed[coordinates])
        kept[", ".join(coordinates)] = score, rule["neighbours"], "share of neighbours kept"
    return [
        f"{what} of {column} with the committed values is {score:.3f}, at least {least} is allowed"
        for column, (score, least, what) in kept.items()
        if not score >= least - 1e-9  # also when the score is not a number
    ]


def shared_neighbours(found: pd.DataFrame, committed: pd.DataFrame, share: float = 0.05) -> float:
    """Give the mean share of a cell's nearest cells that are nearest in both layouts."""
    from sklearn.neighbors import NearestNeighbors

    n_neighbors = max(1, round(share * len(committed)))
    sets = [
        NearestNeighbors(n_neighbors=n_neighbors).fit(x).kneighbors(return_distance=False)
        for x in (found.to_numpy(float), committed.to_numpy(float))
    ]
    both = [len(np.intersect1d(a, b)) for a, b in zip(*sets, strict=True)]
    return float(np.mean(both)) / n_neighbors


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
