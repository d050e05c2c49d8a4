"""Cell type and assay of BED files, each file left out in turn.

    python benchmarks/bulk.py --folder bed --labels bed/bed_labels.tsv --genome hg19 \
        --out results/bulk

The universe is the consensus of the files. AtacformerModel is pretrained without labels on random
parts of the files; heads are fitted on all files but one, which they then label. Beside them: the
label of the file with the highest Jaccard index of universe regions. Scored are files whose class has
at least three.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd
import scipy.sparse as sp

TARGETS = ("cell_type", "assay")
FEWEST_FILES = 3
N_PARTS, PART_TOKENS = 20, 1024
_SAME = {"gm12878": "GM12878"}


def read_labels(path: Path, genome: str, folder: Path) -> pd.DataFrame:
    """Read the labels of the files of one genome; names of cell lines without case."""
    table = pd.read_csv(path, sep="\t")
    table = table[table["genome"].str.startswith(genome)].copy()
    table["cell_type"] = table["cell_type"].map(lambda x: _SAME.get(str(x).lower(), str(x)))
    table["path"] = [str(folder / name) for name in table["file"]]
    return table.set_index("file")


def tokenize(table: pd.DataFrame, min_sets: int) -> Any:
    """Turn the files into sets of regions of their consensus."""
    from atacvi.data import tokenize_bed
    from atacvi.regions import Universe

    universe = Universe.consensus(list(table["path"]), min_sets=min_sets)
    return tokenize_bed(
        dict(zip(table.index, table["path"], strict=True)), universe, progress=False
    )


def parts_of(files: Any, seed: int) -> Any:
    """Cut random parts from each file: what the model is pretrained on."""
    import anndata

    tokens = files.obsm["X_tokens"]
    rng = np.random.default_rng(seed)
    indices, sizes = [], []
    for row in range(tokens.shape[0]):
        ids = tokens.indices[tokens.indptr[row] : tokens.indptr[row + 1]]
        for _ in range(N_PARTS):
            part = np.sort(rng.choice(ids, min(PART_TOKENS, len(ids)), replace=False))
            indices.append(part)
            sizes.append(len(part))
    joined = np.concatenate(indices)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    matrix = sp.csr_matrix(
        (np.ones(len(joined), bool), joined, starts), (len(sizes), tokens.shape[1])
    )
    obs = pd.DataFrame(index=[f"part{i}" for i in range(len(sizes))])
    parts = anndata.AnnData(obs=obs, obsm={"X_tokens": matrix})
    parts.uns["atacvi"] = files.uns["atacvi"]
    return parts


def jaccard(tokens: sp.csr_matrix) -> np.ndarray:
    """Jaccard index of all pairs of files."""
    counts = tokens.astype(np.float64)
    both = np.asarray((counts @ counts.T).todense())
    size = np.diff(tokens.indptr)
    return both / (size[:, None] + size - both)


def run(
    folder: str, labels: str, genome: str, min_sets: int, epochs: int, seed: int
) -> dict[str, Any]:
    """Label each file by both methods (runs in a process of its own)."""
    import scvi

    from atacvi.models import AtacformerModel

    table = read_labels(Path(labels), genome, Path(folder))
    files = tokenize(table, min_sets)
    scvi.settings.seed = seed
    with harness.stopwatch() as watch:
        parts = parts_of(files, seed)
        AtacformerModel.setup_anndata(parts)
        model = AtacformerModel(parts)
        model.pretrain(epochs, replaced_share=0.25, accelerator="cpu", enable_progress_bar=False)
        embedding = model.embed_bed(files)
        found = pd.DataFrame(index=table.index, columns=list(TARGETS), dtype=object)
        for row, name in enumerate(table.index):
            others = np.arange(len(table)) != row
            model.fit_bulk_classifier(embedding[others].copy(), table.loc[others, list(TARGETS)])
            found.loc[name] = model.predict_bulk(embedding[[row]].copy())[list(TARGETS)].iloc[0]
    similarity = jaccard(files.obsm["X_tokens"])
    np.fill_diagonal(similarity, -1)
    nearest = similarity.argmax(axis=1)
    rows = []
    for target in TARGETS:
        truth = table[target].to_numpy()
        scored = pd.Series(truth).map(pd.Series(truth).value_counts()).to_numpy() >= FEWEST_FILES
        for method, guess in (
            ("atacformer", found[target].to_numpy()),
            ("jaccard-nearest", truth[nearest]),
        ):
            right = guess == truth
            by_class = pd.Series(right[scored]).groupby(truth[scored]).mean()
            rows.append(
                {
                    "method": method,
                    "target": target,
                    "files": int(scored.sum()),
                    "classes": len(by_class),
                    "accuracy": float(right[scored].mean()),
                    "balanced": float(by_class.mean()),
                    "by_class": {k: round(float(v), 3) for k, v in by_class.items()},
                }
            )
    return {"rows": rows, "regions": int(files.obsm["X_tokens"].shape[1]), **watch.result()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=harness.data_file, required=True, help="folder of the BED files"
    )
    parser.add_argument(
        "--labels", type=harness.data_file, required=True, help="table: file, cell_type, assay"
    )
    parser.add_argument("--genome", default="hg19")
    parser.add_argument("--min-sets", type=int, default=2, help="files that share a region")
    parser.add_argument("--epochs", type=int, default=1, help="0 keeps the spectral start")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        job = {
            "folder": str(arguments.folder.resolve()),
            "labels": str(arguments.labels.resolve()),
            "genome": arguments.genome,
            "min_sets": arguments.min_sets,
            "epochs": arguments.epochs,
            "seed": seed,
        }
        log = arguments.out / "logs" / f"bulk_seed{seed}.log"
        found = harness.run_isolated("bulk.py:run", job, arguments.threads, arguments.timeout, log)
        parts = found.pop("rows", [{"method": "atacformer", "target": "all"}])
        rows += [{**row, "seed": seed, **found} for row in parts]
        harness.say(str(rows[-len(parts) :]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = pd.DataFrame(rows)
    runs.to_csv(arguments.out / "bulk_runs.csv", index=False)
    summary = harness.summarise(
        runs.drop(columns="by_class", errors="ignore"), ["method", "target"]
    )
    notes = f"Files of {arguments.genome}, classes of at least {FEWEST_FILES} files are scored."
    harness.write_table(summary, arguments.out, "bulk", notes)
    summary["name"] = summary["method"] + ", " + summary["target"]
    harness.write_figure(
        summary,
        ("accuracy", "balanced"),
        arguments.out,
        "bulk",
        "BED files",
        label="name",
        aims={"accuracy": 0.8},
    )


if __name__ == "__main__":
    main()
