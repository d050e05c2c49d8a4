"""What pretraining and fine-tuning of AtacformerModel share: start, centre, probe, selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from atacvi.models._seed import session_seed
from atacvi.models._token_fit import TokenFitMixin
from atacvi.training import (
    SelectBest,
    TokenCorruption,
    checkpoint_path,
    read_checkpoint,
    set_pooling_weights,
    start_atacformer,
    start_classification_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp

Negatives = Literal["uniform", "unigram", "batch", "local"]

_N_CENTRE = 10_000
_N_PROBE = 2_000
# Cells of the regression that the classification head starts from.
_N_HEAD = 20_000


class AtacformerFitMixin(TokenFitMixin):
    """What comes before and after a training."""

    latent_centre_: np.ndarray | None
    universe: Any

    def _prepare(
        self,
        start: str,
        checkpoint_dir: str | None,
        *,
        resume: bool,
        kind: str,
        trainer_kwargs: dict[str, Any],
        datasplitter_kwargs: dict[str, Any] | None,
        **split_kwargs: Any,
    ) -> tuple[sp.csr_matrix, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return tokens and split, and give a new model its starting values."""
        if start not in ("spectral", "random"):
            msg = f"start={start!r} is unknown; choose 'spectral' or 'random'."
            raise ValueError(msg)
        if resume and checkpoint_dir is None:
            msg = "resume=True needs the `checkpoint_dir` of the run that was stopped."
            raise ValueError(msg)
        self._require_data()  # type: ignore[attr-defined]
        tokens, _ = self._tokens_of(None)  # type: ignore[attr-defined]
        noted = read_checkpoint(checkpoint_dir) if resume and checkpoint_dir else None
        if noted is not None:
            if noted.get("kind") != kind:
                msg = (
                    f"{checkpoint_dir} holds a checkpoint of {noted.get('kind', 'another model')}, "
                    f"not of {kind}; give another `checkpoint_dir`."
                )
                raise ValueError(msg)
            split = tuple(part.numpy() for part in noted["split"])
            trainer_kwargs["ckpt_path"] = str(checkpoint_path(str(checkpoint_dir)))
        else:
            split = self._split(**split_kwargs, **(datasplitter_kwargs or {}))
        if not np.diff(tokens.indptr)[split[0]].any():
            msg = f"None of the {len(split[0])} training cells holds a token that the model embeds."
            raise ValueError(msg)
        if not self.started_:
            training = tokens[split[0]]
            if start == "spectral":
                start_atacformer(self.module, training, session_seed())
            else:
                set_pooling_weights(self.module, training[:, self.module.active_ids.cpu().numpy()])
            self.started_ = True
        return tokens, split  # type: ignore[return-value]

    def _corruption(
        self, training: sp.csr_matrix, p: float, negatives: Negatives, **options: Any
    ) -> TokenCorruption:
        """Return what replaces tokens, by the frequencies of training cells."""
        regions = self.universe.regions if negatives == "local" else None
        return TokenCorruption(training, p, negatives, regions=regions, **options)

    def _set_centre(self, tokens: sp.csr_matrix, cells: np.ndarray) -> None:
        """Set the mean embedding of the training cells."""
        chosen = cells[np.diff(tokens.indptr)[cells] > 0]
        if len(chosen) > _N_CENTRE:
            chosen = np.random.default_rng(session_seed()).choice(chosen, _N_CENTRE, replace=False)
        latent = self._embed(tokens, np.sort(chosen), max_tokens=2048, normalize=False)  # type: ignore[attr-defined]
        self.latent_centre_ = latent.mean(axis=0)

    def _start_head(
        self, tokens: sp.csr_matrix, split: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> None:
        """Let the classification head start from a regression on the embedding."""
        codes = self._labels()  # type: ignore[attr-defined]
        filled = np.diff(tokens.indptr) > 0
        rng = np.random.default_rng(session_seed())
        parts = []
        for cells in split[:2]:
            usable = np.sort(cells[filled[cells] & (codes[cells] >= 0)])
            if len(usable) > _N_HEAD:
                usable = np.sort(rng.choice(usable, _N_HEAD, replace=False))
            latent = self._embed(tokens, usable, max_tokens=2048, normalize=False)  # type: ignore[attr-defined]
            parts.append((latent - self.latent_centre_, codes[usable]))
        start_classification_head(self.module.classification_head, *parts)

    def _probe(self, key: str, tokens: sp.csr_matrix) -> Callable[[], dict[str, float]]:
        """Return the function that scores the embedding against known groups."""
        from atacvi.data import check_key
        from atacvi.metrics import kmeans_ari_nmi, knn_accuracy

        groups = check_key(self.adata, "obs", key, "adata", argument="probe_key").astype(str)
        usable = np.flatnonzero(np.diff(tokens.indptr) > 0)
        rng = np.random.default_rng(session_seed())
        if len(usable) > _N_PROBE:
            usable = np.sort(rng.choice(usable, _N_PROBE, replace=False))
        labels = groups.to_numpy()[usable]

        def probe() -> dict[str, float]:
            latent = self._embed(tokens, usable, max_tokens=2048, normalize=True)  # type: ignore[attr-defined]
            return {
                "knn_accuracy": knn_accuracy(latent, labels),
                "kmeans_ari": kmeans_ari_nmi(latent, labels, n_runs=1, n_init=1)["kmeans_ari"],
            }

        return probe


def default_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 10 to 100."""
    return int(np.clip(round(20 * 10_000 / max(1, n_cells)), 10, 100))


def make_selection(
    max_epochs: int,
    patience: int | None,
    probe: Callable[[], dict[str, float]] | None = None,
    probe_every: int = 1,
    *,
    watch: bool,
) -> SelectBest | None:
    """Return what keeps the best epoch by the probe or the held-out score, ``None`` unwatched."""
    patience = patience or max(5, max_epochs // 4)
    select = SelectBest("score_validation", probe, every=probe_every, patience=patience)
    return select if watch else None
