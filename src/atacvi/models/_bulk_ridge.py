"""A linear classifier of few samples in closed form, with a held-out choice of its penalty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from atacvi.models._token_embedding import directions

# Penalties that are tried, for vectors of unit length, and temperatures of the probabilities.
_PENALTIES = np.logspace(-2, 1, 13)
_TEMPERATURES = np.logspace(-2, 0.5, 26)


class RidgeClassifier(NamedTuple):
    """Ridge regression of classes on the directions of centred embeddings.

    Parameters
    ----------
    classes
        Names of the classes.
    mean
        Of the embeddings, shape (width,).
    weight, offset
        Shapes (classes, width) and (classes,); a softmax of what they give are the probabilities.
    """

    classes: np.ndarray
    mean: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    def probabilities(self, embedding: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (samples, classes)."""
        return _softmax(directions(embedding, self.mean) @ self.weight.T + self.offset)


def fit_ridge_classifier(
    embedding: np.ndarray, labels: np.ndarray, penalty: float | None = None
) -> RidgeClassifier:
    r"""Fit a ridge regression of one-hot classes, which leave-one-out residuals choose.

    With :math:`G = (X X^\top + 1 + \lambda I)^{-1}` the residual of a sample that takes no part in
    the fit is :math:`(G Y)_i / G_{ii}` (Allen's PRESS), so that each penalty costs one fit. The
    penalty of the least squared residuals is taken, and the temperature of the most likely held-out
    classes; both over samples whose class has others.

    Parameters
    ----------
    embedding
        Shape (samples, width).
    labels
        Class of each sample, shape (samples,).
    penalty
        :math:`\lambda`; ``None`` chooses it.

    References
    ----------
    Allen, "The relationship between variable selection and data augmentation and a method for
    prediction", Technometrics 16:125 (1974). Rifkin & Klautau, "In defense of one-vs-all
    classification", JMLR 5:101 (2004).
    """
    classes, codes = np.unique(labels, return_inverse=True)
    mean = embedding.mean(axis=0)
    vectors = directions(embedding, mean)
    target = (codes[:, None] == np.arange(len(classes))).astype(np.float64)
    values, basis = np.linalg.eigh(vectors @ vectors.T + 1.0)  # the constant stands for an offset
    # the class of a single sample is unknown where this sample is left out
    known = np.bincount(codes)[codes] > 1
    scored = known if known.any() else np.ones(len(codes), dtype=bool)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for found in _PENALTIES if penalty is None else (penalty,):
        inverse = (basis / (np.maximum(values, 0.0) + found)) @ basis.T
        dual = inverse @ target
        residual = dual / np.diag(inverse)[:, None]
        loss = float((residual[scored] ** 2).sum())
        if best is None or loss < best[0]:
            best = (loss, dual, target - residual)
    assert best is not None
    _, dual, held_out = best
    temperature = 1.0
    if known.any():
        likelihood = [
            np.log(_softmax(held_out[known] / t)[np.arange(known.sum()), codes[known]] + 1e-12)
            for t in _TEMPERATURES
        ]
        temperature = float(_TEMPERATURES[np.argmax([x.mean() for x in likelihood])])
    return RidgeClassifier(
        classes.astype(object), mean, (vectors.T @ dual).T / temperature, dual.sum(0) / temperature
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
