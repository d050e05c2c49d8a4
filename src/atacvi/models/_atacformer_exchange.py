"""Checkpoints of the public layout, and other universes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atacvi.models._atacformer_setup import registry_without_data
from atacvi.models._token_weights import (
    MIN_SHARE,
    embedded_universe,
    overlap_weights,
    resolve_source,
    take_over_weights,
)
from atacvi.models._tokens import UNIVERSE_ENTRY
from atacvi.modules._atacformer_checkpoint import AtacformerCheckpoint, write_checkpoint
from atacvi.regions import Universe

if TYPE_CHECKING:
    from typing import Self

    from atacvi.modules import AtacformerModule

# Fields of config.json in which the space of the normalised latent and the labels are kept
_CENTRE, _LABELS = "atacvi_latent_centre", "atacvi_labels"
_BATCH_DIRECTIONS = "atacvi_latent_batch_directions"


class ExchangeMixin:
    """`save_pretrained`, `from_pretrained`, `map_to_universe`."""

    module: AtacformerModule
    universe: Universe
    latent_centre_: np.ndarray | None
    latent_batch_directions_: np.ndarray | None
    is_trained_: bool
    started_: bool
    registry_: dict[str, Any]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``universe.bed.gz``.

        A model that embeds only part of its universe is written with the universe of that part.

        Parameters
        ----------
        folder
            Folder; made if needed. Files of an earlier checkpoint in it are replaced.

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> from pathlib import Path
        >>> model.save_pretrained("checkpoint")
        >>> sorted(file.name for file in Path("checkpoint").iterdir())
        ['config.json', 'model.safetensors', 'universe.bed.gz']
        """
        self._require_training()  # type: ignore[attr-defined]
        extra = self.module.config.extra
        before = dict(extra)
        if self.latent_centre_ is not None:
            extra[_CENTRE] = [float(v) for v in self.latent_centre_]
        if self.latent_batch_directions_ is not None:
            extra[_BATCH_DIRECTIONS] = self.latent_batch_directions_.astype(float).tolist()
        if self.module.classification_head is not None:
            extra[_LABELS] = [str(name) for name in self._label_names()]  # type: ignore[attr-defined]
        try:
            write_checkpoint(Path(folder), self.module, self.universe, reduced=True)
        finally:
            extra.clear()
            extra.update(before)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        universe: Universe | None = None,
    ) -> Self:
        """Build a model without data from a checkpoint of the public layout.

        Parameters
        ----------
        source
            Folder, or name of a repository of the Hugging Face hub, such as
            ``"databio/atacformer-base-hg38"``.
        revision
            Revision of the repository.
        universe
            Other regions to map the embeddings onto, see `map_to_universe`.

        Returns
        -------
        Model that embeds any AnnData with tokens or peaks.

        Raises
        ------
        FileNotFoundError
            If files are missing.
        ImportError
            If a repository is named and ``huggingface_hub`` is not installed.
        ValueError
            If weights are missing or the universe does not fit them; random layers are never made up.

        Examples
        --------
        >>> model.save_pretrained("checkpoint")
        >>> again = atacvi.AtacformerModel.from_pretrained("checkpoint")
        >>> again.get_latent_representation(adata[:5].copy()).shape
        (5, 8)
        """
        folder = resolve_source(source, revision)
        known = Universe.from_folder(folder) if universe is None else universe
        return cls(universe=known, pretrained=folder)  # type: ignore[call-arg]

    def map_to_universe(self, universe: Universe, min_share: float = MIN_SHARE) -> Self:
        """Return a model with the same weights for another universe.

        The embedding of a region is the mean of those that it overlaps, weighted by the base pairs
        shared; regions that overlap none are not embedded.

        Parameters
        ----------
        universe
            The other regions, of the same genome build.
        min_share
            Share of its regions that must overlap an embedded one.

        Returns
        -------
        Model without data.

        Raises
        ------
        ValueError
            If fewer regions overlap, as with another genome.

        Examples
        --------
        >>> from atacvi.regions import Universe
        >>> other = model.map_to_universe(Universe(model.universe.regions.iloc[:50]))
        >>> len(other.universe)
        50
        """
        self._require_training()  # type: ignore[attr-defined]
        own = embedded_universe(self.module, self.universe)
        mapping = overlap_weights(own, universe, min_share)
        mapped = np.flatnonzero(np.diff(mapping.indptr) > 0)
        registry = registry_without_data(type(self), universe)
        registry[UNIVERSE_ENTRY]["active_ids"] = mapped
        config = self.module.config.for_universe(len(universe)).to_dict()
        other = type(self)(registry=registry, config=config)  # type: ignore[call-arg]
        other._take_over(AtacformerCheckpoint(self.module, own))
        other.latent_centre_ = self.latent_centre_
        other.latent_batch_directions_ = self.latent_batch_directions_
        return other

    def _take_over(self, source: AtacformerCheckpoint) -> None:
        """Take the weights of a checkpoint, and where the centre of its latent lies."""
        take_over_weights(self.module, self.universe, source)
        extra = source.module.config.extra
        if _CENTRE in extra:
            self.latent_centre_ = np.asarray(extra[_CENTRE], dtype=np.float32)
        if _BATCH_DIRECTIONS in extra:
            self.latent_batch_directions_ = np.asarray(extra[_BATCH_DIRECTIONS], dtype=np.float32)
        self.started_ = self.is_trained_ = True
