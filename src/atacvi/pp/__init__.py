"""Preprocessing of accessibility counts: matrix in, matrix out, as in scanpy."""

from __future__ import annotations

from ._spectral import SpectralFit, fit_spectral, map_spectral, unit_rows
from .binarize import binarize
from .filter import filter_features
from .lsi import lsi
from .spectral import spectral
from .tfidf import tfidf

__all__ = ["binarize", "filter_features", "lsi", "spectral", "tfidf"]
