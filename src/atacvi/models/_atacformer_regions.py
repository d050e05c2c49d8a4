"""Embeddings of regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from atacvi.regions import format_regions, nearest, parse_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from atacvi.modules import AtacformerModule
    from atacvi.regions import Universe

_MODES = ("contextual", "static")
_ALL = "all"


class RegionEmbeddingMixin:
    """`get_region_embeddings` and `tss_score`."""

    module: AtacformerModule
    universe: Universe

    def get_region_embeddings(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        mode: Literal["contextual", "static"] = "contextual",
        groupby: str | None = None,
        center: Literal["cell"] | None = None,
        min_cells: int = 1,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> AnnData:
        """Return one vector a region.

        Parameters
        ----------
        adata, indices
            Cells, as in `get_latent_representation`.
        mode
            ``"contextual"`` averages the region's last-layer vectors over the cells in which it is
            open; ``"static"`` gives the row of the table that the encoder starts from.
        groupby
            Column of ``obs``; regions are averaged within each group.
        center
            ``"cell"`` subtracts the mean of a cell's tokens before averaging: the vector then says
            how the region differs from the others that are open with it, not in which cells it is.
        min_cells
            Cells in which a region must be open (within the group).
        max_tokens, seed
            Context, as in `get_latent_representation`.

        Returns
        -------
        AnnData (regions x width), the regions in the order of the universe and, with `groupby`, one
        block a group; ``obs`` holds ``chrom``, ``start``, ``end``, ``n_cells``, ``frequency`` (share
        of the cells) and ``group``. Sums are streamed: memory grows with regions, not with cells.

        Raises
        ------
        KeyError
            If `groupby` is no column.
        RuntimeError
            If the model is not trained.
        ValueError
            If `mode` or `center` is unknown.

        Examples
        --------
        >>> regions = model.get_region_embeddings(min_cells=2)
        >>> regions.n_vars, "n_cells" in regions.obs
        (8, True)
        >>> model.get_region_embeddings(mode="static").n_vars
        8
        """
        self._require_training()  # type: ignore[attr-defined]
        if mode not in _MODES or center not in (None, "cell"):
            msg = (
                f"mode={mode!r}, center={center!r}: choose a mode of {', '.join(_MODES)}, and center "
                "'cell' or None."
            )
            raise ValueError(msg)
        tokens, cells = self._tokens_of(adata, indices)  # type: ignore[attr-defined]
        groups, names = self._groups(adata, groupby, tokens.shape[0])
        active = self.module.active_ids.cpu().numpy()
        n_open = np.zeros((len(names), len(active)), dtype=np.int64)
        for group in range(len(names)):
            chosen = tokens[cells[groups[cells] == group]]
            n_open[group] = np.bincount(chosen.indices, minlength=tokens.shape[1])[active]
        n_group = np.bincount(groups[cells], minlength=len(names))
        if mode == "static":
            table = self.module.embeddings.token_embeddings.weight[: len(active)]
            means = np.broadcast_to(
                table.detach().float().cpu().numpy(), (len(names), *table.shape)
            )
        else:
            options = {"max_tokens": max_tokens, "seed": seed}
            means = self._mean_contexts(tokens, cells, groups, len(names), center, options)
        return self._as_regions(active, means, n_open, n_group, names, max(min_cells, 1))

    def tss_score(
        self,
        tss: pd.DataFrame | Any,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        proximal: int = 2_000,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> np.ndarray:
        """Return how well distance to the promoters in embedding space follows that in the genome.

        Parameters
        ----------
        tss
            Transcription start sites: a table with ``chrom``, ``start`` and ``end``.
        adata, indices
            Cells or BED files, as in `get_latent_representation`.
        proximal
            Regions this near to a TSS, in base pairs, define the promoters' centroid.
        max_tokens, seed
            Context, as in `get_latent_representation`.

        Returns
        -------
        Spearman's correlation for each cell, shape (cells,); NaN where a cell has no promoter or
        fewer than three regions.

        Raises
        ------
        RuntimeError
            If the model is not trained.

        References
        ----------
        LeRoy et al., bioRxiv 2025.11.03.685753 (2025).

        Examples
        --------
        >>> tss = model.universe.regions.iloc[::5]
        >>> model.tss_score(tss, proximal=500).shape
        (60,)
        """
        from atacvi.metrics import tss_score

        self._require_training()  # type: ignore[attr-defined]
        distance = self._tss_distance(tss)
        tokens, cells = self._tokens_of(adata, indices)  # type: ignore[attr-defined]
        unique, inverse = np.unique(cells, return_inverse=True)
        scores = np.full(tokens.shape[0], np.nan)
        for part in self._encoded(tokens, unique, max_tokens=max_tokens, seed=seed):  # type: ignore[attr-defined]
            borders = part.tokens.offsets.cpu().numpy()
            hidden = part.hidden.float().cpu().numpy()
            ids = part.tokens.ids.cpu().numpy()
            for cell, start, end in zip(part.cells, borders[:-1], borders[1:], strict=True):
                far, vectors = distance[ids[start:end]], hidden[start:end]
                near = far <= proximal
                if (
                    not near.any()
                    or np.isfinite(far).sum() < 3
                    or np.ptp(far[np.isfinite(far)]) == 0
                ):
                    continue
                to_centre = np.linalg.norm(vectors - vectors[near].mean(axis=0), axis=1)
                scores[cell] = tss_score(to_centre, far) if np.ptp(to_centre) > 0 else np.nan
        return scores[unique][inverse]

    # ---- pieces ---------------------------------------------------------------------------

    def _tss_distance(self, tss: pd.DataFrame | Any) -> np.ndarray:
        """Return the distance of each region of the universe to a TSS; NaN on other chromosomes."""
        from atacvi.regions import match_chromosome_names

        regions = self.universe.regions
        sites = match_chromosome_names(parse_regions(tss), regions)
        distance = nearest(regions, sites)[1].astype(np.float64)
        distance[distance < 0] = np.nan
        return distance

    def _groups(
        self, adata: AnnData | None, groupby: str | None, n_cells: int
    ) -> tuple[np.ndarray, list[str]]:
        if groupby is None:
            return np.zeros(n_cells, dtype=np.int64), [_ALL]
        from atacvi.data import check_key

        data = self.adata if adata is None else adata  # type: ignore[attr-defined]
        column = check_key(data, "obs", groupby, "adata", argument="groupby").astype("category")
        return column.cat.codes.to_numpy(dtype=np.int64), [str(c) for c in column.cat.categories]

    def _mean_contexts(
        self,
        tokens: Any,
        cells: np.ndarray,
        groups: np.ndarray,
        n_groups: int,
        center: str | None,
        options: dict[str, Any],
    ) -> np.ndarray:
        """Return the mean last-layer vector of each region in each group; NaN where it is closed."""
        device, width = self.module.device, self.module.config.hidden_size
        n_active = self.module.embeddings.n_active
        total = torch.zeros(n_groups * n_active, width, device=device)
        seen = torch.zeros(n_groups * n_active, device=device)
        wanted = cells[groups[cells] >= 0]
        for part in self._encoded(tokens, wanted, **options):  # type: ignore[attr-defined]
            hidden = part.hidden.float()
            cell_of = part.tokens.cell_index
            if center == "cell":
                mean = self.module.pool(hidden, part.tokens, torch.ones(len(hidden), device=device))
                hidden = hidden - mean[cell_of]
            group = torch.as_tensor(groups[part.cells], device=device)[cell_of]
            row = group * n_active + self.module.embeddings.rows(part.tokens.ids)
            total.index_add_(0, row, hidden)
            seen.index_add_(0, row, torch.ones_like(row, dtype=seen.dtype))
        mean = total / seen.clamp(min=1).unsqueeze(1)
        mean[seen == 0] = torch.nan
        return mean.cpu().numpy().reshape(n_groups, n_active, width)

    def _as_regions(
        self,
        active: np.ndarray,
        means: np.ndarray,
        n_open: np.ndarray,
        n_group: np.ndarray,
        names: list[str],
        min_cells: int,
    ) -> AnnData:
        import anndata

        regions = self.universe.regions.iloc[active].reset_index(drop=True)
        labels = np.asarray(format_regions(regions), dtype=object)
        blocks, vectors = [], []
        for group, name in enumerate(names):
            # a region that the sampling of long cells never drew has no vector
            kept = np.flatnonzero(
                (n_open[group] >= min_cells) & np.isfinite(means[group]).all(axis=1)
            )
            table = regions.iloc[kept].copy()
            table["n_cells"] = n_open[group][kept]
            table["frequency"] = n_open[group][kept] / max(int(n_group[group]), 1)
            table["group"] = name
            suffix = "" if names == [_ALL] else f"|{name}"
            table.index = pd.Index([f"{label}{suffix}" for label in labels[kept]], dtype=object)
            blocks.append(table)
            vectors.append(means[group][kept])
        obs = pd.concat(blocks)
        obs["group"] = obs["group"].astype("category")
        return anndata.AnnData(np.concatenate(vectors).astype(np.float32), obs=obs)
