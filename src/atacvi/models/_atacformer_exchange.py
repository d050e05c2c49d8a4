"""Checkpoints of the public layout, and other universes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.models._atacformer_setup import UNIVERSE_ENTRY, registry_without_data
from atacvi.modules._atacformer_checkpoint import (
    AtacformerCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from atacvi.regions import Universe, overlap

if TYPE_CHECKING:
    from typing import Self

    from atacvi.modules import AtacformerModule

# Fields of config.json in which the space of the normalised latent and the labels are kept
_CENTRE, _LABELS = "atacvi_latent_centre", "atacvi_labels"
_MIN_SHARE = 0.05


class ExchangeMixin:
    """`save_pretrained`, `from_pretrained`, `map_to_universe`."""

    module: AtacformerModule
    universe: Universe
    latent_centre_: np.ndarray | None
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
        """
        self._require_training()  # type: ignore[attr-defined]
        extra = self.module.config.extra
        before = dict(extra)
        if self.latent_centre_ is not None:
            extra[_CENTRE] = [float(v) for v in self.latent_centre_]
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
        """
        folder = resolve_source(source, revision)
        known = Universe.from_folder(folder) if universe is None else universe
        return cls(universe=known, pretrained=folder)  # type: ignore[call-arg]

    def map_to_universe(self, universe: Universe, min_share: float = _MIN_SHARE) -> Self:
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
        """
        self._require_training()  # type: ignore[attr-defined]
        mapping = overlap_weights(self._embedded_universe(), universe, min_share)
        mapped = np.flatnonzero(np.diff(mapping.indptr) > 0)
        registry = registry_without_data(type(self), universe)
        registry[UNIVERSE_ENTRY]["active_ids"] = mapped
        config = self.module.config.for_universe(len(universe)).to_dict()
        other = type(self)(registry=registry, config=config)  # type: ignore[call-arg]
        other._take_over(AtacformerCheckpoint(self.module, self._embedded_universe()))
        other.latent_centre_ = self.latent_centre_
        return other

    def _embedded_universe(self) -> Universe:
        """Return the regions that have an embedding, in the order of its rows."""
        if self.module.has_full_vocabulary:
            return self.universe
        return Universe(self.universe.regions.iloc[self.module.active_ids.cpu().numpy()])

    @torch.no_grad()
    def _take_over(self, source: AtacformerCheckpoint) -> None:
        """Copy the weights of a checkpoint; embeddings go by region, or by overlap."""
        target, given = self.module, source.module
        state = {
            name: value
            for name, value in given.state_dict().items()
            if not name.startswith(("embeddings.", "idf"))
        }
        own = target.state_dict()
        fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        target.load_state_dict(fitting, strict=False)
        weights = _region_weights(source, self._embedded_universe())
        table, given_table = (
            module.embeddings.token_embeddings.weight for module in (target, given)
        )
        n_own, n_given = target.embeddings.n_active, given.embeddings.n_active
        table[:n_own] = _mix(given_table[:n_given], weights, table[:n_own])
        table[n_own:] = given_table[n_given:].to(table)
        if target.config.pooling == "idf":
            target.idf[:n_own] = _mix(
                given.idf[:n_given, None], weights, target.idf[:n_own, None]
            ).squeeze(1)
            target.idf[n_own:] = 0.0
        centre = given.config.extra.get(_CENTRE)
        if centre is not None:
            self.latent_centre_ = np.asarray(centre, dtype=np.float32)
        self.started_ = self.is_trained_ = True


def read_pretrained(
    source: str | Path, universe: Universe, active_ids: torch.Tensor | None
) -> AtacformerCheckpoint:
    """Read a checkpoint, of its embeddings only those that are needed where universes agree."""
    folder = resolve_source(source, None)
    found = Universe.from_folder(folder)
    if found == universe:
        checkpoint = read_checkpoint(folder, active_ids=active_ids)
        if active_ids is None:
            return checkpoint
        kept = Universe(found.regions.iloc[active_ids.numpy()])
        return AtacformerCheckpoint(checkpoint.module, kept)
    return read_checkpoint(folder)


def resolve_source(source: str | Path, revision: str | None) -> Path:
    """Return the folder of a checkpoint, which is downloaded if `source` is no folder.

    Raises
    ------
    FileNotFoundError
        If `source` is neither a folder nor the name of a repository.
    ImportError
        If the hub is needed and its library is missing.
    """
    path = Path(source)
    if path.is_dir():
        return path
    parts = str(source).split("/")
    if isinstance(source, Path) or len(parts) != 2 or not all(parts) or str(source)[0] in "./~":
        msg = (
            f"{source} is no folder; give the folder of a checkpoint, or the name of a repository "
            "of the Hugging Face hub, such as 'databio/atacformer-base-hg38'."
        )
        raise FileNotFoundError(msg)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        msg = (
            f"{source!r} is no folder here, and loading it from the Hugging Face hub needs "
            "huggingface_hub: pip install 'atacvi[hub]'"
        )
        raise ImportError(msg) from error
    wanted = ["config.json", "model.safetensors", "universe.bed.gz"]
    return Path(snapshot_download(str(source), revision=revision, allow_patterns=wanted))


def overlap_weights(given: Universe, wanted: Universe, min_share: float = _MIN_SHARE) -> Any:
    """Return the share of each given region in each wanted one, CSR of shape (wanted, given).

    Raises
    ------
    ValueError
        If fewer than `min_share` of the wanted regions overlap a given one.
    """
    import scipy.sparse as sp

    one, two, length = overlap(wanted.regions, given.regions)
    weights = sp.csr_matrix(
        (length.astype(np.float64), (one, two)), shape=(len(wanted), len(given))
    )
    total = np.asarray(weights.sum(axis=1)).ravel()
    share = float((total > 0).mean())
    if share < min_share:
        msg = (
            f"{share:.1%} of the {len(wanted)} regions overlap one that the model embeds; at least "
            f"{min_share:.0%} must. Are they of another genome build?"
        )
        raise ValueError(msg)
    return sp.csr_matrix(sp.diags(1.0 / np.maximum(total, 1.0)) @ weights)


def _region_weights(source: AtacformerCheckpoint, wanted: Universe) -> Any:
    """Return the overlap of the wanted regions with the given ones, or ``None`` if they agree."""
    if source.universe == wanted:
        return None
    given = source.universe
    n_given = source.module.embeddings.n_active
    if len(given) != n_given:  # the module embeds part of it
        given = Universe(given.regions.iloc[source.module.active_ids.cpu().numpy()])
    return overlap_weights(given, wanted)


def _mix(given: torch.Tensor, weights: Any, own: torch.Tensor) -> torch.Tensor:
    """Return given rows, mixed by overlap where the universes differ; own ones where there is none."""
    if weights is None:
        return given.to(own)
    mixed = torch.as_tensor(weights @ given.cpu().double().numpy()).to(own)
    found = torch.as_tensor(np.diff(weights.indptr) > 0, device=own.device)[:, None]
    return torch.where(found, mixed, own)
