"""What a run tells on the screen: one line a stage, and the epochs of the training."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


class Narrator:
    """Tell the stages of a run, and keep their times.

    On a terminal the running stage is shown with a spinner; elsewhere (a log file) plain lines are
    written.

    Parameters
    ----------
    console
        Where to write.
    n_stages
        Number of stages that will come.
    """

    def __init__(self, console: Console, n_stages: int) -> None:
        self.console = console
        self.n_stages = n_stages
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str) -> Iterator[Any]:
        """Time a stage; the value has ``update(text)`` for news within it."""
        number = f"[{len(self.seconds) + 1}/{self.n_stages}]"
        start = time.perf_counter()
        news = _Lines(self.console)
        if self.console.is_terminal:
            with self.console.status(_plain(f"{number} {title}")) as status:
                news = _Lines(self.console, status, f"{number} {title}")
                yield news
        else:
            self._line(f"{number} {title} ...")
            yield news
        self.seconds[title] = time.perf_counter() - start
        self._line(f"{number} {title}: {self.seconds[title]:.1f} s")

    def say(self, text: str) -> None:
        """Write one line."""
        self._line(text)

    def _line(self, text: str) -> None:
        # No markup, no colours: names in brackets and file names are written as they are.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """News within a stage: beside the spinner, or about ten lines in a log."""

    def __init__(self, console: Console, status: Any = None, title: str = "") -> None:
        self.console, self.status, self.title = console, status, title

    def update(self, text: str, *, due: bool = True) -> None:
        if self.status is not None:
            self.status.update(_plain(f"{self.title}: {text}"))
        elif due:
            self.console.print(f"      {text}", markup=False, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def epoch_callback(news: Any) -> Any:
    """Lightning callback that tells epoch and loss."""
    from lightning.pytorch.callbacks import Callback

    class TellEpoch(Callback):
        """Tell the epochs of the training."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            epoch, total = trainer.current_epoch + 1, trainer.max_epochs
            loss = trainer.callback_metrics.get("elbo_validation")
            text = f"epoch {epoch} of at most {total}"
            if loss is not None:
                text += f", held-out loss {float(loss):.1f}"
            news.update(text, due=epoch % max(1, total // 10) == 0 or epoch == 1)

    return TellEpoch()
