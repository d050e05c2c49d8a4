"""Generators of cells that the benchmarks compare, each drawing from its own likelihood.

A family is trained once on an AnnData of raw counts with a type in ``obs``, and gives one or more
samplers. A sampler takes the types to draw (or None: as they come), the number of cells and a
generator of random numbers, and returns a sparse matrix (cells, peaks); a sampler that cannot
draw by type returns None. No family sees the test cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from _peers import atacdiff_model, fragments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

    Sampler = Callable[[np.ndarray | None, int, np.random.Generator], sp.csr_matrix | None]

_BLOCK = 256
_TYPE_COMPONENTS = 4
_ALL_COMPONENTS = 30
_CELLS_PER_COMPONENT = 20


def read(path: str, min_cells: int = 5, min_fraction: float = 0.001) -> AnnData:
    """Read peaks and keep those that enough cells show (at least 0.1 % and five)."""
    import anndata as ad

    adata = ad.read_h5ad(path)
    seen = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    adata = adata[:, seen >= max(min_cells, min_fraction * adata.n_obs)].copy()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    return adata


def drop_unseen(adata: Any, cells: np.ndarray) -> Any:
    """Leave out peaks that none of the training cells shows: nobody can learn those."""
    seen = np.asarray((adata.X[cells] > 0).sum(axis=0)).ravel() > 0
    return adata[:, seen].copy()


def split(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Cells for training, validation and test, 80/10/10 in each type; at least one for each test.

    Validation and test cells have the same number of each type, so that validation cells can stand
    for a perfect generator. Types with fewer than three cells only train.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for name in np.unique(labels):
        cells = rng.permutation(np.flatnonzero(labels == name))
        held = max(round(0.1 * cells.size), 1) if cells.size >= 3 else 0
        parts["test"].append(cells[:held])
        parts["validation"].append(cells[held : 2 * held])
        parts["train"].append(cells[2 * held :])
    return {part: np.sort(np.concatenate(cells)) for part, cells in parts.items()}


def draw_cells(
    pool: np.ndarray, types: np.ndarray | None, n_cells: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw cells with replacement, of the asked types or of any; `pool` holds the cells' types."""
    if types is None:
        return rng.integers(0, pool.size, n_cells)
    drawn = np.empty(n_cells, dtype=np.int64)
    for name in np.unique(types):
        asked = np.flatnonzero(types == name)
        drawn[asked] = rng.choice(np.flatnonzero(pool == name), asked.size)
    return drawn


def bernoulli(probability: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Draw open and closed peaks of a block of cells."""
    return sp.csr_matrix(rng.random(probability.shape) < probability, dtype=np.float32)


def marginals(train: AnnData, key: str, seed: int, options: dict[str, Any]) -> dict[str, Sampler]:
    """Each peak drawn on its own with its frequency, in all cells or in those of the type."""
    types_known = train.obs[key].astype(str).to_numpy()
    binary = sp.csr_matrix(train.X > 0, dtype=np.float64)

    def sample(types: np.ndarray | None, n_cells: int, rng: np.random.Generator) -> sp.csr_matrix:
        asked = np.repeat("", n_cells) if types is None else types
        names, codes = np.unique(asked, return_inverse=True)
        share = np.stack([_share(binary, types_known, name) for name in names])
        return sp.csr_matrix(
            sp.vstack([bernoulli(share[codes[block]], rng) for block in _blocks(n_cells)])
        )

    return {"marginals": sample}


def _share(binary: sp.csr_matrix, known: np.ndarray, name: str) -> np.ndarray:
    cells = binary if name == "" else binary[np.flatnonzero(known == name)]
    return np.asarray(cells.mean(axis=0)).ravel()


def bootstrap(train: AnnData, key: str, seed: int, options: dict[str, Any]) -> dict[str, Sampler]:
    """Training cells again, with replacement: all there is to copy."""
    known = train.obs[key].astype(str).to_numpy()

    def sample(types: np.ndarray | None, n_cells: int, rng: np.random.Generator) -> sp.csr_matrix:
        return train.X[draw_cells(known, types, n_cells, rng)]

    return {"bootstrap": sample}


def peakvi(train: AnnData, key: str, seed: int, options: dict[str, Any]) -> dict[str, Sampler]:
    """PEAKVI (Ashuach et al., 2022), open peaks drawn with probability ``p * depth * region``.

    ``peakvi`` draws latent and depth from the posterior of random training cells; ``peakvi_prior``
    the latent from N(0, I), and the depth, which has no prior, from those of the training cells.
    """
    import scvi
    import torch

    scvi.settings.seed = seed
    scvi.model.PEAKVI.setup_anndata(train)
    model = scvi.model.PEAKVI(train)
    model.train(**_training(options))
    module = model.module.eval()
    known = train.obs[key].astype(str).to_numpy()
    mean, scale, depth = _posteriors(model, train, "d")

    def decode(z: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
        blocks = []
        for block in _blocks(len(z)):
            latent = torch.as_tensor(z[block], dtype=torch.float32, device=model.device)
            batch = torch.zeros(len(latent), 1, device=model.device)
            with torch.inference_mode():
                out = module.generative(z=latent, qz_m=latent, batch_index=batch)["px"]
                probability = (out * torch.sigmoid(module.region_factors)).cpu().numpy()
            blocks.append(bernoulli(probability * d[block], rng))
        return sp.csr_matrix(sp.vstack(blocks))

    return _vae_samplers("peakvi", known, mean, scale, depth, decode)


def poissonvi(train: AnnData, key: str, seed: int, options: dict[str, Any]) -> dict[str, Sampler]:
    """POISSONVI (Martens et al., 2024), fragment counts drawn from its Poisson.

    As for :func:`peakvi`, and ``poissonvi_gmm``: a Gaussian mixture fitted afterwards to latent
    means and log library sizes, over all cells or in each type, in place of the prior. That is the
    idea of SCALE (a VAE with a mixture as its prior) in two steps, not SCALE itself.
    """
    import scvi
    import torch
    from scvi.external import POISSONVI

    scvi.settings.seed = seed
    counts = fragments(train)
    POISSONVI.setup_anndata(counts)
    model = POISSONVI(counts)
    model.train(**_training(options))
    module = model.module.eval()
    known = train.obs[key].astype(str).to_numpy()
    mean, scale, library = _posteriors(model, counts, "library")

    def decode(z: np.ndarray, log_size: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
        blocks = []
        for block in _blocks(len(z)):
            latent = torch.as_tensor(z[block], dtype=torch.float32, device=model.device)
            size = torch.as_tensor(log_size[block], dtype=torch.float32, device=model.device)
            batch = torch.zeros(len(latent), 1, device=model.device)
            with torch.inference_mode():
                out = module.generative(z=latent, library=size, batch_index=batch)["px"]
            blocks.append(sp.csr_matrix(rng.poisson(out.mean.cpu().numpy()), dtype=np.float32))
        return sp.csr_matrix(sp.vstack(blocks))

    return {
        **_vae_samplers("poissonvi", known, mean, scale, library, decode),
        "poissonvi_gmm": _mixture_sampler(known, mean, library, decode, seed),
    }


def atacdiff(train: AnnData, key: str, seed: int, options: dict[str, Any]) -> dict[str, Sampler]:
    """atacvi's ATACDiffModel; ``atacdiff_setup``, ``_model``, ``_train``, ``_generate`` are keywords."""
    setup = {"labels_key": key, **options.get("atacdiff_setup", {})}
    model = atacdiff_model(fragments(train), seed, {**options, "atacdiff_setup": setup})
    return {"atacdiff": atacdiff_sampler(model, options.get("atacdiff_generate", {}))}


def atacdiff_sampler(model: Any, drawing: dict[str, Any]) -> Sampler:
    """Draw cells of a trained ATACDiffModel, with further arguments of its ``generate``."""

    def sample(types: np.ndarray | None, n_cells: int, rng: np.random.Generator) -> sp.csr_matrix:
        labels = {} if types is None else {"labels": list(types)}
        made = model.generate(n_cells, **labels, seed=int(rng.integers(2**31)), **drawing)
        return sp.csr_matrix(made.X, dtype=np.float32)

    return sample


def _training(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "max_epochs": options.get("max_epochs_peers", 500),
        "accelerator": options.get("accelerator", "auto"),
    }


def _posteriors(
    model: Any, adata: AnnData, depth: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of the latent of each cell, and its depth in the model's terms."""
    import torch

    parts: list[list[np.ndarray]] = [[], [], []]
    with torch.inference_mode():
        for tensors in model._make_data_loader(adata=adata, batch_size=_BLOCK):
            found = model.module.inference(**model.module._get_inference_input(tensors))
            for part, value in zip(
                parts, (found["qz"].loc, found["qz"].scale, found[depth]), strict=True
            ):
                part.append(value.cpu().numpy())
    mean, scale, size = (np.concatenate(part) for part in parts)
    return mean, scale, size


def _vae_samplers(
    name: str,
    known: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    depth: np.ndarray,
    decode: Callable[..., sp.csr_matrix],
) -> dict[str, Sampler]:
    def from_posterior(
        types: np.ndarray | None, n_cells: int, rng: np.random.Generator
    ) -> sp.csr_matrix:
        cells = draw_cells(known, types, n_cells, rng)
        noise = rng.normal(size=(n_cells, mean.shape[1]))
        return decode(mean[cells] + scale[cells] * noise, depth[cells], rng)

    def from_prior(
        types: np.ndarray | None, n_cells: int, rng: np.random.Generator
    ) -> sp.csr_matrix | None:
        if types is not None:
            return None  # N(0, I) knows no types
        cells = draw_cells(known, None, n_cells, rng)
        return decode(rng.normal(size=(n_cells, mean.shape[1])), depth[cells], rng)

    return {name: from_posterior, f"{name}_prior": from_prior}


def _mixture_sampler(
    known: np.ndarray,
    mean: np.ndarray,
    library: np.ndarray,
    decode: Callable[..., sp.csr_matrix],
    seed: int,
) -> Sampler:
    """Draw latent and log library size together, since types differ in both."""
    from sklearn.mixture import GaussianMixture

    joint = np.hstack([mean, library]).astype(np.float64)

    def fit(cells: np.ndarray, most: int) -> GaussianMixture:
        components = int(np.clip(cells.size // _CELLS_PER_COMPONENT, 1, most))
        mixture = GaussianMixture(
            components, covariance_type="diag", reg_covar=1e-4, random_state=seed
        )
        return mixture.fit(joint[cells])

    def draw(mixture: GaussianMixture, n_cells: int, rng: np.random.Generator) -> np.ndarray:
        mixture.random_state = int(rng.integers(2**31))
        return rng.permutation(mixture.sample(n_cells)[0])

    of_all = fit(np.arange(known.size), _ALL_COMPONENTS)
    of_type = {
        name: fit(np.flatnonzero(known == name), _TYPE_COMPONENTS)
        for name in np.unique(known)
        if (known == name).sum() > 1
    }

    def sample(types: np.ndarray | None, n_cells: int, rng: np.random.Generator) -> sp.csr_matrix:
        drawn = np.empty((n_cells, joint.shape[1]))
        if types is None:
            drawn = draw(of_all, n_cells, rng)
        else:
            for name in np.unique(types):
                asked = np.flatnonzero(types == name)
                drawn[asked] = draw(of_type[name], asked.size, rng)
        return decode(drawn[:, :-1], drawn[:, -1:], rng)

    return sample


def _blocks(n_cells: int) -> Iterator[slice]:
    for start in range(0, n_cells, _BLOCK):
        yield slice(start, min(start + _BLOCK, n_cells))


FAMILIES: dict[str, Callable[..., dict[str, Sampler]]] = {
    "atacdiff": atacdiff,
    "peakvi": peakvi,
    "poissonvi": poissonvi,
    "marginals": marginals,
    "bootstrap": bootstrap,
}
#: Libraries to import before the clock starts
IMPORTS = {"atacdiff": ("scvi", "atacvi"), "peakvi": ("scvi",), "poissonvi": ("scvi",)}
#: Methods that learn a distribution, and are ranked; the others are there to be compared with
TRAINED = (
    "atacdiff",
    "peakvi",
    "peakvi_prior",
    "poissonvi",
    "poissonvi_prior",
    "poissonvi_gmm",
)
