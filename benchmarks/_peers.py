"""Joint and single-modality embeddings that the benchmarks compare, each as its authors do it.

Every function takes a MuData with raw counts in ``rna`` and ``atac``, a seed and options, and
returns a matrix (cells, dimensions). Nothing here sees the labels.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from mudata import MuData

N_COMPONENTS = 30
_LSI_SCALE = 1e4
_MOFA_PEAKS = 5000
_MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}


class Peer(NamedTuple):
    """A method: its function, the libraries to import before timing, and whether seeds matter."""

    embed: Callable[..., np.ndarray]
    imports: tuple[str, ...]
    seeded: bool


def load_data(path: str, min_cells: int = 5, min_fraction: float = 0.001) -> MuData:
    """Read a MuData and keep features that enough cells show (at least 0.1 % and five).

    An AnnData (``.h5ad``) is taken for accessibility alone.
    """
    import anndata as ad
    import mudata as md

    with contextlib.suppress(AttributeError):
        md.set_options(pull_on_update=False)
    if str(path).endswith(".h5ad"):
        mdata = md.MuData({"atac": ad.read_h5ad(path)})
    else:
        mdata = md.read_h5mu(path)
    return filter_features(mdata, min_cells, min_fraction)


def filter_features(mdata: MuData, min_cells: int = 5, min_fraction: float = 0.001) -> MuData:
    """Keep features seen in `min_fraction` of the cells and in `min_cells` of them; RNA first."""
    import mudata as md

    kept = {}
    for name in [name for name in ("rna", "atac") if name in mdata.mod]:
        adata = mdata[name]
        seen = np.asarray((adata.X > 0).sum(axis=0)).ravel()
        kept[name] = adata[:, seen >= max(min_cells, min_fraction * adata.n_obs)].copy()
        kept[name].X = sp.csr_matrix(kept[name].X, dtype=np.float32)
    filtered = md.MuData(kept)
    filtered.obs = mdata.obs.loc[filtered.obs_names].copy()
    return filtered


def log_pca(counts: sp.csr_matrix, seed: int = 0) -> np.ndarray:
    """PCA of log-normalised, scaled counts."""
    import anndata as ad
    import scanpy as sc

    adata = ad.AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.scale(adata, max_value=10)
    components = min(N_COMPONENTS, min(adata.shape) - 1)
    sc.pp.pca(adata, n_comps=components, random_state=seed)
    return np.asarray(adata.obsm["X_pca"])


def tfidf(counts: sp.csr_matrix) -> sp.csr_matrix:
    """``log(1 + 1e4 tf idf)`` of the binarised counts, with idf = cells / cells with the peak."""
    binary = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    binary.data[:] = 1
    depth = np.maximum(np.asarray(binary.sum(axis=1)).ravel(), 1)
    seen = np.maximum(np.asarray(binary.sum(axis=0)).ravel(), 1)
    weighted = sp.diags(_LSI_SCALE / depth) @ binary @ sp.diags(binary.shape[0] / seen)
    weighted = sp.csr_matrix(weighted)
    weighted.data = np.log1p(weighted.data)
    return weighted


def lsi_components(counts: sp.csr_matrix, seed: int = 0) -> np.ndarray:
    """LSI by randomised SVD; the first component, which is depth, is left out."""
    from sklearn.utils.extmath import randomized_svd

    left, values, _ = randomized_svd(tfidf(counts), N_COMPONENTS + 1, random_state=seed)
    return (left * values)[:, 1:]


def rna_pca(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """PCA of the RNA alone."""
    return log_pca(mdata["rna"].X, seed)


def lsi(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """LSI of the ATAC alone."""
    return lsi_components(mdata["atac"].X, seed)


def concat(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """PCA of the RNA beside LSI of the ATAC, each divided by its mean standard deviation."""
    parts = [log_pca(mdata["rna"].X, seed), lsi_components(mdata["atac"].X, seed)]
    return np.hstack([part / part.std(axis=0).mean() for part in parts])


def _snap_input(mdata: MuData, name: str) -> Any:
    import anndata as ad

    return ad.AnnData(sp.csr_matrix(mdata[name].X, dtype=np.float64))


def multi_spectral(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """SnapATAC2's spectral embedding of both modalities (Zhang et al., Nat. Methods 2024)."""
    import snapatac2 as snap

    both = [_snap_input(mdata, "rna"), _snap_input(mdata, "atac")]
    _, vectors = snap.tl.multi_spectral(
        both, n_comps=N_COMPONENTS, features=None, random_state=seed
    )
    return np.asarray(vectors)


def _spectral(mdata: MuData, name: str, seed: int) -> np.ndarray:
    import snapatac2 as snap

    _, vectors = snap.tl.spectral(
        _snap_input(mdata, name),
        n_comps=N_COMPONENTS,
        features=None,
        random_state=seed,
        inplace=False,
    )
    return np.asarray(vectors)


def spectral_rna(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """SnapATAC2's spectral embedding of the RNA counts alone."""
    return _spectral(mdata, "rna", seed)


def spectral_atac(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """SnapATAC2's spectral embedding of the ATAC counts alone."""
    return _spectral(mdata, "atac", seed)


def wnn(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Weighted nearest neighbours (Hao et al., Cell 2021), embedded by its graph's spectrum."""
    import muon as mu
    import scanpy as sc
    from sklearn.manifold import spectral_embedding

    mdata["rna"].obsm["X_part"] = log_pca(mdata["rna"].X, seed)
    mdata["atac"].obsm["X_part"] = lsi_components(mdata["atac"].X, seed)
    for name in ("rna", "atac"):
        sc.pp.neighbors(mdata[name], use_rep="X_part", random_state=seed)
    mu.pp.neighbors(mdata, key_added="wnn", random_state=seed)
    graph = mdata.obsp["wnn_connectivities"]
    graph = (graph + graph.T) / 2
    return spectral_embedding(graph, n_components=N_COMPONENTS, random_state=seed)


def mofa(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """MOFA+ (Argelaguet et al., Genome Biol. 2020) through muon, few iterations.

    MOFA makes the views dense, so the ATAC view is the 5,000 peaks of highest variance of TF-IDF.
    """
    import muon as mu
    import scanpy as sc

    sc.pp.normalize_total(mdata["rna"], target_sum=1e4)
    sc.pp.log1p(mdata["rna"])
    weighted = tfidf(mdata["atac"].X)
    mean = np.asarray(weighted.mean(axis=0)).ravel()
    variance = np.asarray(weighted.multiply(weighted).mean(axis=0)).ravel() - mean**2
    order = np.argsort(-variance, kind="stable")
    mdata["atac"].X = weighted
    mdata["atac"].var["used"] = np.isin(np.arange(weighted.shape[1]), order[:_MOFA_PEAKS])
    mdata["rna"].var["used"] = True
    mdata.update()
    used = [mdata[name][:, mdata[name].var["used"].to_numpy()].copy() for name in ("rna", "atac")]
    import mudata as md

    views = md.MuData({"rna": used[0], "atac": used[1]})
    with tempfile.TemporaryDirectory() as folder:
        mu.tl.mofa(
            views,
            use_var=None,
            n_factors=options.get("mofa_factors", 20),
            n_iterations=options.get("mofa_iterations", 50),
            use_float32=True,
            scale_views=True,
            save_data=False,
            seed=seed,
            outfile=str(Path(folder) / "mofa.hdf5"),
        )
    return np.asarray(views.obsm["X_mofa"])


def multivi_model(mdata: MuData, seed: int, options: dict[str, Any]) -> Any:
    """Train scvi-tools' MULTIVI with its defaults for a given number of epochs."""
    import scvi

    scvi.settings.seed = seed
    scvi.model.MULTIVI.setup_mudata(mdata, modalities=_MODALITIES)
    model = scvi.model.MULTIVI(mdata)
    model.train(max_epochs=options.get("multivi_epochs", 40), accelerator=_accelerator(options))
    return model


def multivi(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Joint latent of MULTIVI (Ashuach et al., Nat. Methods 2023)."""
    return multivi_model(mdata, seed, options).get_latent_representation()


def peakvi_model(mdata: MuData, seed: int, options: dict[str, Any]) -> Any:
    """Train scvi-tools' PEAKVI on the ATAC with its defaults for a given number of epochs."""
    import scvi

    scvi.settings.seed = seed
    adata = mdata["atac"].copy()
    scvi.model.PEAKVI.setup_anndata(adata)
    model = scvi.model.PEAKVI(adata)
    model.train(max_epochs=options.get("peakvi_epochs", 40), accelerator=_accelerator(options))
    return model


def peakvi(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Latent of PEAKVI (Ashuach et al., Cell Rep. Methods 2022), ATAC alone."""
    return peakvi_model(mdata, seed, options).get_latent_representation()


def fragments(adata: AnnData) -> AnnData:
    """Give fragments where counts are insertions, of which a fragment has two (2 above 1)."""
    copy = adata.copy()
    values = copy.X.data
    if (values == 2).sum() > (values == 1).sum():
        copy.X.data = np.ceil(values / 2)
    return copy


def poissonvi_model(mdata: MuData, seed: int, options: dict[str, Any]) -> Any:
    """Train scvi-tools' POISSONVI on the ATAC with its defaults; as many epochs as PEAKVI if untold."""
    import scvi

    scvi.settings.seed = seed
    adata = fragments(mdata["atac"])
    scvi.external.POISSONVI.setup_anndata(adata)
    model = scvi.external.POISSONVI(adata)
    epochs = options.get("poissonvi_epochs", options.get("peakvi_epochs", 40))
    model.train(max_epochs=epochs, accelerator=_accelerator(options))
    return model


def poissonvi(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Latent of POISSONVI (Martens et al., Nat. Methods 2024), on fragments."""
    return poissonvi_model(mdata, seed, options).get_latent_representation()


def atacdiff_model(
    adata: AnnData,
    seed: int,
    options: dict[str, Any],
    stages: Sequence[str] | None = None,
) -> Any:
    """Train atacvi's ATACDiffModel, all stages or some.

    ``atacdiff_setup``, ``atacdiff_model`` and ``atacdiff_train`` are keywords, ``atacdiff_epochs``
    the epochs at most of each stage.
    """
    import scvi

    import atacvi

    scvi.settings.seed = seed
    atacvi.ATACDiffModel.setup_anndata(adata, **options.get("atacdiff_setup", {}))
    model = atacvi.ATACDiffModel(adata, **options.get("atacdiff_model", {}))
    training = {"max_epochs": options.get("atacdiff_epochs"), "stages": stages}
    model.train(**{**training, **options.get("atacdiff_train", {})})
    return model


def atacdiff(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Semantic latent of atacvi's ATACDiffModel, which needs the auxiliary stage only."""
    model = atacdiff_model(mdata["atac"].copy(), seed, options, ["auxiliary"])
    return model.get_latent_representation()


def multiview_model(mdata: MuData, seed: int, options: dict[str, Any]) -> Any:
    """Train atacvi's MultiViewModel; ``multiview_model`` and ``multiview_train`` are keywords."""
    import scvi

    import atacvi

    scvi.settings.seed = seed
    setup = {"modalities": dict(_MODALITIES), **options.get("multiview_setup", {})}
    atacvi.MultiViewModel.setup_mudata(mdata, **setup)
    model = atacvi.MultiViewModel(mdata, **options.get("multiview_model", {}))
    training = {"max_epochs": options.get("multiview_epochs")}
    model.train(**{**training, **options.get("multiview_train", {})})
    return model


def multiview(mdata: MuData, seed: int, options: dict[str, Any]) -> np.ndarray:
    """Joint latent of atacvi's MultiViewModel."""
    return multiview_model(mdata, seed, options).get_latent_representation()


def _accelerator(options: dict[str, Any]) -> str:
    return options.get("accelerator", "auto")


def load_imports(names: tuple[str, ...]) -> None:
    """Import what a method needs, so that its clock does not count the import."""
    for name in names:
        importlib.import_module(name)


_CLASSIC = ("scanpy", "sklearn.utils.extmath")
PEERS: dict[str, Peer] = {
    "multiview": Peer(multiview, ("scvi", "atacvi"), seeded=True),
    "atacdiff": Peer(atacdiff, ("scvi", "atacvi"), seeded=True),
    "multivi": Peer(multivi, ("scvi",), seeded=True),
    "peakvi": Peer(peakvi, ("scvi",), seeded=True),
    "poissonvi": Peer(poissonvi, ("scvi",), seeded=True),
    "multi_spectral": Peer(multi_spectral, ("snapatac2",), seeded=False),
    "spectral_rna": Peer(spectral_rna, ("snapatac2",), seeded=False),
    "spectral_atac": Peer(spectral_atac, ("snapatac2",), seeded=False),
    "concat": Peer(concat, _CLASSIC, seeded=False),
    "wnn": Peer(wnn, (*_CLASSIC, "muon", "sklearn.manifold"), seeded=False),
    "mofa": Peer(mofa, (*_CLASSIC, "muon", "mofapy2.run.entry_point"), seeded=True),
    "rna_pca": Peer(rna_pca, _CLASSIC, seeded=False),
    "lsi": Peer(lsi, _CLASSIC, seeded=False),
}
