"""Generation of cells by ATACDiffModel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from atacvi._constants import BATCH_KEY, LABELS_KEY
from atacvi.diffusion import cell_generators, draw_noise
from atacvi.models._streaming import StreamingMixin
from atacvi.modules import CellConditions, SamplerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData

Output = Literal["counts", "binary", "probabilities", "latent"]
_OUTPUTS = ("counts", "binary", "probabilities", "latent")


class GenerationMixin(StreamingMixin):
    """Cells drawn from the model."""

    @torch.inference_mode()
    def generate(
        self,
        n: int | None = None,
        *,
        labels: Sequence[str] | str | None = None,
        latent: np.ndarray | None = None,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        batch: str | Sequence[str] | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        n_steps: int | None = None,
        eta: float = 0.0,
        library_size: Literal["sample", "observed"] | float | Sequence[float] = "sample",
        output: Output = "counts",
        batch_size: int = 128,
        seed: int = 0,
    ) -> AnnData:
        """Draw cells: z from its prior, h by reverse diffusion, peaks from the likelihood.

        Parameters
        ----------
        n
            Number of cells. Without `labels`, `latent` and `adata` they come as the training cells
            do: of each label, where there are labels, in its proportion.
        labels
            Label of each cell, or one for all `n`.
        latent
            Semantic latents z, shape (n, n_latent), such as `sample_prior` or
            `get_latent_representation` give.
        adata, indices
            Cells whose z, label, batch and depth the new ones take, in their order.
        batch
            Batch of each cell, or one for all: z, too, is that of cells in it. ``None`` draws batches
            as they go with z in training.
        guidance_scale
            1 draws from the conditional distribution; above 1 exaggerates the condition; 0 ignores
            it. ``None`` takes, for labels given or drawn, the scale that training found to make
            their cells as well told by their label as real ones (``module.label_guidance``, 1 to
            1.5), and 1 for cells from `latent` or `adata`.
        sampler, n_steps, eta
            Sampler, see `atacvi.diffusion`; ``None`` takes the default of the process.
        library_size
            ``"sample"`` draws it with z, ``"observed"`` takes that of `adata`; or numbers.
        output
            ``"counts"``, or ``"binary"`` for open and closed, drawn from the likelihood;
            ``"probabilities"`` of being open, dense; ``"latent"``, without peaks.
        batch_size
            Cells per minibatch.
        seed
            Seed. A cell is the same however the cells are cut into minibatches.

        Returns
        -------
        AnnData of shape (n, peaks), ``X`` sparse; ``obsm["X_latent"]`` and ``obsm["X_ae"]`` hold z
        and h, ``obs`` label, batch and library size, given or drawn. With ``output="latent"`` it
        has no features.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If arguments contradict each other, or hold what the model was not trained with.

        Examples
        --------
        >>> import atacvi
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=120, n_genes=30, n_peaks=200)
        >>> adata = mdata["atac"].copy()
        >>> atacvi.ATACDiffModel.setup_anndata(adata, labels_key="cell_type")
        >>> model = atacvi.ATACDiffModel(adata, n_latent=5, n_latent_ae=8)
        >>> model.train(max_epochs=1, enable_progress_bar=False)
        >>> model.generate(5, labels=adata.obs["cell_type"].iloc[0], seed=1).shape
        (5, 200)
        """
        from anndata import AnnData

        self._require_stages("autoencoder", "auxiliary", "diffusion", "prior")  # type: ignore[attr-defined]
        observed = adata is not None or indices is not None
        if guidance_scale is None:
            of_labels = labels is not None or not (observed or latent is not None)
            guidance_scale = float(self.module.label_guidance) if of_labels else 1.0  # type: ignore[attr-defined]
        _check_options(output, guidance_scale)
        generator = torch.Generator().manual_seed(seed)
        cells = self._cells_to_draw(n, labels, latent, adata, indices, batch, generator)
        cells = cells._replace(depth=self._depths(library_size, cells, observed))
        options = SamplerOptions(guidance_scale, sampler, n_steps, eta)
        h, stack = self._draw(cells, options, output, batch_size, seed)
        obs = self._describe(cells)
        if stack is None:
            generated = AnnData(obs=obs)
        else:
            names = self.region_names  # type: ignore[attr-defined]
            generated = AnnData(stack, obs=obs, var=pd.DataFrame(index=names.astype(str)))
        generated.obsm["X_latent"] = cells.z.cpu().numpy()
        generated.obsm["X_ae"] = h
        return generated

    @torch.inference_mode()
    def sample_prior(
        self, n: int, labels: Sequence[str] | str | None = None, seed: int = 0
    ) -> np.ndarray:
        """Draw semantic latents from the prior that was fitted to the aggregate posterior.

        Parameters
        ----------
        n
            Number of latents.
        labels
            Label of each, or one for all; ``None`` draws from all.
        seed
            Seed.

        Returns
        -------
        float32 of shape (n, n_latent).

        Raises
        ------
        ValueError
            If a label is unknown.

        Examples
        --------
        >>> kind = adata.obs["cell_type"].iloc[0]
        >>> model.sample_prior(5, labels=kind).shape
        (5, 4)
        """
        self._require_stages("auxiliary", "prior")  # type: ignore[attr-defined]
        codes = self._label_codes(labels, _number(n))
        generator = torch.Generator().manual_seed(seed)
        drawn = self.module.sample_latent_prior(_known(codes, self.module), generator)  # type: ignore[attr-defined]
        return drawn.z.cpu().numpy()

    # ---- which cells ------------------------------------------------------------------------

    def _cells_to_draw(
        self,
        n: int | None,
        labels: Sequence[str] | str | None,
        latent: np.ndarray | None,
        adata: Any,
        indices: Sequence[int] | None,
        batch: str | Sequence[str] | None,
        generator: torch.Generator,
    ) -> CellConditions:
        module = self.module  # type: ignore[attr-defined]
        if adata is not None or indices is not None:
            if labels is not None or latent is not None or n is not None:
                msg = "adata (or indices) already says which cells: leave out n, labels and latent."
                raise ValueError(msg)
            cells = self._of_cells(adata, indices)
            if batch is not None:
                codes = self._batch_codes(batch, len(cells.z))
                cells = cells._replace(batch=codes.to(module.device))
            return cells
        n = _count(n, labels, latent)
        codes = self._label_codes(labels, n)
        cells = module.sample_latent_prior(
            _known(codes, module), generator, self._batch_codes(batch, n)
        )
        if latent is not None:
            z = _checked_latent(latent, n, module.n_latent)
            cells = cells._replace(z=z.to(module.device), label=codes.to(module.device))
        return cells

    def _of_cells(self, adata: Any, indices: Sequence[int] | None) -> CellConditions:
        """Return z, label, batch and depth of given cells."""
        module = self.module  # type: ignore[attr-defined]
        adata, positions = self._cells(adata, indices)
        parts = []
        for _, tensors in self._minibatches(adata, positions, None):
            batch = module.read_batch(tensors)
            mean = module.auxiliary_posterior(batch).mean
            parts.append((mean, batch.label, batch.batch, batch.depth.view(-1)))
        z, label, batches, depth = (torch.cat(values) for values in zip(*parts, strict=True))
        if module.n_labels == 0:
            label = torch.zeros_like(label)
        return CellConditions(z, label, batches, depth)

    def _batch_codes(self, batch: str | Sequence[str] | None, n: int) -> torch.Tensor:
        """Return the code of each batch, -1 without."""
        if batch is None:
            return torch.full((n,), -1)
        named = [batch] * n if isinstance(batch, str) else list(batch)
        if len(named) != n:
            msg = f"batch holds {len(named)} names for {n} cells."
            raise ValueError(msg)
        return torch.as_tensor([self._batch_code(name, "batch") for name in named])

    def _label_codes(self, labels: Sequence[str] | str | None, n: int) -> torch.Tensor:
        """Return the code of each label; that of the null label without."""
        n_labels = self.module.n_labels  # type: ignore[attr-defined]
        if labels is None:
            return torch.full((n,), n_labels, dtype=torch.long)
        if n_labels == 0:
            msg = (
                "labels were given, but the model was trained without: call setup_anndata with "
                "labels_key, and train again."
            )
            raise ValueError(msg)
        known = [str(x) for x in self._label_names()[:n_labels]]
        named = [labels] * n if isinstance(labels, str) else [str(label) for label in labels]
        unknown = sorted(set(named) - set(known))
        if unknown:
            msg = (
                f"labels holds {', '.join(map(repr, unknown[:5]))}, which the model was not "
                f"trained with; it knows {', '.join(map(repr, known))}."
            )
            raise ValueError(msg)
        position = {label: code for code, label in enumerate(known)}
        return torch.as_tensor([position[label] for label in named])

    def _label_names(self) -> np.ndarray:
        state = self.adata_manager.get_state_registry(LABELS_KEY)  # type: ignore[attr-defined]
        return np.asarray(state.categorical_mapping)

    def _depths(self, library_size: Any, cells: CellConditions, observed: bool) -> torch.Tensor:
        """Return the library size of each cell."""
        if isinstance(library_size, str):
            if library_size not in ("sample", "observed"):
                msg = f"library_size={library_size!r}: give 'sample', 'observed' or numbers."
                raise ValueError(msg)
            if library_size == "observed" and not observed:
                msg = "library_size='observed' needs adata, whose library sizes to take."
                raise ValueError(msg)
            return cells.depth
        values = (
            np.broadcast_to(np.asarray(library_size, dtype=float).ravel(), len(cells.z))
            if (np.size(library_size) in (1, len(cells.z)))
            else None
        )
        if values is None or not np.isfinite(values).all() or (values < 1).any():
            found = np.asarray(library_size, dtype=float)
            least = f", the smallest {found.min():g}" if found.size else ""
            msg = (
                f"library_size holds {found.size} value(s){least}; give one, "
                f"or one for each of {len(cells.z)} cells, of at least 1 count."
            )
            raise ValueError(msg)
        return torch.as_tensor(values.copy(), dtype=torch.float, device=cells.z.device)

    # ---- drawing ----------------------------------------------------------------------------

    def _draw(
        self,
        cells: CellConditions,
        options: SamplerOptions,
        output: Output,
        batch_size: int,
        seed: int,
    ) -> tuple[np.ndarray, Any]:
        """Return latents h, and peaks unless only latents are asked for."""
        h = np.empty((len(cells.z), self.module.n_latent_ae), dtype=np.float32)  # type: ignore[attr-defined]
        rows: list[Any] = []
        for where, part in _minibatches(cells, batch_size):
            # Each cell has a generator of its own, so that minibatches do not matter.
            generators = cell_generators(seed, range(where.start, where.stop))
            drawn = self._draw_latents(part, options, generators)
            h[where] = drawn.cpu().numpy()
            if output != "latent":
                rows.append(self._draw_peaks(drawn, part, output, generators))
        if output == "latent":
            return h, None
        return h, np.concatenate(rows) if output == "probabilities" else sp.vstack(rows, "csr")

    @torch.inference_mode()
    def _draw_of_labels(self, codes: np.ndarray, guidance_scale: float, seed: int) -> sp.csr_matrix:
        """Return cells of labels given by their codes, from a prior that is fitted."""
        module = self.module  # type: ignore[attr-defined]
        generator = torch.Generator().manual_seed(seed)
        label = torch.as_tensor(codes, dtype=torch.long)
        cells = module.sample_latent_prior(label, generator)
        return self._draw(cells, SamplerOptions(guidance_scale), "counts", 128, seed)[1]

    def _draw_latents(
        self, cells: CellConditions, options: SamplerOptions, generators: list[torch.Generator]
    ) -> torch.Tensor:
        module = self.module  # type: ignore[attr-defined]
        noise = draw_noise((len(cells.z), module.n_latent_ae), generators, device=module.device)
        return module.sample_latents(
            cells.z, cells.label, cells.batch, cells.depth, noise, options, generators
        )

    def _draw_peaks(
        self, h: torch.Tensor, cells: CellConditions, output: Any, generators: list[torch.Generator]
    ) -> Any:
        """Return peaks of a minibatch: sparse draws, or dense probabilities."""
        module = self.module  # type: ignore[attr-defined]
        vector = module.generated_vectors(h, cells.batch)
        if output == "probabilities":
            rate = module.peak_log_rates(vector).add_(cells.depth.log()[:, None]).exp_()
            opened = rate.neg_().expm1_().neg_()
            if module.likelihood == "zip":
                opened = opened * torch.sigmoid(-module.gate_logits)
            return opened.cpu().numpy()
        drawn = module.draw_accessibility(vector, cells.depth, output, generators)
        values = drawn.values.cpu().numpy().astype(np.int32)
        place = (drawn.rows.cpu().numpy(), drawn.cols.cpu().numpy())
        return sp.csr_matrix((values, place), shape=drawn.shape)

    def _describe(self, cells: CellConditions) -> pd.DataFrame:
        module = self.module  # type: ignore[attr-defined]
        index = pd.Index([f"generated_{i}" for i in range(len(cells.z))])
        obs = pd.DataFrame({"library_size": cells.depth.cpu().numpy()}, index=index)
        if module.n_labels:
            names = self._label_names()
            codes = cells.label.cpu().numpy()
            if (codes < module.n_labels).any():
                obs["label"] = pd.Categorical(names[codes])
        if module.n_batch > 1:
            state = self.adata_manager.get_state_registry(BATCH_KEY)  # type: ignore[attr-defined]
            names = np.asarray(state.categorical_mapping)
            obs["batch"] = pd.Categorical(names[cells.batch.cpu().numpy()])
        return obs


def _check_options(output: str, guidance_scale: float) -> None:
    if output not in _OUTPUTS:
        msg = f"output={output!r} is unknown; choose one of {', '.join(_OUTPUTS)}."
        raise ValueError(msg)
    if not guidance_scale >= 0:
        msg = f"guidance_scale={guidance_scale}; it must be 0 or more (1 is plain conditional)."
        raise ValueError(msg)


def _number(n: int | None) -> int:
    if n is None or n < 1:
        msg = f"n={n}; give the number of cells to draw, at least 1."
        raise ValueError(msg)
    return int(n)


def _count(n: int | None, labels: Any, latent: Any) -> int:
    """Return the number of cells that the arguments agree on."""
    sizes = {} if n is None else {"n": _number(n)}
    if labels is not None and not isinstance(labels, str):
        sizes["labels"] = len(labels)
    if latent is not None:
        sizes["latent"] = len(latent)
    if not sizes:
        msg = "Give the number of cells n, or labels, latent or adata."
        raise ValueError(msg)
    if 0 in sizes.values():
        msg = f"{', '.join(sizes)} of no cell: at least 1 is needed."
        raise ValueError(msg)
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        msg = f"The arguments tell different numbers of cells ({told})."
        raise ValueError(msg)
    return next(iter(sizes.values()))


def _known(codes: torch.Tensor, module: Any) -> torch.Tensor:
    """Return codes with -1 for the null label."""
    return torch.where(codes >= module.n_labels, -1, codes)


def _checked_latent(latent: np.ndarray, n: int, width: int) -> torch.Tensor:
    values = np.asarray(latent, dtype=np.float32)
    if values.shape != (n, width):
        msg = f"latent has shape {values.shape}; this model needs ({n}, {width})."
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "latent holds values that are not finite."
        raise ValueError(msg)
    return torch.as_tensor(values.copy())


def _minibatches(cells: CellConditions, batch_size: int) -> Iterator[tuple[slice, CellConditions]]:
    for start in range(0, len(cells.z), batch_size):
        where = slice(start, min(start + batch_size, len(cells.z)))
        yield where, CellConditions(*(part[where] for part in cells))
