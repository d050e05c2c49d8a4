"""What the parts of ATACDiffModel are good for: one left out at a time.

    python benchmarks/ablations.py --data leukemia_corces2016.h5ad --seeds 0 1 2 \
        --out results/ablations

Cells are split as in generation.py; each variant draws cells of the types of the test cells. The
variants: ``whole``, the model with a network that refines z; ``no_mixture``, the standard normal
in the place of the mixture while z is learnt; ``no_information``, without the term that keeps
information in z; ``no_z``, whose denoiser never sees z; and ``shuffled_z``, the whole model that
draws from latents z that were permuted over cells, without their labels. Files without a folder
are read from $ATACVI_DATA_DIR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import _generators as generators
import _harness as harness
import generation as bench
import numpy as np
import scipy.sparse as sp

VARIANTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "no_mixture": {"n_clusters": 1},
    "no_information": {"information": "none"},
    "no_z": {"condition_dropout": 1.0},
    "shuffled_z": {},
}
_SHOWN = (
    "rf_auc",
    "mmd",
    "coaccessibility",
    "scc_per_type",
    "label_recovery",
    "knn_accuracy",
    "leiden_ari",
    "seconds",
)


def ablate(
    data: str, method: str, seed: int, label_key: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Train one variant, draw cells and score them (runs in a process of its own)."""
    import scvi

    import atacvi
    from atacvi.metrics import knn_accuracy, leiden_ari_nmi

    cells = bench.Cells(Path(data), label_key, seed)
    labels = cells.adata.obs[label_key].astype(str).to_numpy()
    train = cells.adata[generators.split(labels, seed)["train"]].copy()
    train = generators.fragments(train)
    types = cells.labels["test"]
    scvi.settings.seed = seed
    # Labels would tell the denoiser the type without z: z alone has to carry it here.
    atacvi.ATACDiffModel.setup_anndata(train)
    with harness.stopwatch() as watch:
        model = atacvi.ATACDiffModel(train, refine=True, **VARIANTS[method])
        model.train(**options)
    own = train.obs[label_key].astype(str).to_numpy()
    drawn = generators.draw_cells(own, types, types.size, np.random.default_rng(seed))
    latent = model.generate(indices=drawn, output="latent", seed=seed).obsm["X_latent"]
    if method == "shuffled_z":
        latent = np.random.default_rng(seed).permutation(latent)
    depth = np.asarray((train.X[drawn] > 0).sum(axis=1)).ravel()
    guidance = {"guidance_scale": 0.0} if method == "no_z" else {}
    made = model.generate(latent=latent, library_size=depth, seed=seed, **guidance)
    scores = cells.score(sp.csr_matrix(made.X, dtype=np.float32), "per type", seed)
    embedding = model.get_latent_representation()
    found = {"knn_accuracy": knn_accuracy(embedding, own)}
    found["leiden_ari"] = leiden_ari_nmi(embedding, own)["leiden_ari"]
    return {**scores, **found, **watch.result()}


def main() -> None:
    """Run every variant with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled .h5ad")
    parser.add_argument("--methods", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--max-epochs", type=int, default=None, help="of each stage, at most")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    path = bench.find(arguments.data)
    options = {} if arguments.max_epochs is None else {"max_epochs": arguments.max_epochs}
    common = {"data": str(path.resolve()), "label_key": arguments.label_key, "options": options}
    runs = harness.run_methods("ablations.py:ablate", arguments.methods, arguments, common)
    notes = (
        "Cells of the types of the test cells, drawn from latents z of training cells; no variant "
        "knows labels. Aims: AUC 0.5, all others high but the MMD."
    )
    harness.report_methods(runs, _SHOWN, arguments.out, "ablations", path.stem, notes)


if __name__ == "__main__":
    main()
