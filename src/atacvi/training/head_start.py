"""Start of a classification head: the logistic regression on the embedding as it stands."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

    from atacvi.nn import ClassificationHead

# Inverse strengths of the penalty that are tried, for inputs of unit variance.
_PENALTIES = (0.01, 0.1, 1.0, 10.0)
# By which power of their variance directions are shrunk to one scale: as they are, where those of
# small variance are mostly noise; or half way to equal, where these tell types apart.
_WHITENING = (0.0, 0.5)
# Directions of a smaller share of the largest variance are not enlarged any more.
_LEAST_VARIANCE = 1e-6
_MAX_ITERATIONS = 300


@torch.no_grad()
def start_classification_head(
    head: ClassificationHead,
    training: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
) -> float | None:
    """Set a linear head to the logistic regression of labels on embeddings.

    A head that starts at random sends gradients of no meaning into the encoder and distorts what
    it has learnt; from the regression on, training only has to improve (Kumar et al., Fine-tuning
    can distort pretrained features and underperform out-of-distribution, ICLR 2022). Classes count
    by the root of their size, so that small ones are not lost.

    Parameters
    ----------
    head
        Changed in place; left as it is if it has a hidden layer or there are fewer than two labels.
    training
        Centred embeddings, shape (cells, width), and codes, shape (cells,), -1 for none.
    held_out
        The same of held-out cells, on which the penalty and the scale of the directions are chosen;
        they may be none.

    Returns
    -------
    The penalty's inverse strength, ``None`` if the head was left as it is.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    values, codes = _labelled(*training)
    classes, counts = np.unique(codes, return_counts=True)
    if head.dense is not None or len(classes) < 2:
        return None
    weights = (counts.mean() / counts)[np.searchsorted(classes, codes)] ** 0.5
    test, test_codes = _labelled(*held_out)
    seen = np.isin(test_codes, classes)
    best: tuple[float, float, np.ndarray, LogisticRegression] | None = None
    for power in _WHITENING if seen.any() else _WHITENING[:1]:
        turn = _whitening(values, power)
        for penalty in _PENALTIES if seen.any() else (1.0,):
            fit = LogisticRegression(C=penalty, max_iter=_MAX_ITERATIONS)
            with warnings.catch_warnings():
                # A start need not be the optimum: the training goes on from it.
                warnings.simplefilter("ignore", ConvergenceWarning)
                fit.fit(values @ turn, codes, sample_weight=weights)
            loss = 0.0
            if seen.any():
                probability = fit.predict_proba(test[seen] @ turn)
                loss = float(log_loss(test_codes[seen], probability, labels=classes))
            if best is None or loss < best[0]:
                best = (loss, penalty, turn, fit)
    assert best is not None
    _, penalty, turn, fit = best
    rows, offsets = logistic_rows(fit)
    # A class without training cells stays below those with some.
    head.classifier.weight.zero_()
    head.classifier.bias.fill_(float(offsets.min()) - 5.0)
    index = torch.as_tensor(classes)
    head.classifier.weight[index] = torch.as_tensor(rows @ turn.T).to(head.classifier.weight)
    head.classifier.bias[index] = torch.as_tensor(offsets).to(head.classifier.bias)
    return penalty


def logistic_rows(fit: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (classes, width) and offsets (classes,) whose softmax is the regression.

    For two classes scikit-learn keeps one row, the second class against the first.
    """
    if len(fit.classes_) > 2:
        return fit.coef_, fit.intercept_
    rows = np.vstack([-fit.coef_, fit.coef_]) / 2
    return rows, np.concatenate([-fit.intercept_, fit.intercept_]) / 2


def _whitening(values: np.ndarray, power: float) -> np.ndarray:
    """Return the map onto principal directions, shrunk by a power of their variance.

    Its output has mean variance one, as have the inputs of a penalty of common strength.
    """
    variance, basis = np.linalg.eigh(np.atleast_2d(np.cov(values.T)))
    variance = np.maximum(variance, _LEAST_VARIANCE * max(float(variance.max()), 1e-24))
    scaled = basis * variance ** (-power / 2)
    mean = float((variance ** (1.0 - power)).mean())
    return scaled / max(mean, 1e-24) ** 0.5


def _labelled(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells that have a label."""
    known = codes >= 0
    return values[known].astype(np.float64), codes[known]
