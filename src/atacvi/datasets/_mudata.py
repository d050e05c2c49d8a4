"""One difference between mudata 0.3 and 0.4, kept away from the rest."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def without_pull() -> AbstractContextManager[object]:
    """Context in which an update of a MuData leaves the columns of `obs` and `var` as they are.

    mudata 0.3 copies those of the modalities under prefixed names unless told not to; 0.4 does not
    and has no such option.
    """
    import mudata

    if hasattr(mudata, "set_options"):
        return mudata.set_options(pull_on_update=False)
    return nullcontext()
