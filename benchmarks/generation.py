"""Generated against held-out real cells: means, distances, mixing, co-accessibility, types.

    python benchmarks/generation.py --data leukemia_corces2016.h5ad \
        mouse_forebrain_preissl2018.h5ad hematopoiesis_granja2019_bmmc.h5ad \
        --methods atacdiff peakvi poissonvi marginals bootstrap --seeds 0 1 2 \
        --out results/generation

Cells are split 80/10/10 within each type, anew with each seed. Methods learn from the 80 %, and
draw as many cells as the test set has: as they come (``unconditional``) and of the types of the
test cells (``per type``), each ``--draws`` times: scores of few cells differ from draw to draw.
``held_out`` are the validation cells in the place of generated ones: what real cells reach.
``--rescore`` scores the cells of an earlier run again and trains nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import _generators as generators
import _harness as harness
import _peers as peers
import numpy as np
import pandas as pd
import scipy.sparse as sp

MODES = ("unconditional", "per type")
HELD_OUT = "held_out"
#: What each score should be: high, low, or near a value
AIMS: dict[str, float] = {
    "scc": np.inf,
    "pcc": np.inf,
    "scc_per_type": np.inf,
    "pcc_per_type": np.inf,
    "mmd": -np.inf,
    "wasserstein": -np.inf,
    "ilisi": np.inf,
    "rf_auc": 0.5,
    "knn_auc": 0.5,
    "depth_ks": -np.inf,
    "peak_frequency_ks": -np.inf,
    "coaccessibility": np.inf,
    "precision": np.inf,
    "recall": np.inf,
    "density": 1.0,
    "coverage": np.inf,
    "label_recovery": np.inf,
    "synthetic_training": np.inf,
    "nearest_train_ratio": 1.0,
}
OF_TYPES = (
    "scc_per_type",
    "pcc_per_type",
    "label_recovery",
    "synthetic_training",
    "real_training",
)
_SHOWN = (*AIMS, "real_training", "seconds", "peak_mb")
_DRAWN = ("scc", "mmd", "wasserstein", "ilisi", "rf_auc", "depth_ks", "coaccessibility", "coverage")


def generate(
    data: str,
    label_key: str,
    family: str,
    seed: int,
    draws: int,
    out: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Train one family and save its cells (runs in a process of its own)."""
    adata = generators.read(data)
    labels = adata.obs[label_key].astype(str).to_numpy()
    parts = generators.split(labels, seed)
    adata = generators.drop_unseen(adata, parts["train"])
    train, types = adata[parts["train"]].copy(), labels[parts["test"]]
    peers.load_imports(generators.IMPORTS.get(family, ()))
    with harness.stopwatch() as watch:
        samplers = generators.FAMILIES[family](train, label_key, seed, options)
    for name, sampler in samplers.items():
        for mode in MODES:
            asked = types if mode == "per type" else None
            for draw in range(draws):
                drawn = sampler(asked, types.size, np.random.default_rng([seed, draw]))
                if drawn is not None:
                    save(drawn, Path(out), drawn_by(name, draw), mode, seed)
    return {"methods": list(samplers), **watch.result()}


def drawn_by(method: str, draw: int) -> str:
    """Name one of several draws of a method."""
    return f"{method}_draw{draw}"


def saved(folder: Path, method: str, mode: str, seed: int) -> Path:
    """Name the file of the cells that a method drew."""
    return folder / f"{method}_{mode.replace(' ', '_')}_seed{seed}.npz"


def save(drawn: Any, folder: Path, method: str, mode: str, seed: int) -> None:
    """Write the cells that a method drew."""
    sp.save_npz(saved(folder, method, mode, seed), sp.csr_matrix(drawn))


class Cells:
    """One data set with its split for a seed."""

    def __init__(self, path: Path, label_key: str, seed: int) -> None:
        self.adata, self.label_key = generators.read(str(path)), label_key
        labels = self.adata.obs[label_key].astype(str).to_numpy()
        self.parts = parts = generators.split(labels, seed)
        self.adata = generators.drop_unseen(self.adata, parts["train"])
        self.counts = {part: self.adata.X[cells] for part, cells in parts.items()}
        self.labels = {part: labels[cells] for part, cells in parts.items()}

    def score(self, drawn: sp.csr_matrix, mode: str, seed: int) -> dict[str, float]:
        """Score cells; those of the validation set and of the test set share their types."""
        from atacvi.metrics import generation_scores

        types: list[np.ndarray] = []
        if mode == "per type":
            types = [self.labels["test"], self.labels["test"], self.labels["train"]]
        return generation_scores(
            self.counts["test"], drawn, self.counts["train"], *types, random_state=seed
        )

    def score_saved(self, path: Path, mode: str, seed: int) -> dict[str, Any]:
        """Score cells that were written; what cannot be scored says why."""
        try:
            return self.score(sp.load_npz(path), mode, seed)
        except (OSError, ValueError) as error:
            return {"error": f"scoring: {error}"}

    def held_out(self) -> sp.csr_matrix:
        """Give the validation cells in the order of the types of the test cells."""
        validation = np.argsort(self.labels["validation"], kind="stable")
        test = np.argsort(self.labels["test"], kind="stable")
        order = np.empty(test.size, dtype=np.int64)
        order[test] = validation
        return self.counts["validation"][order]


def held_out_rows(cells: Cells, data: str, seed: int, column: str) -> list[dict[str, Any]]:
    """Score real cells in the place of generated ones, a row a mode; `column` names the method."""
    # Neither the cells nor their scores depend on the mode; types add scores.
    reached = cells.score(cells.held_out(), "per type", seed)
    rows = []
    for mode in MODES:
        kept = {k: v for k, v in reached.items() if mode == "per type" or k not in OF_TYPES}
        rows.append({"data": data, "seed": seed, column: HELD_OUT, "mode": mode, **kept})
    return rows


def run(arguments: argparse.Namespace, path: Path, family: str, seed: int) -> dict[str, Any]:
    """Train a family in its own process, or read what it gave before."""
    folder = arguments.out / path.stem
    job = {
        "data": str(path.resolve()),
        "label_key": arguments.label_key,
        "family": family,
        "seed": seed,
        "draws": arguments.draws,
        "out": str(folder.resolve()),
        "options": arguments.options,
    }
    record = folder / f"{family}_seed{seed}.json"
    return harness.run_recorded("generation.py:generate", job, record, arguments)


def score_family(
    path: Path,
    cells: Cells,
    found: dict[str, Any],
    family: str,
    seed: int,
    draws: int,
    out: Path,
) -> list[dict[str, Any]]:
    """One row for each method of a family, each mode it can draw in, and each draw."""
    first = {"data": path.stem, "seed": seed}
    if "error" in found:
        return [first | {"method": family, "mode": mode} | found for mode in MODES]
    rows = []
    measured = {key: value for key, value in found.items() if key != "methods"}
    for method in found["methods"]:
        for mode in MODES:
            for draw in range(draws):
                drawn = saved(out / path.stem, drawn_by(method, draw), mode, seed)
                if drawn.exists():
                    row = first | {"method": method, "mode": mode, "draw": draw} | measured
                    rows.append(row | cells.score_saved(drawn, mode, seed))
    return rows


def mean_ranks(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean rank of the trained methods over the scores, for each set and mode (1 is best)."""
    trained = summary[summary["method"].isin(generators.TRAINED)]
    ranked = []
    for (data, mode), group in trained.groupby(["data", "mode"], sort=False):
        losses = pd.DataFrame(
            {name: loss(group[name], aim) for name, aim in AIMS.items() if name in group}
        ).dropna(axis=1, how="all")
        # A failed method ranks last in every score.
        ranks = losses.rank(na_option="bottom").mean(axis=1)
        ranked.append(pd.DataFrame({"data": data, "mode": mode, "method": group["method"]}))
        ranked[-1]["mean_rank"] = ranks
    if not ranked:
        return pd.DataFrame(columns=["method", *MODES])
    table = pd.concat(ranked).pivot_table("mean_rank", "method", "mode", sort=False)
    return table.sort_values(table.columns[0]).reset_index()


def loss(values: pd.Series, aim: float) -> pd.Series:
    """How far values are from their aim: the lower the better."""
    if np.isinf(aim):
        return -np.sign(aim) * values
    return (values - aim).abs()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    families = list(generators.FAMILIES)
    parser.add_argument("--methods", nargs="+", default=families, choices=families)
    parser.add_argument("--max-epochs-peers", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1, help="draws from each model, all scored")
    parser.add_argument("--accelerator", default="auto", help="for PEAKVI and POISSONVI")
    arguments = parse_with_data(parser)
    arguments.options = {
        "max_epochs_peers": arguments.max_epochs_peers,
        "accelerator": arguments.accelerator,
        **arguments.options,
    }
    return arguments


def parse_with_data(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add what all benchmarks of generated cells share, and read the command line."""
    parser.add_argument(
        "--data", type=harness.data_file, nargs="+", required=True, help="labelled .h5ad files"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--atacdiff-epochs", type=int, default=None)
    parser.add_argument(
        "--atacdiff-options",
        type=json.loads,
        default={},
        help='JSON: {"atacdiff_setup": {}, "atacdiff_model": {}, "atacdiff_train": {}, '
        '"atacdiff_generate": {}}',
    )
    parser.add_argument("--rescore", action="store_true", help="score saved cells again")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.options = {"atacdiff_epochs": arguments.atacdiff_epochs, **arguments.atacdiff_options}
    return arguments


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write table, ranks and figures."""
    table = pd.DataFrame(rows)
    summary = harness.summarise(table, ["data", "mode", "method"])
    shown = ["data", "mode", "method", "runs", *_SHOWN, "error"]
    ranks = mean_ranks(summary)
    notes = (
        f"Means over seeds {', '.join(map(str, arguments.seeds))} and {arguments.draws} draw(s) of "
        f"each model; PEAKVI and POISSONVI up to "
        f"{arguments.max_epochs_peers} epochs. Aims: AUC 0.5, density and nearest-train ratio 1; "
        "`held_out`, real cells not trained on, is what can be reached with so few cells. Seconds "
        "of training, shared by the methods of one family.\n\n"
        f"Mean rank of the trained methods over all scores (1 is best):\n\n{harness.markdown(ranks)}"
    )
    view = summary[[c for c in shown if c in summary and summary[c].notna().any()]]
    harness.write_table(view, arguments.out, "generation", notes)
    ranks.to_csv(arguments.out / "generation_ranks.csv", index=False)
    aims = {name: aim for name, aim in AIMS.items() if np.isfinite(aim)}
    for (data, mode), group in summary.groupby(["data", "mode"], sort=False):
        name = f"generation_{data}_{mode.replace(' ', '_')}"
        harness.write_figure(
            group.reset_index(drop=True), _DRAWN, arguments.out, name, f"{data}, {mode}", aims=aims
        )


def main() -> None:
    """Run every method on every set with every seed."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for path in arguments.data:
        for seed in arguments.seeds:
            cells = Cells(path, arguments.label_key, seed)
            rows += held_out_rows(cells, path.stem, seed, "method")
            for family in arguments.methods:
                harness.say(f"{path.stem}, {family}, seed {seed} ...")
                found = run(arguments, path, family, seed)
                rows += score_family(
                    path, cells, found, family, seed, arguments.draws, arguments.out
                )
                harness.say(f"{path.stem}, {family}, seed {seed}: {found}")
                # After each run, so that an interrupted benchmark keeps what it has.
                pd.DataFrame(rows).to_csv(arguments.out / "generation_runs.csv", index=False)
    report(rows, arguments)


if __name__ == "__main__":
    main()
