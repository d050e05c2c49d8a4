"""Training: the plan, its stages, data-driven starting values, and resuming after a stop."""

from __future__ import annotations

from atacvi.training.plans import MultiViewTrainingPlan, check_plan_kwargs
from atacvi.training.query import COVARIATE_WEIGHT, LearnNewColumns
from atacvi.training.resume import CheckpointEachEpoch, checkpoint_path, read_checkpoint
from atacvi.training.stages import MultiViewStages, StageSchedule, StopOnNonFinite
from atacvi.training.starts import StartFromData

__all__ = [
    "COVARIATE_WEIGHT",
    "CheckpointEachEpoch",
    "LearnNewColumns",
    "MultiViewStages",
    "MultiViewTrainingPlan",
    "StopOnNonFinite",
    "StageSchedule",
    "StartFromData",
    "check_plan_kwargs",
    "checkpoint_path",
    "read_checkpoint",
]
