"""Which stages of ATACDiffModel rest on which, and what they leave in one history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atacvi.modules import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atacvi.modules import Stage


class StagesMixin:
    """The order of the stages, those that are done, and their history."""

    module: Any
    history_: Any
    is_trained_: bool
    stages_done_: list[str]

    def _needed_stages(self) -> list[Stage]:
        """Return the stages that make the model complete."""
        if self._is_query:
            return ["autoencoder"]
        return [s for s in STAGES if not (s == "diffusion" and self.module.joint)]

    @property
    def _is_query(self) -> bool:
        """Whether `load_query_data` built the model: only new covariate columns are learnt."""
        return getattr(self, "query_columns_", None) is not None

    def _rests_on(self, stage: str) -> list[str]:
        """Return the stages that another one needs."""
        if stage == "diffusion":
            return ["autoencoder", "auxiliary"]
        if stage == "prior":
            return ["auxiliary"]
        # Trained together, the denoiser needs the latents that it is to learn.
        return ["autoencoder"] if stage == "auxiliary" and self.module.joint else []

    def _can_calibrate(self, ended: Stage) -> bool:
        """Return whether cells can be drawn, and are to be calibrated, now that a stage has ended."""
        complete = {*self.stages_done_, ended} >= set(self._needed_stages())
        return complete and self.module.calibrate and not self._is_query

    def _require_stages(self, *stages: str) -> None:
        """Raise if a getter needs a stage that was not trained.

        Raises
        ------
        RuntimeError
            In that case.
        """
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        needed = self._needed_stages()
        missing = [s for s in stages if s in needed and s not in self.stages_done_]
        if missing and not self._is_query:
            msg = (
                f"This needs {', '.join(map(repr, missing))}, which was not trained: run "
                f"train(stages={missing!r}) or train()."
            )
            raise RuntimeError(msg)

    def _check_stages(self, stages: Sequence[Stage] | None) -> list[Stage]:
        if stages is None:
            return self._needed_stages()
        named = [stages] if isinstance(stages, str) else list(stages)
        unknown = [stage for stage in named if stage not in STAGES]
        if unknown:
            msg = f"stages holds {unknown}; choose among {', '.join(STAGES)}."
            raise ValueError(msg)
        ordered = [stage for stage in STAGES if stage in named]
        for stage in ordered:
            before = self._rests_on(stage)
            missing = [s for s in before if s not in self.stages_done_ and s not in ordered]
            if missing:
                msg = (
                    f"Stage {stage!r} rests on {', '.join(map(repr, missing))}, not trained yet. "
                    f"Run train(stages={[*missing, stage]!r}) or train()."
                )
                raise ValueError(msg)
        return ordered

    def _own_history(self, stage: str) -> _OwnHistory:
        return _OwnHistory(self, stage)

    def _add_history(self, stage: str, history: dict[str, Any]) -> None:
        """Put the terms of a stage beside those of the others, under its name."""
        kept = {
            name: table
            for name, table in (self.history_ or {}).items()
            if not name.startswith(f"{stage}_")
        }
        self.history_ = kept | {f"{stage}_{name}": table for name, table in history.items()}


class _OwnHistory:
    """Let scvi-tools write the history of a stage by itself, then merge.

    On a trained model it would drop every term that an earlier stage did not have.
    """

    def __init__(self, model: StagesMixin, stage: str) -> None:
        self.model, self.stage = model, stage

    def __enter__(self) -> None:
        self.kept = self.model.history_
        self.model.history_, self.model.is_trained_ = None, False

    def __exit__(self, *_: Any) -> None:
        written, self.model.history_ = self.model.history_, self.kept
        self.model.is_trained_ = False
        if written:
            self.model._add_history(self.stage, written)
