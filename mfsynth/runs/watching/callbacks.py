"""Functions of somebody's own as an observer."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from mfsynth.runs.watching.notices import Notice, Observer
from mfsynth.runs.watching.snapshot import Snapshot


class Callbacks:
    """Calls functions with what a run says, and passes it on.

    Args:
        on_progress: Called with how things stand; None for nobody.
        on_notice: Called with what happens; None for nobody.
        display: Told everything, too; None for nobody.
    """

    def __init__(
        self,
        on_progress: Callable[[Snapshot], None] | None,
        on_notice: Callable[[Notice], None] | None,
        display: Observer | None,
    ) -> None:
        self._on_progress = on_progress
        self._on_notice = on_notice
        self._display = display

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.__exit__(kind, error, trace)

    def tell(self, notice: Notice) -> None:
        """Pass on what happened."""
        if self._display is not None:
            self._display.tell(notice)
        if self._on_notice is not None:
            self._on_notice(notice)

    def show(self, snapshot: Snapshot) -> None:
        """Pass on how things stand."""
        if self._display is not None:
            self._display.show(snapshot)
        if self._on_progress is not None:
            self._on_progress(snapshot)
