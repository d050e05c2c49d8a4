"""ATACDiffModel with one part taken away at a time: does each score move as it should?

    python benchmarks/ablation.py --data mouse_forebrain_preissl2018.h5ad \
        hematopoiesis_granja2019_bmmc.h5ad leukemia_corces2016.h5ad --seeds 0 1 2 \
        --encoders default refined --out results/ablation

Cells are split as in ``generation.py``; the model learns from 80 % of them, without labels.

- ``whole``: the model as it is.
- ``no_mixture``: one Gaussian in place of the mixture, as the prior of z in training and as the
  distribution of z and depth that cells are generated from.
- ``no_information``: no term that keeps information in z.
- ``no_z``: z hidden from the denoiser, in training and in sampling.
- ``z_hidden``: the whole model, z (the only condition but depth) hidden in sampling alone.
- ``z_shuffled``: the whole model, cells generated from the latents of other test cells.
- ``no_diffusion``: the whole model, cells drawn from the autoencoder's latent of each test cell in
  place of one that the denoiser makes from z: what is lost here is not lost by the denoiser.

Scores of the latent (of all cells, a fifth of them not trained on) and of the mixture's clusters;
scores of generated cells as they come; and, from ``label_recovery`` on, those of cells generated
from latent and depth of each test cell, which should be of its type. A "-" marks what a variant
does not touch or cannot do. ``held_out`` are real cells in the place of generated ones.

Below 5,000 training cells the model keeps z where its spectral start puts it, and what acts on z in
training (prior, information) can only move its variance: ``--encoders refined`` lets a network add
to it, ``learnt`` has encoders of open peaks without a spectral start, as in the publication.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import _harness as harness
import _peers as peers
import generation
import numpy as np
import pandas as pd

UNCONDITIONAL, FROM_LATENTS = "unconditional", "from latents"
_OF_LATENT = ("leiden_ari", "leiden_nmi", "kmeans_ari", "knn_accuracy")
_OF_CLUSTERS = ("cluster_ari",)
_OF_TYPES = ("label_recovery", "scc_per_type", "pcc_per_type", "synthetic_training")
_OF_CELLS = tuple(name for name in generation.AIMS if name not in generation.OF_TYPES)
_SHOWN = (*_OF_LATENT, *_OF_CLUSTERS, *_OF_CELLS, *_OF_TYPES, "seconds", "peak_mb")
_DRAWN = ("leiden_ari", "cluster_ari", "mmd", "rf_auc", "coverage", "label_recovery")

#: Arguments of the model, by what z rests on
ENCODERS: dict[str, dict[str, Any]] = {
    "default": {},
    "refined": {"refine": True},
    "learnt": {"n_spectral": 0},
}


class Variant(NamedTuple):
    """What is taken away, and which scores that concerns.

    ``of`` names the variant whose trained model is taken; ``guidance_scale=0`` hides z in sampling
    alone; ``own_h`` leaves the denoiser out.
    """

    concerns: tuple[str, ...]
    model: dict[str, Any] = {}
    of: str | None = None
    gaussian: bool = False
    shuffle_z: bool = False
    own_h: bool = False
    guidance_scale: float = 1.0


_ALL = (*_OF_LATENT, *_OF_CLUSTERS, *_OF_CELLS, *_OF_TYPES)
VARIANTS = {
    "whole": Variant(_ALL),
    "no_mixture": Variant(
        (*_OF_LATENT, *_OF_CELLS, *_OF_TYPES), model={"n_clusters": 1}, gaussian=True
    ),
    "no_information": Variant(_ALL, model={"information": "none"}),
    "no_z": Variant((*_OF_CELLS, *_OF_TYPES), model={"condition_dropout": 1.0}),
    "z_hidden": Variant((*_OF_CELLS, *_OF_TYPES), of="whole", guidance_scale=0.0),
    "z_shuffled": Variant(_OF_TYPES, of="whole", shuffle_z=True),
    "no_diffusion": Variant(_OF_TYPES, of="whole", own_h=True),
}


def train(
    data: str,
    label_key: str,
    variant: str,
    encoder: str,
    seed: int,
    out: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Train a variant; save latent, clusters and cells of all that take its model."""
    cells = generation.Cells(Path(data), label_key, seed)
    everything = peers.fragments(cells.adata)
    parts = {name: everything[rows].copy() for name, rows in cells.parts.items()}
    peers.load_imports(peers.PEERS["atacdiff"].imports)
    chosen = VARIANTS[variant]
    given = {**ENCODERS[encoder], **chosen.model, **options.get("atacdiff_model", {})}
    with harness.stopwatch() as watch:
        model = peers.atacdiff_model(parts["train"], seed, {**options, "atacdiff_model": given})
    latent = model.get_latent_representation(everything)
    clusters = model.predict_clusters(everything).astype(int).to_numpy()
    np.savez(_latents(Path(out), encoder, variant, seed), latent=latent, clusters=clusters)
    for name, taken in VARIANTS.items():
        if variant in (name, taken.of):
            method = f"{encoder}_{name}"
            drawing = {"guidance_scale": taken.guidance_scale}
            drawing |= options.get("atacdiff_generate", {})
            drawn = draw_from_latents(model, parts["test"], taken, seed, drawing)
            generation.save(drawn, Path(out), method, FROM_LATENTS, seed)
            if set(_OF_CELLS) & set(taken.concerns):
                drawn = draw(model, parts["train"], parts["test"].n_obs, taken, seed, drawing)
                generation.save(drawn, Path(out), method, UNCONDITIONAL, seed)
    return {"components": int(np.unique(clusters).size), **watch.result()}


def _latents(folder: Path, encoder: str, variant: str, seed: int) -> Path:
    return folder / f"{encoder}_{variant}_latent_seed{seed}.npz"


def draw(
    model: Any, train: Any, n_cells: int, variant: Variant, seed: int, drawing: dict[str, Any]
) -> Any:
    """Draw cells as they come."""
    if not variant.gaussian:
        return model.generate(n_cells, seed=seed, **drawing).X
    z, depth = one_gaussian(model, train, n_cells, seed)
    return model.generate(latent=z, library_size=depth, seed=seed, **drawing).X


def one_gaussian(model: Any, train: Any, n_cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw z and depth from one Gaussian with mean and covariance of the training cells' posteriors.

    Log depth is drawn with z, as from the mixture that the model fits for its own generation.
    """
    rng = np.random.default_rng(seed)
    mean, variance = model.get_latent_representation(train, return_dist=True)
    z = mean + np.sqrt(variance) * rng.normal(size=mean.shape)
    joint = np.column_stack([z, np.log(depths(model, train))])
    drawn = rng.multivariate_normal(joint.mean(axis=0), np.cov(joint.T), size=n_cells)
    return drawn[:, :-1], np.maximum(np.exp(drawn[:, -1]), 1.0)


def depths(model: Any, adata: Any) -> np.ndarray:
    """Give the library sizes of cells as the model counts them."""
    given = model.generate(adata=adata, library_size="observed", output="latent", n_steps=1)
    return given.obs["library_size"].to_numpy(dtype=np.float64)


def draw_from_latents(
    model: Any, test: Any, variant: Variant, seed: int, drawing: dict[str, Any]
) -> Any:
    """Draw a cell from latent and depth of each test cell, or as the variant says."""
    if variant.own_h:
        return model.posterior_predictive_sample(test)
    z = model.get_latent_representation(test)
    if variant.shuffle_z:
        z = z[np.random.default_rng(seed).permutation(len(z))]
    return model.generate(latent=z, library_size=depths(model, test), seed=seed, **drawing).X


def score(
    folder: Path, cells: generation.Cells, encoder: str, variant: str, seed: int
) -> dict[str, Any]:
    """Compute those scores of a variant that it concerns."""
    from sklearn.metrics import adjusted_rand_score

    from atacvi.metrics import clustering_scores

    taken, method = VARIANTS[variant], f"{encoder}_{variant}"
    labels = cells.adata.obs[cells.label_key].astype(str).to_numpy()
    found: dict[str, Any] = {}
    if set(_OF_LATENT) & set(taken.concerns):
        saved = np.load(_latents(folder, encoder, variant, seed))
        found |= clustering_scores(saved["latent"], labels)
        found["cluster_ari"] = float(adjusted_rand_score(labels, saved["clusters"]))
    errors = []
    for mode, names in ((UNCONDITIONAL, _OF_CELLS), (FROM_LATENTS, _OF_TYPES)):
        if set(names) & set(taken.concerns):
            kind = "per type" if mode == FROM_LATENTS else mode
            scores = cells.score_saved(generation.saved(folder, method, mode, seed), kind, seed)
            found |= {name: scores[name] for name in names if name in scores}
            errors += [scores["error"]] if "error" in scores else []
    kept = {name: found[name] for name in taken.concerns if name in found}
    return {**kept, "error": "; ".join(errors)} if errors else kept


def run_encoder(
    arguments: argparse.Namespace, path: Path, cells: generation.Cells, encoder: str, seed: int
) -> list[dict[str, Any]]:
    """Train all variants with one encoder, and score them."""
    folder = arguments.out / path.stem
    first = {"data": path.stem, "encoder": encoder, "seed": seed}
    rows: list[dict[str, Any]] = []
    answers: dict[str, dict[str, Any]] = {}
    for variant, taken in VARIANTS.items():
        if taken.of is None:
            harness.say(f"{path.stem}, {encoder}, {variant}, seed {seed} ...")
            job = {
                "data": str(path.resolve()),
                "label_key": arguments.label_key,
                "variant": variant,
                "encoder": encoder,
                "seed": seed,
                "out": str(folder.resolve()),
                "options": arguments.options,
            }
            record = folder / f"{encoder}_{variant}_seed{seed}.json"
            answers[variant] = harness.run_recorded("ablation.py:train", job, record, arguments)
        row = {**first, "variant": variant, **answers[taken.of or variant]}
        if "error" not in row:
            row |= score(folder, cells, encoder, variant, seed)
        rows.append(row)
        harness.say(str(row))
    return rows


def held_out(cells: generation.Cells, first: dict[str, Any]) -> dict[str, Any]:
    """Score real cells in the place of generated ones."""
    scores = cells.score(cells.held_out(), "per type", first["seed"])
    kept = {name: scores[name] for name in (*_OF_CELLS, *_OF_TYPES)}
    return {**first, "encoder": "", "variant": generation.HELD_OUT, **kept}


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the means over the seeds, with a dash where a score is not a variant's concern."""
    summary = harness.summarise(pd.DataFrame(rows), ["data", "encoder", "variant"])
    shown = ["data", "encoder", "variant", "runs", "components", *_SHOWN, "error"]
    view = summary[[c for c in shown if c in summary]].astype(object)
    for place, variant in enumerate(view["variant"]):
        concerns = VARIANTS[variant].concerns if variant in VARIANTS else (*_OF_CELLS, *_OF_TYPES)
        foreign = [c for c in _ALL if c in view and c not in concerns]
        view.loc[view.index[place], foreign] = "-"
    notes = (
        f"Means over seeds {', '.join(map(str, arguments.seeds))}. Aims: AUC 0.5, density and "
        "nearest-train ratio 1. `held_out`: real cells that were not trained on. From "
        "`label_recovery` on: cells generated from latent and depth of the test cells. Seconds of "
        "training."
    )
    harness.write_table(view, arguments.out, "ablation", notes)
    aims = {name: aim for name, aim in generation.AIMS.items() if np.isfinite(aim)}
    drawn = summary[summary["variant"] != generation.HELD_OUT]
    for (data, encoder), group in drawn.groupby(["data", "encoder"], sort=False):
        name, title = f"ablation_{data}_{encoder}", f"{data}, encoder {encoder}"
        group = group.reset_index(drop=True)
        harness.write_figure(group, _DRAWN, arguments.out, name, title, label="variant", aims=aims)


def main() -> None:
    """Run every variant on every set with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=["default"], choices=ENCODERS)
    arguments = generation.parse_with_data(parser)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for path in arguments.data:
        for seed in arguments.seeds:
            cells = generation.Cells(path, arguments.label_key, seed)
            rows.append(held_out(cells, {"data": path.stem, "seed": seed}))
            for encoder in arguments.encoders:
                rows += run_encoder(arguments, path, cells, encoder, seed)
                # After each, so that an interrupted benchmark keeps what it has.
                pd.DataFrame(rows).to_csv(arguments.out / "ablation_runs.csv", index=False)
    report(rows, arguments)


if __name__ == "__main__":
    main()
