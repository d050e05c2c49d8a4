"""Checkpoints: where they lie and what is refused; resuming itself is a matter of the models."""

from __future__ import annotations

import pytest
import torch

from atacvi.training import checkpoint_path, read_checkpoint


def test_no_checkpoint(tmp_path):
    assert read_checkpoint(tmp_path) is None


def test_a_foreign_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}}, checkpoint_path(tmp_path))
    with pytest.raises(ValueError, match="not a checkpoint of atacvi"):
        read_checkpoint(tmp_path)
