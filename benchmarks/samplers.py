"""Samplers of ATACDiffModel: are 20 steps of Heun or DPM-Solver++ as good as 1,000 of DDPM?

    python benchmarks/samplers.py --data mouse_forebrain_preissl2018.h5ad \
        hematopoiesis_granja2019_bmmc.h5ad leukemia_corces2016.h5ad --seeds 0 1 2 --draws 3 \
        --out results/samplers

Cells are split and scored as in ``generation.py``. For each seed one model a learnt target is
trained, ``flow`` (Euler, Heun) and ``v`` (DDPM, DDIM, DPM-Solver++), and all samplers of a target
draw from the same trained model, ``--draws`` times, with the same seeds: a cell has the same latent
z, depth and starting noise whatever the sampler. ``sampling_seconds`` are those of the reverse
process of ``--timed-cells`` cells, without drawing their peaks, which takes the same with each.

The second table takes each score's distance from its aim, less that of DDPM with 1,000 steps in the
same seed and draw. A score is worse or better if a paired t-test rejects a mean of zero at 5 %; of
many scores one in twenty is so by chance.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import _generators as generators
import _harness as harness
import _peers as peers
import generation
import numpy as np
import pandas as pd

_SHOWN = (*generation.AIMS, "sampling_seconds", "seconds", "peak_mb")
_DRAWN = ("sampling_seconds", "mmd", "wasserstein", "rf_auc", "coverage", "label_recovery")
_LEVEL = 0.05


class Setting(NamedTuple):
    """A sampler with its number of steps, and how often it calls the network a step."""

    objective: str
    sampler: str
    n_steps: int
    calls: int = 1


_SETTINGS = (
    Setting("flow", "euler", 10),
    Setting("flow", "euler", 20),
    Setting("flow", "euler", 50),
    Setting("flow", "heun", 10, calls=2),
    Setting("flow", "heun", 20, calls=2),
    Setting("v", "ddpm", 1000),
    Setting("v", "ddim", 20),
    Setting("v", "dpm++", 20),
)
SETTINGS = {f"{s.objective}_{s.sampler}_{s.n_steps}": s for s in _SETTINGS}
OBJECTIVES = tuple(dict.fromkeys(s.objective for s in _SETTINGS))
REFERENCE = "v_ddpm_1000"


def train(
    data: str,
    label_key: str,
    objective: str,
    seed: int,
    draws: int,
    timed_cells: int,
    out: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Train with one target, draw with each of its samplers, and save the cells."""
    cells = generation.Cells(Path(data), label_key, seed)
    counts = peers.fragments(cells.adata[cells.parts["train"]])
    types = cells.labels["test"]
    peers.load_imports(peers.PEERS["atacdiff"].imports)
    given = {
        **options,
        "atacdiff_setup": {"labels_key": label_key, **options.get("atacdiff_setup", {})},
        "atacdiff_model": {**options.get("atacdiff_model", {}), "objective": objective},
    }
    with harness.stopwatch() as watch:
        model = peers.atacdiff_model(counts, seed, given)
    seconds = {}
    for name, setting in SETTINGS.items():
        if setting.objective != objective:
            continue
        drawing = {"sampler": setting.sampler, "n_steps": setting.n_steps}
        drawing = {**options.get("atacdiff_generate", {}), **drawing}
        sampler = generators.atacdiff_sampler(model, drawing)
        for draw in range(draws):
            for mode in generation.MODES:
                asked = types if mode == "per type" else None
                drawn = sampler(asked, types.size, np.random.default_rng([seed, draw]))
                generation.save(drawn, Path(out), generation.drawn_by(name, draw), mode, seed)
        with harness.stopwatch() as sampling:
            model.generate(timed_cells, output="latent", seed=seed, **drawing)
        seconds[name] = {
            "sampling_seconds": sampling.seconds,
            "sampling_cpu_seconds": sampling.cpu_seconds,
        }
    return {"samplers": seconds, **watch.result()}


def run(arguments: argparse.Namespace, path: Path, objective: str, seed: int) -> dict[str, Any]:
    """Train and draw in a process of its own, or read what it gave before."""
    folder = arguments.out / path.stem
    job = {
        "data": str(path.resolve()),
        "label_key": arguments.label_key,
        "objective": objective,
        "seed": seed,
        "draws": arguments.draws,
        "timed_cells": arguments.timed_cells,
        "out": str(folder.resolve()),
        "options": arguments.options,
    }
    record = folder / f"{objective}_seed{seed}.json"
    return harness.run_recorded("samplers.py:train", job, record, arguments)


def score(
    folder: Path, cells: generation.Cells, found: dict[str, Any], objective: str, seed: int, n: int
) -> list[dict[str, Any]]:
    """One row for each sampler of a target, each draw and each mode."""
    rows = []
    measured = {key: value for key, value in found.items() if key != "samplers"}
    for name, setting in SETTINGS.items():
        if setting.objective != objective:
            continue
        calls = setting.calls * setting.n_steps
        timed = found.get("samplers", {}).get(name, {})
        for mode in generation.MODES:
            for draw in range(n):
                row = {"mode": mode, "sampler": name, "draw": draw, "calls": calls}
                row |= {**timed, **measured}
                if "error" not in found:
                    saved = generation.saved(folder, generation.drawn_by(name, draw), mode, seed)
                    row |= cells.score_saved(saved, mode, seed)
                rows.append(row)
    return rows


def against_reference(table: pd.DataFrame) -> pd.DataFrame:
    """Compare each sampler's scores with those of DDPM in the same seed and draw."""
    keys = ["seed", "draw"]
    rows = []
    for (data, mode), group in table.groupby(["data", "mode"], sort=False):
        reference = group[group["sampler"] == REFERENCE].set_index(keys)
        for sampler, own in group.groupby("sampler", sort=False):
            if sampler in (REFERENCE, generation.HELD_OUT):
                continue
            row = {"data": data, "mode": mode, "sampler": sampler}
            rows.append(row | compare(own.set_index(keys), reference))
    return pd.DataFrame(rows)


def compare(own: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    """Count the scores that are worse or better beyond chance, and name the worse ones."""
    from scipy.stats import t

    worse, better, equal = [], [], 0
    for name, aim in generation.AIMS.items():
        if name not in own or name not in reference:
            continue
        lost = generation.loss(own[name], aim) - generation.loss(reference[name], aim)
        lost = lost.dropna()
        if lost.empty:
            continue
        error = lost.std() / np.sqrt(len(lost)) if len(lost) > 1 else np.nan
        bound = t.ppf(1 - _LEVEL / 2, len(lost) - 1) if len(lost) > 1 else np.nan
        if not abs(lost.mean()) > bound * error:  # also of a single draw, whose error is unknown
            equal += 1
        else:
            found = f"{name} {lost.mean():+.3f} (s.e. {error:.3f})"
            (worse if lost.mean() > 0 else better).append(found)
    counted = {"scores": len(worse) + len(better) + equal, "equal": equal}
    return {
        **counted,
        "better": len(better),
        "worse": len(worse),
        "worse_in": ", ".join(worse),
        "better_in": ", ".join(better),
    }


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the scores, and the comparison with DDPM."""
    table = pd.DataFrame(rows)
    summary = harness.summarise(table.drop(columns="draw"), ["data", "mode", "sampler"])
    shown = ["data", "mode", "sampler", "runs", "calls", *_SHOWN, "error"]
    versus = against_reference(table)
    notes = (
        f"Means over seeds {', '.join(map(str, arguments.seeds))} and {arguments.draws} draws. "
        "`calls` of the network a cell. Aims: AUC 0.5, density and nearest-train ratio 1; "
        "`held_out`: real cells that were not trained on. Seconds of training, and of sampling "
        f"{arguments.timed_cells} latents."
    )
    harness.write_table(
        summary[[c for c in shown if c in summary]], arguments.out, "samplers", notes
    )
    runs = len(arguments.seeds) * arguments.draws
    notes = (
        f"Against {REFERENCE}, over {runs} pairs of the same seed and draw: scores that are worse "
        f"or better by a paired t-test at {_LEVEL:.0%}; differences are losses, positive is worse. "
        "One pair alone tells nothing and counts as equal."
    )
    harness.write_table(versus, arguments.out, "samplers_against_ddpm", notes)
    aims = {name: aim for name, aim in generation.AIMS.items() if np.isfinite(aim)}
    for (data, mode), group in summary.groupby(["data", "mode"], sort=False):
        name = f"samplers_{data}_{mode.replace(' ', '_')}"
        group = group.reset_index(drop=True)
        harness.write_figure(
            group, _DRAWN, arguments.out, name, f"{data}, {mode}", label="sampler", aims=aims
        )


def main() -> None:
    """Run every target on every set with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=3, help="of each trained model and sampler")
    parser.add_argument("--timed-cells", type=int, default=1000)
    arguments = generation.parse_with_data(parser)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for path in arguments.data:
        for seed in arguments.seeds:
            cells = generation.Cells(path, arguments.label_key, seed)
            rows += generation.held_out_rows(cells, path.stem, seed, "sampler")
            for objective in OBJECTIVES:
                harness.say(f"{path.stem}, {objective}, seed {seed} ...")
                found = run(arguments, path, objective, seed)
                harness.say(f"{path.stem}, {objective}, seed {seed}: {found}")
                folder = arguments.out / path.stem
                scored = score(folder, cells, found, objective, seed, arguments.draws)
                rows += [{"data": path.stem, "seed": seed, **row} for row in scored]
                # After each run, so that an interrupted benchmark keeps what it has.
                pd.DataFrame(rows).to_csv(arguments.out / "samplers_runs.csv", index=False)
    report(rows, arguments)


if __name__ == "__main__":
    main()
