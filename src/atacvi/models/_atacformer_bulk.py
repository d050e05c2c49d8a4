"""BED files: embeddings, and classifiers of cell type and assay on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import OBSM_TOKENS
from atacvi.models._bulk_ridge import RidgeClassifier, fit_ridge_classifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from atacvi.modules import AtacformerModule
    from atacvi.regions import Universe

_TARGETS = ("cell_type", "assay")
_FEWEST_CLASSES = 2


class BulkMixin:
    """`embed_bed`, `fit_bulk_classifier` and `predict_bulk`."""

    module: AtacformerModule
    universe: Universe

    def embed_bed(
        self,
        paths: Any,
        *,
        max_tokens: int | None = 2048,
        seed: int = 0,
        normalize: bool | None = None,
        min_share: float = 0.05,
        progress: bool | None = None,
    ) -> AnnData:
        """Return one vector a BED file.

        A file with more regions than the context is cut at random into disjoint chunks that fill
        it, and the embeddings of these are averaged: no region is left out.

        Parameters
        ----------
        paths
            BED file, a folder of them, a list, or a mapping from sample to file; or an AnnData of
            `atacvi.data.tokenize_bed`.
        max_tokens
            Length of a chunk; ``None`` takes the whole context of the model.
        seed
            Seed of the cut.
        normalize
            As in `get_latent_representation`.
        min_share
            Share of a file's regions that must hit the universe.
        progress
            Show a progress bar; ``None`` does so on a terminal.

        Returns
        -------
        AnnData (files x width); ``obs`` holds ``n_regions``, ``n_tokens``, ``fraction_in_universe``,
        ``is_empty`` and ``n_chunks``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If a file cannot be read, or too few of its regions are in the universe.

        Examples
        --------
        >>> from atacvi.regions import write_bed
        >>> write_bed(model.universe.regions[:30], "one.bed")
        >>> write_bed(model.universe.regions[20:], "two.bed")
        >>> model.embed_bed({"one": "one.bed", "two": "two.bed"}).obs["n_regions"].to_list()
        [30, 80]
        """
        import anndata

        from atacvi.data import tokenize_bed

        self._require_training()  # type: ignore[attr-defined]
        files = paths
        if not isinstance(paths, anndata.AnnData):
            files = tokenize_bed(paths, self.universe, min_share=min_share, progress=progress)
        tokens = self._embedded_only(files.obsm[OBSM_TOKENS])  # type: ignore[attr-defined]
        chunks, of_file = cut_into_chunks(tokens, self._context(max_tokens), seed)  # type: ignore[attr-defined]
        vectors = self._embed(  # type: ignore[attr-defined]
            chunks, np.arange(chunks.shape[0]), max_tokens=None, normalize=False
        )
        weight = np.maximum(np.diff(chunks.indptr), 1)[:, None]
        total = np.zeros((tokens.shape[0], vectors.shape[1]))
        share = np.zeros((tokens.shape[0], 1))
        np.add.at(total, of_file, vectors * weight)
        np.add.at(share, of_file, weight)
        embedding = total / share
        if normalize or (normalize is None and self.latent_centre_ is not None):  # type: ignore[attr-defined]
            embedding = self._normalized(embedding)  # type: ignore[attr-defined]
        obs = files.obs.copy()
        obs["n_chunks"] = np.bincount(of_file, minlength=tokens.shape[0])
        return anndata.AnnData(embedding.astype(np.float32), obs=obs)

    def fit_bulk_classifier(
        self,
        embedding: AnnData,
        labels: pd.DataFrame,
        targets: Sequence[str] = _TARGETS,
        *,
        strength: float | None = None,
    ) -> None:
        """Fit one head a target, such as cell type and assay, on embeddings of BED files.

        A head is a ridge regression on the directions of the embeddings, in closed form.

        Parameters
        ----------
        embedding
            What `embed_bed` returned.
        labels
            Table indexed as ``embedding.obs``, one column a target; files without a label (NaN) are
            left out of that head.
        targets
            Columns.
        strength
            Inverse strength of the penalty; ``None`` chooses it by the files left out one by one.

        Raises
        ------
        KeyError
            If a column or a file is missing.
        ValueError
            If a target has fewer than two classes, or `strength` is not positive.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from atacvi.regions import write_bed
        >>> files = {f"file{i}": f"file{i}.bed" for i in range(6)}
        >>> for i, path in enumerate(files.values()):
        ...     write_bed(model.universe.regions[(i % 2) * 50 + i : (i % 2) * 50 + i + 30], path)
        >>> embedding = model.embed_bed(files)
        >>> labels = pd.DataFrame({"assay": ["DNase", "ATAC"] * 3}, index=list(files))
        >>> model.fit_bulk_classifier(embedding, labels, targets=["assay"])
        >>> list(model.predict_bulk(embedding).columns)
        ['assay', 'assay_probability']
        """
        if strength is not None and strength <= 0:
            msg = f"strength={strength} must be positive, or None, which chooses it."
            raise ValueError(msg)
        missing = [name for name in targets if name not in labels]
        absent = embedding.obs_names.difference(labels.index)
        if missing or len(absent):
            msg = (
                f"labels lacks the columns {missing} and the files {list(absent[:5])}; it holds "
                f"{list(labels.columns)} for {len(labels)} files."
            )
            raise KeyError(msg)
        heads: dict[str, RidgeClassifier] = {}
        vectors = np.asarray(embedding.X, dtype=np.float64)
        for target in targets:
            column = labels.loc[embedding.obs_names, target]
            known = column.notna().to_numpy()
            values = column[known].astype(str).to_numpy()
            if len(np.unique(values)) < _FEWEST_CLASSES:
                msg = f"{target!r} has fewer than two classes; there is nothing to tell apart."
                raise ValueError(msg)
            penalty = None if strength is None else 1.0 / strength
            heads[target] = fit_ridge_classifier(vectors[known], values, penalty)
        self.bulk_classifiers_ = {name: head._asdict() for name, head in heads.items()}

    def predict_bulk(self, data: Any, **kwargs: Any) -> pd.DataFrame:
        """Return cell type, assay, or what else heads were fitted for, of BED files.

        Parameters
        ----------
        data
            What `embed_bed` takes, or what it returned.
        **kwargs
            Further arguments of `embed_bed`.

        Returns
        -------
        Table indexed by file: for each target its class and ``<target>_probability``.

        Raises
        ------
        RuntimeError
            If no head was fitted.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from atacvi.regions import write_bed
        >>> files = {f"file{i}": f"file{i}.bed" for i in range(6)}
        >>> for i, path in enumerate(files.values()):
        ...     write_bed(model.universe.regions[(i % 2) * 50 + i : (i % 2) * 50 + i + 30], path)
        >>> embedding = model.embed_bed(files)
        >>> labels = pd.DataFrame({"assay": ["DNase", "ATAC"] * 3}, index=list(files))
        >>> model.fit_bulk_classifier(embedding, labels, targets=["assay"])
        >>> model.predict_bulk({"new": "file0.bed"}).index.to_list()
        ['new']
        """
        import anndata

        heads = getattr(self, "bulk_classifiers_", None)
        if heads is None:
            msg = "No heads were fitted; call fit_bulk_classifier(embedding, labels) first."
            raise RuntimeError(msg)
        done = isinstance(data, anndata.AnnData) and OBSM_TOKENS not in data.obsm
        embedding = data if done else self.embed_bed(data, **kwargs)
        table = pd.DataFrame(index=embedding.obs_names)
        for target, values in heads.items():
            head = RidgeClassifier(**values)
            found = head.probabilities(np.asarray(embedding.X, dtype=np.float64))
            table[target] = head.classes[found.argmax(axis=1)]
            table[f"{target}_probability"] = found.max(axis=1)
        return table


def cut_into_chunks(
    tokens: sp.csr_matrix, context: int, seed: int
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Cut long token sets at random into disjoint chunks of nearly equal size.

    Parameters
    ----------
    tokens
        Token sets, CSR of shape (files, regions).
    context
        Tokens of a chunk at most.
    seed
        Seed.

    Returns
    -------
    Chunks, CSR of shape (chunks, regions), and the file of each, shape (chunks,); a file without
    tokens has one empty chunk.
    """
    indices, sizes, of_file = [], [], []
    for file in range(tokens.shape[0]):
        ids = tokens.indices[tokens.indptr[file] : tokens.indptr[file + 1]]
        n_chunks = max(1, -(-len(ids) // context))
        order = np.random.default_rng([seed, file]).permutation(len(ids)) if n_chunks > 1 else None
        for part in np.array_split(ids if order is None else ids[order], n_chunks):
            indices.append(np.sort(part))
            sizes.append(len(part))
            of_file.append(file)
    joined = np.concatenate(indices) if indices else np.empty(0, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    parts = (np.ones(len(joined), dtype=bool), joined, starts)
    return sp.csr_matrix(parts, shape=(len(sizes), tokens.shape[1])), np.asarray(of_file)
