"""Requests to stop, counted instead of obeyed at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `timeout` sends its signal to its command and then to the group that this is in; service managers
# send two kinds. Nobody presses Ctrl-C twice so fast.
ONE_REQUEST_S = 0.3


class StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP while it is entered; the old handlers come back after.

    SIGHUP is left alone where whoever started us has it ignored, as `nohup` does. Does nothing
    outside the main thread, where Python allows no handlers.

    Attributes:
        count: Requests so far.
        first: The first signal, or None.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: int | None = None
        self._last = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in STOPPING}
            if self._before[signal.SIGHUP] is signal.SIG_IGN:
                del self._before[signal.SIGHUP]
            self.install()
        return self

    def install(self) -> None:
        """Take the signals again from a library that took them meanwhile."""
        for number in self._before:
            signal.signal(number, self._note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # A handler that was not set from Python shows as None and can't be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.first is None or time.monotonic() >= self._last + ONE_REQUEST_S:
            self.count += 1
        self._last = time.monotonic()
        self.first = self.first or number
