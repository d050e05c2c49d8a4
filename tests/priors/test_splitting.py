"""Splitting clusters to a given number."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from atacvi.priors import split_to_number


def test_a_clustering_of_the_right_size_keeps_its_cells_together():
    z = np.random.default_rng(0).normal(size=(30, 2))
    labels = split_to_number(z, np.repeat([3, 7, 9], 10), 3)
    assert labels.tolist() == np.repeat([0, 1, 2], 10).tolist()


def test_the_widest_cluster_is_split_where_it_falls_apart():
    z = np.concatenate([np.zeros((20, 2)), np.full((12, 2), 9.0), np.full((8, 2), -3.0)])
    z = z + np.random.default_rng(0).normal(size=z.shape)
    labels = split_to_number(z, np.repeat([0, 1], [32, 8]), 3)
    assert [np.unique(labels[part]).size for part in (slice(20), slice(20, 32))] == [1, 1]
    assert labels[0] != labels[20]
    assert labels[32:].tolist() == [1] * 8


def test_every_cluster_asked_for_has_cells():
    z = np.random.default_rng(1).normal(size=(50, 3))
    labels = split_to_number(z, np.zeros(50, dtype=int), 20)
    assert np.bincount(labels, minlength=20).min() >= 1
    assert labels.max() == 19


def test_equal_latents_cannot_be_split_and_that_is_said():
    z = np.repeat([[0.0], [1.0]], 5, axis=0)
    with pytest.warns(UserWarning, match=r"n_clusters=4 .* only 2 different latents"):
        labels = split_to_number(z, np.zeros(10, dtype=int), 4)
    assert labels.max() == 1


def test_no_warning_without_a_reason():
    z = np.random.default_rng(1).normal(size=(50, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_to_number(z, np.arange(50) % 4, 6)
