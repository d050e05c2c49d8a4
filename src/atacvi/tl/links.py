"""Link peaks to the genes near them by how they vary together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC, RNA, UNS_KEY
from atacvi.data import check_key, check_paired
from atacvi.metrics import benjamini_hochberg
from atacvi.regions import parse_regions
from atacvi.tl._link_mixture import fit_links
from atacvi.tl._link_null import score_pairs
from atacvi.tl._link_scores import Design, Method
from atacvi.tl._matching import strata
from atacvi.tl._values import Values, normalized
from atacvi.tl._windows import Windows, gene_table, windows
from atacvi.tl.metacells import averaging_matrix, group_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

_METHODS = ("correlation", "lasso", "pls")
_N_FOLDS = 5
_BINS = 4
_PAIRS_PER_STRATUM = 8  # each stands in for as many null scores as there are permutations
_MODEL_METACELLS = 500


def link_peaks_to_genes(
    mdata: MuData,
    *,
    method: Method = "correlation",
    window: int = 250_000,
    genes: Sequence[str] | None = None,
    annotation: pd.DataFrame | None = None,
    model: Any = None,
    expression: Any = None,
    accessibility: Any = None,
    normalize: bool = True,
    metacells: int | str | ArrayLike | None = None,
    use_rep: str | None = None,
    min_cells: int = 10,
    gc_key: str | None = None,
    n_permutations: int | None = None,
    n_components: int = 3,
    modalities: tuple[str, str] = (RNA, ATAC),
    key_added: str = "peak_gene_links",
    random_state: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Score the peaks around each TSS by how their accessibility goes with the expression.

    Every pair is compared with a null: the gene's expression against the windows of random genes
    elsewhere (on other chromosomes, or at least 5 Mb away), pooled over genes within strata of
    distance, accessibility and GC content. So a peak has to do better than peaks as open, as near
    to some TSS and as rich in GC, which share the differences between cell types but cannot
    regulate the gene.

    A link is likelier the nearer the peak lies to the TSS. How much so is learnt from the data: with
    the null at hand, the z scores of all pairs are a mixture of pairs without a link, activators and
    repressors, whose shares depend on distance. The posterior of a link, ``probability``, weighs
    score and distance; ``score``, ``pvalue`` and ``fdr`` do not favour near peaks.

    Parameters
    ----------
    mdata
        Paired cells; not subset.
    method
        ``"correlation"``: Pearson correlation of each pair. ``"lasso"``: coefficients of the
        standardised peaks of the window, penalty by 5-fold cross-validation; ``"pls"``: the same by
        partial least squares. The latter two tell a peak from its neighbours.
    window
        Largest distance between the centre of a peak and the TSS, in base pairs.
    genes
        Genes to link; all that the annotation knows when ``None``.
    annotation
        One row a gene, named by the index or the column ``gene``: ``chrom`` with ``tss``, or with
        ``start``, ``end`` and ``strand``. ``None`` reads ``var`` of the RNA.
    model
        Fitted model whose imputed values are used for both modalities, averaged over metacells as
        they stream.
    expression, accessibility
        Values of one modality: name of a layer or of an ``obsm`` entry, array or sparse matrix
        (cells, features), table, or fitted model; ``None`` takes ``X``.
    normalize
        Scale stored values (``X``, layers, ``obsm``) to a common depth, and take ``log1p`` of
        expression. Arrays and tables that are passed are taken as they are.
    metacells
        Number of groups of alike cells over which values are averaged, a column of ``obs``, or one
        group a cell; ``None`` takes single cells, and 500 groups with a model.
    use_rep
        Entry of ``mdata.obsm`` that tells which cells are alike; by default the model's latent.
    min_cells
        Leave out peaks and genes with stored values above zero in fewer cells: their correlations
        hang on single cells. Values that are passed or come from a model are all kept.
    gc_key
        Column of ``var`` of the ATAC with the GC content, to match the null by it.
    n_permutations
        Windows elsewhere that a gene is compared with; 0 gives no p values. By default 100 for
        ``"correlation"`` and 10 otherwise, where each needs a fit.
    n_components
        Components of ``"pls"``.
    modalities
        Names of RNA and ATAC.
    key_added
        Key of ``uns``.
    random_state
        Seed or generator; the same value gives the same result.

    Returns
    -------
    One row a pair, by gene and position: ``gene``, ``peak``, ``score`` (signed), ``distance``
    (centre of the peak minus TSS), ``pvalue`` (two-sided), ``fdr`` (Benjamini-Hochberg over
    all pairs) and ``probability`` (posterior of a link, of either sign; NaN without a
    null); NaN where expression does not vary. Written to ``mdata.uns[key_added]`` too, its
    parameters to ``mdata.uns["atacvi"]``.

    Raises
    ------
    KeyError
        If a layer, a column or an embedding does not exist.
    ValueError
        If cells are not paired, no gene is known, no peak lies near one, values are unsuitable, or
        no window lies elsewhere.

    References
    ----------
    Null of peaks matched by accessibility and GC: Ma et al., Cell 183, 1103 (2020). Lasso and PLS on
    imputed profiles: Li et al., Genome Biology 23, 20 (2022). Two groups whose shares depend on a
    covariate: Scott et al., JASA 110, 459 (2015); Zhang and Chen, JASA 117, 411 (2022).

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.tl import link_peaks_to_genes
    >>> mdata = atacvi.datasets.simulate_multiome(100, 80, 400, 3, random_state=0)
    >>> links = link_peaks_to_genes(mdata, n_permutations=20)
    >>> list(links.columns)
    ['gene', 'peak', 'score', 'distance', 'pvalue', 'fdr', 'probability']
    >>> likely = links[(links["probability"] > 0.8) & (links["score"] > 0)]
    """
    _check_arguments(method, window, n_components, n_permutations)
    rng = np.random.default_rng(random_state)
    rna, atac = modalities
    check_paired(mdata, [rna, atac])
    expression = model if expression is None else expression
    accessibility = model if accessibility is None else accessibility
    x = Values(accessibility, mdata[atac], ATAC, "accessibility")
    y = Values(expression, mdata[rna], RNA, "expression")
    seen = _seen(x, min_cells), _seen(y, min_cells)
    table, pairs, columns = _candidates(mdata, modalities, annotation, genes, window, seen)
    groups = _groups(mdata, metacells, use_rep, x, y, rng)
    used = np.unique(pairs.peak)
    matrices = (
        _observations(x, used, groups, normalize),
        _observations(y, columns, groups, normalize),
    )
    design = Design(matrices[0], _N_FOLDS, rng)
    pairs = pairs._replace(peak=np.searchsorted(used, pairs.peak))
    if n_permutations is None:
        n_permutations = 100 if method == "correlation" else 10
    found = score_pairs(
        design,
        matrices[1],
        pairs,
        table,
        _strata(mdata, atac, gc_key, used, pairs, design),
        method=method,
        n_components=n_components,
        n_permutations=n_permutations,
        window=window,
        rng=rng,
    )
    if n_permutations and np.isnan(found.p_value).all():
        msg = (
            "no gene has a window elsewhere (another chromosome, or 5 Mb away) to be compared "
            "with, or none varies; with few genes pass n_permutations=0, which gives scores alone"
        )
        raise ValueError(msg)
    links = pd.DataFrame(
        {
            "gene": _objects(table.index)[pairs.gene],
            "peak": _objects(mdata[atac].var_names)[used[pairs.peak]],
            "score": found.score,
            "distance": pairs.distance,
            "pvalue": found.p_value,
            "fdr": benjamini_hochberg(found.p_value),
            "probability": fit_links(found.low, found.high, pairs.distance, rng).probability,
        },
        index=pd.RangeIndex(len(pairs.gene)).astype(str),
    )
    mdata.uns[key_added] = links
    settings = {"method": method, "window": window, "n_permutations": n_permutations}
    settings |= {"n_observations": int(design.n), "metacells": groups is not None}
    mdata.uns[UNS_KEY] = {**mdata.uns.get(UNS_KEY, {}), key_added: settings}
    return links.copy()


def _check_arguments(
    method: str, window: int, n_components: int, n_permutations: int | None
) -> None:
    if method not in _METHODS:
        msg = f"method={method!r}; use one of {', '.join(map(repr, _METHODS))}"
        raise ValueError(msg)
    if window < 1 or n_components < 1 or (n_permutations is not None and n_permutations < 0):
        msg = (
            f"window={window} and n_components={n_components} must be at least 1, "
            f"n_permutations={n_permutations} at least 0"
        )
        raise ValueError(msg)


def _strata(
    mdata: MuData,
    atac: str,
    gc_key: str | None,
    used: NDArray[np.int64],
    pairs: Windows,
    design: Design,
) -> NDArray[np.int64]:
    """Return strata of pairs alike in distance, accessibility and GC content."""
    covariates = [np.abs(pairs.distance), design.mean[pairs.peak]]
    if gc_key is not None:
        gc = check_key(mdata[atac], "var", gc_key, f"mdata[{atac!r}]", argument="gc_key")
        covariates.append(np.asarray(gc, dtype=np.float64)[used][pairs.peak])
    return strata(covariates, _BINS, _PAIRS_PER_STRATUM)


def _candidates(
    mdata: MuData,
    modalities: tuple[str, str],
    annotation: pd.DataFrame | None,
    genes: Sequence[str] | None,
    window: int,
    seen: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[pd.DataFrame, Windows, NDArray[np.int64]]:
    """Return the known genes, the pairs, and the columns of the genes in the RNA."""
    rna, atac = modalities
    names = mdata[rna].var_names
    if genes is not None:
        wanted = pd.Index(list(dict.fromkeys(genes)))
        unknown = wanted.difference(names)
        if len(unknown):
            msg = f"{len(unknown)} of {len(wanted)} genes are not in mdata[{rna!r}]: {unknown[0]!r}"
            raise KeyError(msg)
    else:
        wanted = names
    if annotation is not None:
        table = gene_table(annotation, wanted, "annotation")
    else:
        table = gene_table(mdata[rna].var, wanted, f"mdata[{rna!r}].var")
    columns = names.get_indexer(table.index)
    pairs = windows(table, parse_regions(mdata[atac].var), window)
    kept = seen[0][pairs.peak] & seen[1][columns][pairs.gene]
    if not kept.any():
        msg = (
            f"no peak lies within {window:,} bp of a TSS of {len(table)} genes; are both of the "
            "same genome, and chromosomes named alike?"
            if not len(kept)
            else f"of {len(kept)} pairs none has peak and gene in min_cells cells; lower it"
        )
        raise ValueError(msg)
    return table, Windows(*(part[kept] for part in pairs)), columns


def _seen(values: Values, min_cells: int) -> NDArray[np.bool_]:
    """Which features are above zero in enough cells; of values that are not stored, all."""
    if not values.stored or min_cells < 1:
        return np.ones(values.shape[1], dtype=bool)
    return np.asarray((values.matrix > 0).sum(axis=0)).ravel() >= min_cells


def _groups(
    mdata: MuData,
    metacells: int | str | ArrayLike | None,
    use_rep: str | None,
    x: Values,
    y: Values,
    rng: np.random.Generator,
) -> NDArray | None:
    model = x.model or y.model
    if metacells is None:
        if model is None:
            return None
        metacells = min(_MODEL_METACELLS, mdata.n_obs)
    if isinstance(metacells, str):
        return np.asarray(check_key(mdata, "obs", metacells, "mdata", argument="metacells"))
    if not isinstance(metacells, int | np.integer):
        groups = np.asarray(metacells)
        if groups.shape != (mdata.n_obs,):
            msg = f"metacells has shape {groups.shape}; give one group a cell ({mdata.n_obs})"
            raise ValueError(msg)
        return groups
    if use_rep is not None:
        z = check_key(mdata, "obsm", use_rep, "mdata", argument="use_rep")
    elif model is not None:
        z = model.get_latent_representation()
    else:
        msg = f"metacells={metacells} needs to know which cells are alike: name an embedding in "
        msg += f"mdata.obsm, which holds {list(mdata.obsm)}, with use_rep="
        raise ValueError(msg)
    return group_cells(z, int(metacells), int(rng.integers(2**31)))


def _observations(
    values: Values, columns: NDArray[np.int64], groups: NDArray | None, normalize: bool
) -> sp.csc_matrix | NDArray[np.float32]:
    """Return the features over cells, or averaged over groups of cells."""
    average = None if groups is None else averaging_matrix(groups)[0]
    if values.model is not None:
        if average is None:
            return values.columns(columns)
        total = np.zeros((average.shape[0], len(columns)), dtype=np.float32)
        for rows, block in values.batches(columns):
            total += average[:, rows] @ block
        return total
    matrix = normalized(values) if values.stored and normalize else values.matrix
    part = sp.csc_matrix(matrix)[:, columns] if sp.issparse(matrix) else matrix[:, columns]
    if average is None:
        return part
    mean = average @ part
    return np.asarray(mean.toarray() if sp.issparse(mean) else mean, dtype=np.float32)


def _objects(names: pd.Index) -> NDArray[np.object_]:
    return np.array(list(names), dtype=object)
