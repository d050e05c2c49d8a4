"""Whether cells generated for a type are of that type, and can stand for it in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atacvi.metrics._generation_checks import check_cell_labels, check_spaces

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class TrainingAccuracy(NamedTuple):
    """Accuracy on real test cells of classifiers that learned from two sources.

    Attributes
    ----------
    synthetic
        Learned from generated cells.
    real
        Learned from real training cells.

    Examples
    --------
    >>> from atacvi.metrics import TrainingAccuracy
    >>> accuracy = TrainingAccuracy(synthetic=0.8, real=0.9)
    >>> round(accuracy.synthetic / accuracy.real, 2)
    0.89
    """

    synthetic: float
    real: float


def label_recovery(
    train: ArrayLike,
    train_labels: ArrayLike,
    generated: ArrayLike,
    generated_labels: ArrayLike,
) -> float:
    """Share of generated cells that a classifier of real cells gives the type they were made for.

    The classifier is multinomial logistic regression on standardised coordinates. Held-out real
    cells in place of `generated` show what can be reached; a generator that beats them draws
    cells purer than real ones.

    Parameters
    ----------
    train, generated
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``.
    train_labels, generated_labels
        Type of each cell; of a generated cell the type that was asked for.

    Returns
    -------
    Accuracy, 0 to 1.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, labels do not fit, or there is one type only.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import label_recovery
    >>> labels = np.repeat(["a", "b"], 20)
    >>> cells = (labels == "a")[:, None] * 9 + np.arange(40)[:, None] % 3
    >>> label_recovery(cells, labels, cells, labels), label_recovery(cells, labels, -cells, labels)
    (1.0, 0.5)
    """
    known, drawn = check_spaces(train, generated)
    types = check_cell_labels(train_labels, known.shape[0], "train_labels")
    asked = check_cell_labels(generated_labels, drawn.shape[0], "generated_labels")
    return float((_classifier(known, types).predict(drawn) == asked).mean())


def synthetic_training_accuracy(
    generated: ArrayLike,
    generated_labels: ArrayLike,
    real_test: ArrayLike,
    test_labels: ArrayLike,
    real_train: ArrayLike,
    train_labels: ArrayLike,
) -> TrainingAccuracy:
    """Train on synthetic, test on real; beside it, train on real, test on real.

    The classifier is that of :func:`label_recovery`. Fewer generated than training cells lower
    the first number; generate as many to compare the two strictly.

    Parameters
    ----------
    generated, real_test, real_train
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``.
    generated_labels, test_labels, train_labels
        Type of each of these cells.

    Returns
    -------
    Both accuracies on the real test cells, 0 to 1.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, labels do not fit, or there is one type only.

    References
    ----------
    Esteban et al., "Real-valued (medical) time series generation with recurrent conditional GANs",
    arXiv:1706.02633 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import synthetic_training_accuracy
    >>> labels = np.repeat(["a", "b"], 20)
    >>> cells = (labels == "a")[:, None] * 9 + np.arange(40)[:, None] % 3
    >>> synthetic_training_accuracy(9 - cells, labels, cells, labels, cells, labels)
    TrainingAccuracy(synthetic=0.0, real=1.0)
    """
    drawn, test, train = check_spaces(generated, real_test, real_train)
    drawn_types = check_cell_labels(generated_labels, drawn.shape[0], "generated_labels")
    test_types = check_cell_labels(test_labels, test.shape[0], "test_labels")
    train_types = check_cell_labels(train_labels, train.shape[0], "train_labels")
    right = [
        float((_classifier(cells, types).predict(test) == test_types).mean())
        for cells, types in ((drawn, drawn_types), (train, train_types))
    ]
    return TrainingAccuracy(*right)


def _classifier(cells: NDArray[np.float64], types: NDArray[np.str_]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if np.unique(types).size < 2:
        msg = f"All cells to learn from are of type {str(types[0])!r}; at least 2 types are needed."
        raise ValueError(msg)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(cells, types)
