"""Candidate promoters that no annotation knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from atacvi.regions import Universe

_SCORES = ("centroid", "classifier")
_FEWEST_PROXIMAL = 5
_N_FOLDS = 5


class PromoterMixin:
    """`find_promoters`."""

    universe: Universe

    def find_promoters(
        self,
        tss: pd.DataFrame | Any,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        proximal: int = 2_000,
        dist_min: int = 10_000,
        score: Literal["centroid", "classifier"] = "centroid",
        mode: Literal["contextual", "static"] = "contextual",
        gc: pd.Series | np.ndarray | None = None,
        n_matches: int = 200,
        min_cells: int = 3,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Rank regions far from any TSS by how much they look like promoters to the model.

        Each candidate is compared with the candidates most like it in frequency, width, distance to
        the nearest TSS and, where given, GC content: what merely is open in many cells, or wide,
        does not stand out.

        Parameters
        ----------
        tss
            Known transcription start sites: a table with ``chrom``, ``start`` and ``end``.
        adata, indices
            Cells of one type, as in `get_latent_representation`.
        proximal
            Regions this near to a TSS, in base pairs, are the known promoters.
        dist_min
            Candidates are at least this far from a TSS.
        score
            ``"centroid"`` is the cosine with the mean of the known promoters, both as seen from the
            mean of all open regions; ``"classifier"`` the log odds of a logistic regression of known promoters against all other regions,
            held out by fifths.
        mode
            Embeddings, as in `get_region_embeddings`; contextual ones are centred by cell.
        gc
            GC content of each region of the universe.
        n_matches
            Matched candidates of each.
        min_cells
            Cells in which a region must be open.
        max_tokens, seed
            Context, as in `get_latent_representation`.

        Returns
        -------
        Table of the candidates, the best first, indexed by name: ``chrom``, ``start``, ``end``,
        ``n_cells``, ``frequency``, ``tss_distance``, ``score``, ``pvalue`` (``(1 + k) / (1 + n)`` with
        k of n matches scored as high) and ``fdr`` (Benjamini & Hochberg).

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there are too few known promoters or candidates, or arguments are out of range.

        References
        ----------
        LeRoy et al., bioRxiv 2025.11.03.685753 (2025), for the centroid.

        Examples
        --------
        >>> tss = model.universe.regions.iloc[::10]
        >>> table = model.find_promoters(tss, proximal=500, dist_min=1000, n_matches=20)
        >>> {"score", "pvalue", "tss_distance"} <= set(table.columns)
        True
        """
        from atacvi.metrics import benjamini_hochberg, matched_pvalues, matched_regions

        if score not in _SCORES or not 0 <= proximal < dist_min or n_matches < 1:
            msg = (
                f"score={score!r}, proximal={proximal}, dist_min={dist_min}, n_matches={n_matches}: "
                f"choose a score of {', '.join(_SCORES)}, proximal below dist_min, and at least one "
                "match."
            )
            raise ValueError(msg)
        regions = self.get_region_embeddings(  # type: ignore[attr-defined]
            adata,
            indices,
            mode=mode,
            center="cell" if mode == "contextual" else None,
            min_cells=min_cells,
            max_tokens=max_tokens,
            seed=seed,
        )
        table = regions.obs.drop(columns="group")
        place = pd.Series(np.arange(len(self.universe)), index=self.universe.names)
        ids = place.loc[table.index].to_numpy()
        table["tss_distance"] = self._tss_distance(tss)[ids]  # type: ignore[attr-defined]
        known = (table["tss_distance"] <= proximal).to_numpy()
        candidate = (table["tss_distance"] >= dist_min).to_numpy()
        if known.sum() < _FEWEST_PROXIMAL or candidate.sum() < _FEWEST_PROXIMAL:
            msg = (
                f"{int(known.sum())} open regions lie within {proximal} bp of a TSS and "
                f"{int(candidate.sum())} at least {dist_min} bp away; {_FEWEST_PROXIMAL} of each are "
                "needed. Is the annotation of the same genome build?"
            )
            raise ValueError(msg)
        vectors = np.asarray(regions.X, dtype=np.float64)
        if score == "centroid":
            value = _cosine_to_centroid(vectors, known)
        else:
            value = _held_out_log_odds(vectors, known, seed)
        table["score"] = value
        covariates = [
            table["frequency"].to_numpy(dtype=np.float64),
            (table["end"] - table["start"]).to_numpy(dtype=np.float64),
            table["tss_distance"].to_numpy(dtype=np.float64),
        ]
        if gc is not None:
            covariates.append(_checked_gc(gc, self.universe)[ids])
        chosen = np.flatnonzero(candidate)
        matched = matched_regions(
            np.column_stack(covariates)[chosen],
            np.arange(len(chosen)),
            np.arange(len(chosen)),
            n_matches,
        )
        found = table.iloc[chosen].copy()
        found["pvalue"] = matched_pvalues(value[chosen], np.arange(len(chosen)), matched)
        found["fdr"] = benjamini_hochberg(found["pvalue"].to_numpy())
        return found.sort_values(["pvalue", "score"], ascending=[True, False], kind="stable")


def _cosine_to_centroid(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how much each region lies in the direction of the known promoters; they leave themselves out."""
    centred = vectors - vectors.mean(axis=0)
    total, n_known = centred[known].sum(axis=0), int(known.sum())
    centroid = np.where(known[:, None], (total - centred) / (n_known - 1), total / n_known)
    lengths = np.linalg.norm(centred, axis=1) * np.linalg.norm(centroid, axis=1)
    return (centred * centroid).sum(axis=1) / np.maximum(lengths, 1e-12)


def _held_out_log_odds(vectors: np.ndarray, known: np.ndarray, seed: int) -> np.ndarray:
    """Return log odds of being a known promoter, each from a regression that did not see the region."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    centred = vectors - vectors.mean(axis=0)
    scaled = centred / max(float(np.sqrt((centred**2).mean())), 1e-12)
    value = np.zeros(len(known))
    folds = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(scaled, known):
        fitted = LogisticRegression(max_iter=1000, class_weight="balanced")
        value[test] = fitted.fit(scaled[train], known[train]).decision_function(scaled[test])
    return value


def _checked_gc(gc: pd.Series | np.ndarray, universe: Universe) -> np.ndarray:
    values = np.asarray(gc, dtype=np.float64)
    if values.shape != (len(universe),) or not np.isfinite(values).all():
        msg = (
            f"gc has shape {values.shape}; it is one finite value for each of the {len(universe)} "
            "regions of the universe."
        )
        raise ValueError(msg)
    return values
