"""From a MuData to a folder of results: data, model, scores, figures and one HTML page."""

from __future__ import annotations

from atacvi.report.demo import DemoSettings, run_demo
from atacvi.report.errors import InputError
from atacvi.report.folder import new_folder
from atacvi.report.markers import UNS_MARKERS, find_markers, impute_markers
from atacvi.report.page import Section, build_page

__all__ = [
    "UNS_MARKERS",
    "DemoSettings",
    "InputError",
    "Section",
    "build_page",
    "find_markers",
    "impute_markers",
    "new_folder",
    "run_demo",
]
