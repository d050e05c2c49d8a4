"""What pretraining and fine-tuning of AtacformerModel share: start, centre, probe, selection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from atacvi.models._seed import session_seed
from atacvi.models._token_embedding import directions
from atacvi.models._token_fit import TokenFitMixin
from atacvi.training import (
    SelectFromStart,
    TokenCorruption,
    TokenDataModule,
    TokenDataset,
    at_most,
    batch_directions,
    checkpoint_path,
    neighbour_gain,
    read_checkpoint,
    set_pooling_weights,
    split_cells,
    start_atacformer,
    start_classification_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from atacvi.training import TokenRows

logger = logging.getLogger(__name__)

Negatives = Literal["uniform", "unigram", "batch", "local"]

_N_CENTRE = 10_000
_N_PROBE = 2_000
_N_QUERIES = 500
# A minibatch: tokens at most, cells at least; and steps of an epoch at least.
_LARGEST_BUDGET = 32_768
_FEWEST_CELLS = 64
_FEWEST_STEPS = 32
# Cells of the regression that the classification head starts from.
_N_HEAD = 20_000


class AtacformerFitMixin(TokenFitMixin):
    """What comes before and after a training."""

    latent_centre_: np.ndarray | None
    latent_batch_directions_: np.ndarray | None
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

    def _data(
        self,
        rows: TokenRows,
        training: Any,
        validation: Any,
        split: tuple[np.ndarray, np.ndarray, np.ndarray],
        *,
        token_budget: int | None,
        columns: dict[str, np.ndarray] | None = None,
        **kwargs: Any,
    ) -> TokenDataModule:
        """Return minibatches of two views of the cells, one for training and one held out."""
        return TokenDataModule(
            TokenDataset(rows, training, columns),
            TokenDataset(rows, validation, columns),
            *split,
            token_budget=token_budget or default_token_budget(rows.lengths[split[0]]),
            seed=session_seed(),
            **kwargs,
        )

    def _corruption(
        self, training: sp.csr_matrix, p: float, negatives: Negatives, **options: Any
    ) -> TokenCorruption:
        """Return what replaces tokens, by the frequencies of training cells."""
        regions = self.universe.regions if negatives == "local" else None
        return TokenCorruption(training, p, negatives, regions=regions, **options)

    def _set_centre(self, tokens: sp.csr_matrix, cells: np.ndarray) -> None:
        """Set the mean embedding of the training cells."""
        chosen = self._filled(tokens, cells, _N_CENTRE, np.random.default_rng(session_seed()))
        latent = self._embed(tokens, chosen, max_tokens=2048, normalize=False)  # type: ignore[attr-defined]
        self.latent_centre_ = _centre(latent, np.diff(tokens.indptr)[chosen])
        self.latent_batch_directions_ = None  # those of another space

    def _set_batch_directions(self, tokens: sp.csr_matrix, cells: np.ndarray) -> None:
        """Set the directions that the latent is freed of, from the training cells."""
        seed = session_seed()
        chosen = self._filled(tokens, cells, _N_CENTRE, np.random.default_rng(seed))
        latent = self._embed(tokens, chosen, max_tokens=2048, normalize=True)  # type: ignore[attr-defined]
        found = batch_directions(latent, self._batches()[chosen], seed)  # type: ignore[attr-defined]
        if len(found) == 0:
            logger.warning("No cluster holds cells of two batches: no direction is taken out.")
        self.latent_batch_directions_ = found if len(found) else None

    @staticmethod
    def _filled(
        tokens: sp.csr_matrix, cells: np.ndarray, n_most: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return cells that hold tokens, at most so many of them, rising."""
        filled = cells[np.diff(tokens.indptr)[cells] > 0]
        return np.sort(at_most(filled, n_most, rng))

    def _labelled_only(
        self, split: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Leave out cells without a label, of which losses of labels see nothing."""
        codes = self._labels()  # type: ignore[attr-defined]
        train, validation, test = (cells[codes[cells] >= 0] for cells in split)
        if not len(train):
            msg = f"None of the {len(split[0])} training cells has a label; there is nothing to learn."
            raise ValueError(msg)
        return train, validation, test

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
            usable = at_most(usable, _N_HEAD, rng)
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
        usable = at_most(usable, _N_PROBE, rng)
        labels = groups.to_numpy()[usable]

        def probe() -> dict[str, float]:
            latent = self._embed(tokens, usable, max_tokens=2048, normalize=True)  # type: ignore[attr-defined]
            return {
                "knn_accuracy": knn_accuracy(latent, labels),
                "kmeans_ari": kmeans_ari_nmi(latent, labels, n_runs=1, n_init=1)["kmeans_ari"],
            }

        return probe

    def _neighbour_probe(
        self, tokens: sp.csr_matrix, split: tuple[np.ndarray, ...]
    ) -> Callable[[], dict[str, float]]:
        """Return the function that scores the embedding by hidden tokens of held-out cells."""
        rng = np.random.default_rng([session_seed(), 5])
        reference = self._filled(tokens, split[0], _N_PROBE, rng)
        queries = self._filled(tokens, split[1], _N_QUERIES, rng)
        picked = tokens[queries]
        halves = split_cells(picked.indices, picked.indptr, rng, min_share=0.5)
        shown, hidden = (
            sp.csr_matrix((np.ones(len(ids), bool), ids, starts), picked.shape)
            for ids, starts in halves
        )

        def probe() -> dict[str, float]:
            known = self._embed(tokens, reference, max_tokens=2048, normalize=False)  # type: ignore[attr-defined]
            asked = self._embed(shown, np.arange(len(queries)), max_tokens=2048, normalize=False)  # type: ignore[attr-defined]
            centre = _centre(known, np.diff(tokens.indptr)[reference])
            one, two = (directions(latent, centre) for latent in (known, asked))
            return {"neighbour_gain": neighbour_gain(one, tokens[reference], two, hidden)}

        return probe


def _centre(latent: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
    """Return the mean over cells, weighted by the root of their tokens.

    It is the origin of the spectral embedding: its components are orthogonal to the trivial one,
    which follows the root of the degree.
    """
    return np.average(latent, axis=0, weights=np.sqrt(n_tokens)).astype(latent.dtype)


def default_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 10 to 100."""
    return int(np.clip(round(20 * 10_000 / max(1, n_cells)), 10, 100))


def default_token_budget(n_tokens: np.ndarray) -> int:
    """Return the tokens of a minibatch that give small data steps enough.

    An epoch has 32 steps or more, as long as a minibatch holds 64 average cells, among which the
    parts of a cell are to be found.

    Parameters
    ----------
    n_tokens
        Tokens of each training cell, shape (cells,).
    """
    total = float(n_tokens.sum())
    smallest = _FEWEST_CELLS * total / max(1, len(n_tokens))
    return int(np.clip(max(total / _FEWEST_STEPS, smallest), 1, _LARGEST_BUDGET))


def start_rates(start: str) -> dict[str, float]:
    """Return the arguments of a plan by which layers that start at random learn as fast as heads."""
    return {"encoder_lr_factor": 1.0} if start == "random" else {}


def make_selection(
    max_epochs: int,
    patience: int | None,
    probe: Callable[[], dict[str, float]] | None = None,
    probe_every: int = 1,
    *,
    watch: bool,
) -> SelectFromStart | None:
    """Return what keeps the best epoch by the probe or the held-out score, ``None`` unwatched."""
    patience = patience or max(5, max_epochs // 10)
    select = SelectFromStart("score_validation", probe, every=probe_every, patience=patience)
    return select if watch else None
