"""Models in folders that the Hugging Face hub and scvi-tools' hub read."""

from __future__ import annotations

from atacvi.hub.card import model_card
from atacvi.hub.export import export_model

__all__ = ["export_model", "model_card"]
