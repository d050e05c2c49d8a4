"""AtacformerModel on labelled cells: embedding without labels, and labels for another donor.

    python benchmarks/atacformer.py --data hematopoiesis_granja2019_bmmc.h5ad \
        --reference BMMC_D6T1 --query BMMC_D5T1 --out results/atacformer

Part "embedding": embeddings learnt without labels (pretrained, its spectral start, random weights)
beside SnapATAC2 and LSI, scored against the labels. Part "annotation": labels of the reference's batch
are carried to the query's by the model (vote of neighbours and logistic head after the pretraining,
both after fine-tuning), by a vote of neighbours in the joint embeddings of SnapATAC2 and LSI, and by
a logistic regression on 64 joint spectral components. Part "batches": mixing of batches and purity of
types before and after fine-tuning against the batches. Peaks are kept if 0.1 % of the cells and five
cells show them. ``--cells`` takes a random part of the cells.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd

METHODS = ("atacformer", "start", "random", "snapatac2", "lsi")
PARTS = ("embedding", "annotation", "batches")
SCORES = (
    "leiden_ari",
    "leiden_nmi",
    "best_ari",
    "kmeans_ari",
    "kmeans_nmi",
    "knn_accuracy",
    "seconds",
    "cpu_seconds",
    "peak_mb",
)
N_NEIGHBORS = 15
N_COMPONENTS = 64
HIDDEN = "unknown"


def load(path: str, cells: int | None = None) -> Any:
    """Read the cells, or a part of each batch; peaks that five cells and 0.1 % of them show."""
    import anndata as ad
    import scipy.sparse as sp

    adata = ad.read_h5ad(path)
    if cells is not None and cells < adata.n_obs:
        rng = np.random.default_rng(0)
        adata = adata[np.sort(rng.choice(adata.n_obs, cells, replace=False))].copy()
    seen = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    adata = adata[:, seen >= max(5, 0.001 * adata.n_obs)].copy()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    return adata


def pretrained(adata: Any, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Embedding of AtacformerModel, pretrained on these cells without labels."""
    return pretrain(adata, seed, options).get_latent_representation()


def pretrain(adata: Any, seed: int, options: dict[str, Any], **setup: Any) -> Any:
    """Pretrain; ``pretrain`` and ``model`` in the options are keyword arguments."""
    import scvi

    from atacvi.models import AtacformerModel

    scvi.settings.seed = seed
    AtacformerModel.setup_anndata(adata, **setup)
    model = AtacformerModel(adata, **options.get("model", {}))
    model.pretrain(enable_progress_bar=False, accelerator="cpu", **options.get("pretrain", {}))
    history = {k: v.iloc[:, 0].astype(float).tolist() for k, v in model.history.items()}
    harness.say(json.dumps(history))
    return model


def untrained(start: str) -> Any:
    """Return a function that embeds with starting values alone."""

    def embed(adata: Any, seed: int, options: dict[str, Any]) -> np.ndarray:
        fast = {**options, "pretrain": {"max_epochs": 0, "start": start}}
        return pretrain(adata, seed, fast).get_latent_representation()

    return embed


def snapatac2(adata: Any, seed: int, options: dict[str, Any]) -> np.ndarray:
    """SnapATAC2's spectral embedding."""
    import anndata as ad
    import snapatac2 as snap

    bare = ad.AnnData(adata.X.astype(np.float64))
    vectors = snap.tl.spectral(bare, n_comps=30, features=None, random_state=seed, inplace=False)
    return np.asarray(vectors[1])


def lsi(adata: Any, seed: int, options: dict[str, Any]) -> np.ndarray:
    """LSI without its first component."""
    import _peers as peers

    return peers.lsi_components(adata.X, seed)


EMBED = {
    "atacformer": pretrained,
    "start": untrained("spectral"),
    "random": untrained("random"),
    "snapatac2": snapatac2,
    "lsi": lsi,
}


def embed_job(
    data: str,
    cells: int | None,
    method: str,
    seed: int,
    out: str,
    options: dict[str, Any],
    score: bool,
) -> dict[str, Any]:
    """Compute, save and score one embedding (runs in a process of its own)."""
    from atacvi.metrics import clustering_scores

    adata = load(data, cells)
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    with harness.stopwatch() as watch:
        embedding = EMBED[method](adata, seed, options)
    np.save(out, embedding)
    return watch.result() | (clustering_scores(embedding, labels) if score else {})


def annotate_job(
    data: str,
    cells: int | None,
    reference: str,
    query: str,
    seed: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Fine-tune on the reference's batch, and label the query's (runs in a process of its own).

    Both donors are pretrained on without labels, as the embeddings of the other methods are joint;
    the labels of the query's cells are hidden.
    """
    adata = load(data, cells)
    batch = adata.obs["batch"].astype(str).to_numpy()
    adata = adata[np.isin(batch, [reference, query])].copy()
    asked = adata[adata.obs["batch"].astype(str).to_numpy() == query].copy()
    truth = asked.obs["cell_type"].astype(str).to_numpy()
    is_query = adata.obs["batch"].astype(str).to_numpy() == query
    shown = np.where(is_query, HIDDEN, adata.obs["cell_type"].astype(str).to_numpy())
    adata.obs["cell_type"] = shown
    with harness.stopwatch() as watch:
        model = pretrain(adata, seed, options, labels_key="cell_type", unlabeled_category=HIDDEN)
        quiet = {"accelerator": "cpu", "enable_progress_bar": False}
        found = {"atacformer-pretrained-knn": labels_of(model, asked)}
        model.finetune("classification", 0, **quiet)
        found["atacformer-pretrained-head"] = labels_of(model, asked, method="head")
        model.finetune(**{"task": "multi", **quiet, **options.get("finetune", {})})
        found["atacformer-knn"] = labels_of(model, asked)
        found["atacformer-head"] = labels_of(model, asked, method="head")
    scores = {name: label_scores(truth, labels) for name, labels in found.items()}
    return {"scores": scores, **watch.result()}


def labels_of(model: Any, cells: Any, **kwargs: Any) -> np.ndarray:
    """Labels by the model."""
    return model.annotate(cells, **kwargs)["label"].astype(str).to_numpy()


def batch_job(
    data: str, cells: int | None, seed: int, options: dict[str, Any], epochs: int
) -> dict[str, Any]:
    """Fine-tune against the batches, without labels, and score both (runs in its own process)."""
    from atacvi.metrics import batch_ilisi, label_clisi

    adata = load(data, cells)
    batch = adata.obs["batch"].astype(str).to_numpy()
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    rows = []
    with harness.stopwatch() as watch:
        model = pretrain(adata, seed, options, batch_key="batch")
        embeddings = {"atacformer": model.get_latent_representation()}
        model.finetune("batch", epochs, accelerator="cpu", enable_progress_bar=False)
        embeddings["atacformer-batch"] = model.get_latent_representation()
    embeddings["snapatac2"] = snapatac2(adata, seed, options)
    for name, embedding in embeddings.items():
        scores = {
            "ilisi": float(batch_ilisi(embedding, batch)),
            "clisi": float(label_clisi(embedding, labels)),
            "knn_accuracy": knn(embedding, labels),
        }
        rows.append({"method": name, **scores})
    return {"rows": rows, **watch.result()}


def knn(embedding: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of nearest neighbours."""
    from atacvi.metrics import knn_accuracy

    return float(knn_accuracy(embedding, labels))


def logistic_labels(
    adata: Any, labels: np.ndarray, batch: np.ndarray, reference: str, query: str
) -> np.ndarray:
    """Carry labels by a logistic regression on joint spectral components."""
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    import atacvi

    counts = sp.csr_matrix(adata.X > 0, dtype=np.float32)
    bare = type(adata)(counts)
    atacvi.pp.spectral(bare, n_comps=N_COMPONENTS, above_noise=False)
    vectors = bare.obsm["X_spectral"]
    vectors = vectors / vectors.std()
    fit = LogisticRegression(max_iter=500).fit(
        vectors[batch == reference], labels[batch == reference]
    )
    return fit.predict(vectors[batch == query])


def neighbour_labels(
    embedding: np.ndarray, labels: np.ndarray, batch: np.ndarray, reference: str, query: str
) -> np.ndarray:
    """Carry labels by a vote of neighbours in one joint embedding."""
    from sklearn.neighbors import KNeighborsClassifier

    vote = KNeighborsClassifier(N_NEIGHBORS, weights="distance")
    vote.fit(embedding[batch == reference], labels[batch == reference])
    return vote.predict(embedding[batch == query])


def label_scores(truth: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and macro F1."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, labels)),
        "macro_f1": float(f1_score(truth, labels, average="macro", labels=np.unique(truth))),
    }


def annotation(arguments: argparse.Namespace) -> pd.DataFrame:
    """Score the annotation by every method."""
    rows = []
    adata = load(str(arguments.data), arguments.cells)
    batch = adata.obs["batch"].astype(str).to_numpy()
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    for method in ("snapatac2", "lsi"):
        path = arguments.out / f"{method}_seed{arguments.seeds[0]}.npy"
        if path.exists():
            found = neighbour_labels(
                np.load(path), labels, batch, arguments.reference, arguments.query
            )
            scores = label_scores(labels[batch == arguments.query], found)
            rows.append({"method": f"{method}-knn", "seed": arguments.seeds[0], **scores})
    found = logistic_labels(adata, labels, batch, arguments.reference, arguments.query)
    scores = label_scores(labels[batch == arguments.query], found)
    rows.append({"method": "spectral-logistic", "seed": arguments.seeds[0], **scores})
    for seed in arguments.seeds:
        job = {
            "data": str(arguments.data.resolve()),
            "cells": arguments.cells,
            "reference": arguments.reference,
            "query": arguments.query,
            "seed": seed,
            "options": arguments.options,
        }
        log = arguments.out / "logs" / f"annotate_seed{seed}.log"
        found = harness.run_isolated(
            "atacformer.py:annotate_job", job, arguments.threads, arguments.timeout, log
        )
        scores = found.pop("scores", {"atacformer": {}})
        rows += [{"method": name, "seed": seed, **s, **found} for name, s in scores.items()]
    return pd.DataFrame(rows)


def embedding(arguments: argparse.Namespace) -> pd.DataFrame:
    """Score the embeddings of every method."""
    rows = []
    for method in arguments.methods:
        seeded = method not in ("snapatac2", "lsi", "start")
        for seed in arguments.seeds if seeded else arguments.seeds[:1]:
            job = {
                "data": str(arguments.data.resolve()),
                "cells": arguments.cells,
                "method": method,
                "seed": seed,
                "out": str((arguments.out / f"{method}_seed{seed}.npy").resolve()),
                "options": arguments.options,
                "score": "embedding" in arguments.parts,
            }
            log = arguments.out / "logs" / f"{method}_seed{seed}.log"
            found = harness.run_isolated(
                "atacformer.py:embed_job", job, arguments.threads, arguments.timeout, log
            )
            rows.append({"method": method, "seed": seed, **found})
            harness.say(f"{rows[-1]}")
            pd.DataFrame(rows).to_csv(arguments.out / "embedding_runs.csv", index=False)
    return pd.DataFrame(rows)


def batches(arguments: argparse.Namespace) -> pd.DataFrame:
    """Score mixing and purity before and after fine-tuning against the batches."""
    rows = []
    for seed in arguments.seeds:
        job = {
            "data": str(arguments.data.resolve()),
            "cells": arguments.cells,
            "seed": seed,
            "options": arguments.options,
            "epochs": arguments.batch_epochs,
        }
        log = arguments.out / "logs" / f"batches_seed{seed}.log"
        found = harness.run_isolated(
            "atacformer.py:batch_job", job, arguments.threads, arguments.timeout, log
        )
        parts = found.pop("rows", [{"method": "atacformer"}])
        rows += [{**row, "seed": seed, **found} for row in parts]
    return pd.DataFrame(rows)


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help="labelled .h5ad with peaks"
    )
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--cells", type=int, default=None, help="a random part of the cells")
    parser.add_argument("--batch-epochs", type=int, default=10, help="against the batches")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--reference", default="BMMC_D6T1", help="batch with labels")
    parser.add_argument("--query", default="BMMC_D5T1", help="batch to be labelled")
    parser.add_argument(
        "--options",
        type=json.loads,
        default={},
        help='JSON: {"model": {}, "pretrain": {}, "finetune": {}}',
    )
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    taken = "all cells" if arguments.cells is None else f"{arguments.cells} cells at random"
    notes = f"Data: {arguments.data.name}, {taken}. Means over seeds {arguments.seeds}."
    if arguments.methods and {"embedding", "annotation"} & set(arguments.parts):
        rows = embedding(arguments)
        summary = harness.summarise(rows, ["method"])
        shown = [c for c in ("method", "runs", *SCORES, "error") if c in summary]
        harness.write_table(summary[shown], arguments.out, "embedding", notes)
        harness.write_figure(summary, SCORES, arguments.out, "embedding", arguments.data.stem)
    if "annotation" in arguments.parts:
        rows = annotation(arguments)
        rows.to_csv(arguments.out / "annotation_runs.csv", index=False)
        summary = harness.summarise(rows, ["method"])
        columns = ("accuracy", "macro_f1", "seconds")
        shown = [c for c in ("method", "runs", *columns, "error") if c in summary]
        harness.write_table(summary[shown], arguments.out, "annotation", notes)
        title = f"{arguments.reference} to {arguments.query}"
        harness.write_figure(summary, columns, arguments.out, "annotation", title)
    if "batches" in arguments.parts:
        rows = batches(arguments)
        rows.to_csv(arguments.out / "batches_runs.csv", index=False)
        summary = harness.summarise(rows, ["method"])
        columns = ("ilisi", "clisi", "knn_accuracy")
        shown = [c for c in ("method", "runs", *columns, "seconds", "error") if c in summary]
        harness.write_table(summary[shown], arguments.out, "batches", notes)
        harness.write_figure(summary, columns, arguments.out, "batches", arguments.data.stem)


if __name__ == "__main__":
    main()
