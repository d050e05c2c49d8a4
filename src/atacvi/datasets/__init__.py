"""Data sets for examples, tests and benchmarks: simulators with known truth."""

from __future__ import annotations

from .simulate import simulate_multiome
from .truth import simulated_links, true_accessibility, true_expression

__all__ = ["simulate_multiome", "simulated_links", "true_accessibility", "true_expression"]
