"""Gene activity: the accessibility of a gene's body and promoter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC
from atacvi.regions import match_chromosome_names, overlap, parse_regions
from atacvi.tl._values import Values, get_modality
from atacvi.tl._windows import gene_table

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def gene_activity(
    data: AnnData | MuData,
    annotation: pd.DataFrame,
    *,
    upstream: int = 2000,
    downstream: int = 0,
    decay: float | None = None,
    window: int = 100_000,
    layer: str | None = None,
    modality: str = ATAC,
) -> AnnData:
    """Sum the counts of the peaks of each gene.

    Without `decay` a peak counts for every gene whose body, with the promoter before it, it
    overlaps. With `decay` it counts up to `window` away too, by ``exp(-distance / decay)``.

    Parameters
    ----------
    data
        Counts (cells, peaks).
    annotation
        One row a gene, named by the index or the column ``gene``: ``chrom``, ``start``, ``end``
        and ``strand``.
    upstream, downstream
        Base pairs added before the TSS and after the end of the gene.
    decay
        Length in base pairs over which the weight of a peak outside falls to 1/e.
    window
        Reach of the weights, in base pairs.
    layer
        Layer of the counts; ``X`` by default.
    modality
        Modality of a MuData.

    Returns
    -------
    AnnData (cells, genes) of the genes with at least one peak, with ``obs`` of the data, ``chrom``,
    ``start``, ``end``, ``strand``, ``tss`` and ``n_peaks`` in ``var``; sparse where the counts are.

    Raises
    ------
    KeyError
        If a layer, modality or column does not exist.
    ValueError
        If coordinates cannot be read, no gene has a peak, or an argument is out of range.

    References
    ----------
    Body and promoter: Stuart et al., Nature Methods 18, 1333 (2021). Weights by distance: Granja et
    al., Nature Genetics 53, 403 (2021).

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.tl import gene_activity
    >>> adata = anndata.AnnData(np.array([[1.0, 2.0, 4.0]]))
    >>> adata.var_names = ["chr1:100-200", "chr1:5000-5100", "chr1:90000-90100"]
    >>> genes = pd.DataFrame(
    ...     {"chrom": ["chr1"], "start": [1500], "end": [6000], "strand": ["+"]}, index=["A"]
    ... )
    >>> gene_activity(adata, genes).X.tolist()
    [[3.0]]
    """
    import anndata

    if min(upstream, downstream, window) < 0 or (decay is not None and not decay > 0):
        msg = (
            f"upstream={upstream}, downstream={downstream} and window={window} must be at least 0 "
            f"and decay={decay} above 0 (or None)"
        )
        raise ValueError(msg)
    adata = get_modality(data, modality)
    counts = Values(layer, adata, ATAC, "adata").matrix
    names = annotation["gene"] if "gene" in annotation.columns else annotation.index
    genes = gene_table(annotation, pd.Index(names).unique(), "annotation")
    peaks = match_chromosome_names(parse_regions(adata.var), genes)
    weights = _weights(peaks, genes, upstream, downstream, decay, window)
    n_peaks = np.diff(weights.indptr)
    kept = np.flatnonzero(n_peaks)
    if not kept.size:
        msg = "no peak lies on or near a gene; are both of the same genome, named alike?"
        raise ValueError(msg)
    product = counts @ weights[:, kept]
    values = sp.csr_matrix(product) if sp.issparse(product) else np.asarray(product)
    var = genes.iloc[kept].assign(n_peaks=n_peaks[kept])
    var.index = pd.Index([str(name) for name in var.index], dtype=object)
    return anndata.AnnData(values, obs=adata.obs.copy(), var=var)


def _weights(
    peaks: pd.DataFrame,
    genes: pd.DataFrame,
    upstream: int,
    downstream: int,
    decay: float | None,
    window: int,
) -> sp.csc_matrix:
    """Return the weight of each peak for each gene, shape (peaks, genes)."""
    forward = (genes["strand"] == "+").to_numpy()
    start = genes["start"] - np.where(forward, upstream, downstream)
    end = genes["end"] + np.where(forward, downstream, upstream)
    body = genes.assign(start=start.clip(lower=0), end=end)
    reach = 0 if decay is None else window
    wide = body.assign(start=(body["start"] - reach).clip(lower=0), end=body["end"] + reach)
    peak, gene, _ = overlap(peaks, wide)
    before = body["start"].to_numpy()[gene] - peaks["end"].to_numpy()[peak]
    after = peaks["start"].to_numpy()[peak] - body["end"].to_numpy()[gene]
    distance = np.maximum(np.maximum(before, after), 0)
    value = np.ones(len(peak)) if decay is None else np.exp(-distance / decay)
    shape = (len(peaks), len(genes))
    return sp.csc_matrix((value.astype(np.float32), (peak, gene)), shape=shape)
