"""What held-out cells decide after the training of MultiViewModel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.models._probe import cells_at_once, probe_cells
from atacvi.models._seed import session_seed
from atacvi.models._streaming import StreamingMixin
from atacvi.training import (
    SHOWN_FRACTION,
    EmbeddedCells,
    at_most,
    calibrate_effects,
    choose_weights,
)

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget
    from atacvi.modules._minibatch import PairedBatch

# Neighbours are sought among so many training cells for so many other cells, by so many features a
# modality: more take time and memory, and the choice is among a few weights.
_MAX_REFERENCE, _MAX_QUERIES, _MAX_FEATURES = 10_000, 1_000, 16_384
# Splits of the counts of a cell in what the encoder sees and what it does not.
_N_SPLITS = 8


class HeldOutCalibrationMixin(StreamingMixin):
    """Scale of the effects of z, and weights of its directions, by cells held out."""

    module: Any
    adata_manager: Any
    train_indices: Any
    validation_indices: Any

    def _forget_calibration(self) -> None:
        """Take back what was chosen for the weights before the training that begins."""
        for name in ("effect_scale_", "latent_units_", "latent_exponent_"):
            vars(self).pop(name, None)
        self.module.latent_weights.copy_(torch.eye(self.module.n_latent))

    def _calibrate(self) -> None:
        """Choose by the validation cells, where there are some, and note it."""
        if len(self.validation_indices):
            self._calibrate_effects()
            self._weigh_latent()

    def _calibrate_effects(self) -> None:
        """Shrink the effects of the latent as far as held-out counts ask for."""
        rng, n_peaks = np.random.default_rng(session_seed()), self.module.n_peaks
        cells = probe_cells(np.sort(np.asarray(self.validation_indices)), n_peaks, rng)
        batches = self._minibatches(self.adata, cells, cells_at_once(n_peaks))  # type: ignore[attr-defined]
        held_out = (tensors for _, tensors in batches)
        self.effect_scale_ = calibrate_effects(self.module, held_out, session_seed())

    def _weigh_latent(self) -> None:
        """Weigh the directions of the latent so that neighbours know most of held-out counts."""
        module, rng = self.module, np.random.default_rng(session_seed())
        features = {
            name: torch.as_tensor(at_most(np.arange(n), _MAX_FEATURES, rng), device=module.device)
            for name, n in (("rna", module.n_genes), ("atac", module.n_peaks))
        }
        asked, others = self._split_for_neighbours(rng)
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(session_seed())
            reference = self._embed(others, features)
            splits = [self._embed(asked, features, SHOWN_FRACTION) for _ in range(_N_SPLITS)]
        self.latent_units_, self.latent_exponent_, weights = choose_weights(reference, splits)
        module.latent_weights.copy_(torch.as_tensor(weights))

    def _split_for_neighbours(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return cells whose neighbours are sought, and those among which they are.

        Validation cells come first. A few hundred of them cannot decide, so training cells, of
        which the encoder sees but a part of the counts here, make up the number.
        """
        train = np.sort(np.asarray(self.train_indices))
        asked = at_most(np.sort(np.asarray(self.validation_indices)), _MAX_QUERIES, rng)
        wanted = min(_MAX_QUERIES, len(train) // 2) - len(asked)
        if wanted > 0:
            more = at_most(train, wanted, rng)
            asked, train = np.sort(np.concatenate([asked, more])), np.setdiff1d(train, more)
        return asked, at_most(train, _MAX_REFERENCE, rng)

    @torch.inference_mode()
    def _embed(
        self, cells: np.ndarray, features: dict[str, torch.Tensor], seen: float = 1.0
    ) -> EmbeddedCells:
        """Embed cells by a random part of their counts, with the features of the other part.

        Without a split (`seen` of 1) those of all counts.
        """
        import scipy.sparse as sp

        latent: list[np.ndarray] = []
        tokens: dict[str, list[sp.csr_matrix]] = {name: [] for name in features}
        for _, tensors in self._minibatches(self.adata, cells, None):  # type: ignore[attr-defined]
            shown: PairedBatch = self.module.read_batch(tensors)
            other = shown
            if seen < 1:
                shown, other = self.module.split_batch(shown, seen)
            latent.append(self.module.inference(shown)["posterior"].mean.cpu().numpy())
            for name, columns in features.items():
                tokens[name].append(_tokens(getattr(other, name).select_features(columns)))
        stacked = {name: sp.vstack(parts, format="csr") for name, parts in tokens.items()}
        return EmbeddedCells(np.concatenate(latent), stacked)


def _tokens(counts: SparseTarget) -> Any:
    """Return which features are not zero, CSR of one byte an entry."""
    import scipy.sparse as sp

    rows, cols = counts.rows.cpu().numpy(), counts.cols.cpu().numpy()
    entries = (np.ones(len(rows), dtype=bool), (rows, cols))
    return sp.coo_matrix(entries, shape=counts.shape).tocsr()
