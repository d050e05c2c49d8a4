"""Are the types found by the model's own cluster posterior, as well as by Leiden on its latent?

    python benchmarks/clusters.py --data snareseq_adult_mouse_cortex.h5mu --seeds 0 1 2 3 4 \
        --out results/clusters

A type counts as recovered if one component has an F1 score of at least 0.5 with it (cells are
assigned by ``predict_clusters``). Leiden runs on the joint latent z, at the resolution whose number
of clusters is nearest the number of types. A run has collapsed if one component holds more than
90 % of the cells.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import _harness as harness
import _peers as peers
import embedding
import numpy as np
import pandas as pd

_RECOVERED = 0.5
_COLLAPSED = 0.9
_USED = 0.01


def recovery(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Count the types that a component matches, and say how the components share the cells."""
    crossed = pd.crosstab(labels, clusters).to_numpy()
    sizes = crossed.sum(axis=1, keepdims=True) + crossed.sum(axis=0, keepdims=True)
    f1 = 2 * crossed / sizes
    share = crossed.sum(axis=0) / crossed.sum()
    found = int((f1.max(axis=1) >= _RECOVERED).sum())
    return {
        "types": int(crossed.shape[0]),
        "types_recovered": found,
        "share_recovered": found / crossed.shape[0],
        "components_used": int((share >= _USED).sum()),
        "largest_component": float(share.max()),
        "collapsed": int(share.max() > _COLLAPSED),
    }


def posterior(
    data: str, seed: int, label_key: str, dropped: list[str], options: dict[str, Any]
) -> dict[str, Any]:
    """Train, assign, and compare with Leiden (runs in a process of its own)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from atacvi.metrics import leiden_ari_nmi

    mdata = peers.load_data(data)
    peers.load_imports(peers.PEERS["multiview"].imports)
    with harness.stopwatch() as watch:
        model = peers.multiview_model(mdata, seed, options)
        clusters = model.predict_clusters().astype(str).to_numpy()
        # z itself, in which the mixture lies
        latent = model.get_latent_representation(weighted=False)
        certainty = model.get_cluster_probabilities().to_numpy().max(axis=1)
    labels = embedding.read_labels(data, label_key)
    kept = ~np.isin(labels, dropped)
    labels, clusters = labels[kept], clusters[kept]
    leiden = leiden_ari_nmi(latent[kept], labels)
    return {
        **recovery(labels, clusters),
        "posterior_ari": float(adjusted_rand_score(labels, clusters)),
        "posterior_nmi": float(normalized_mutual_info_score(labels, clusters)),
        "leiden_ari": leiden["leiden_ari"],
        "leiden_nmi": leiden["leiden_nmi"],
        "ari_less_leiden": float(adjusted_rand_score(labels, clusters)) - leiden["leiden_ari"],
        "mean_certainty": float(certainty[kept].mean()),
        **watch.result(),
    }


def main() -> None:
    """Run all data sets and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, nargs="+", required=True, help="labelled .h5mu"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--drop-label", nargs="*", default=["Mis"], help="labels not scored")
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        for seed in arguments.seeds:
            job = {
                "data": str(data.resolve()),
                "seed": seed,
                "label_key": arguments.label_key,
                "dropped": arguments.drop_label,
                "options": arguments.multiview_options,
            }
            log = arguments.out / "logs" / f"{data.stem}_seed{seed}.log"
            found = harness.run_isolated(
                "clusters.py:posterior", job, arguments.threads, arguments.timeout, log
            )
            rows.append({"data": data.stem, "seed": seed, **found})
            harness.say(str(rows[-1]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "clusters_runs.csv", index=False)
    summary = harness.summarise(table, ["data"])
    notes = "Means over the seeds; 'collapsed' is the share of the runs that did."
    harness.write_table(summary, arguments.out, "clusters", notes)
    columns = ("share_recovered", "posterior_ari", "leiden_ari", "largest_component")
    title = "Cluster posterior"
    harness.write_figure(summary, columns, arguments.out, "clusters", title, label="data")


if __name__ == "__main__":
    main()
