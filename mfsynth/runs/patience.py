"""Waiting, aloud and with a limit, for what a driver can't do without before its loop begins."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from mfsynth.errors import MfsynthError
from mfsynth.runs.events import Wait, WaitCause
from mfsynth.runs.retries import backoff, given_up

_LOOK_S = 0.2


class StoppedError(MfsynthError):
    """Somebody asked to stop before there was anything to finish."""


class Patience:
    """Waits between attempts, ever longer, until its time is over.

    Args:
        seconds: How long in all, from the first wait on.
        look: Is shown, a few times a second, what is waited for; whether somebody asks to stop.
    """

    def __init__(self, seconds: float, look: Callable[[Wait], bool] = lambda _: False) -> None:
        self._seconds = seconds
        self._look = look
        self._began: float | None = None
        self._failures = 0

    def wait(self, cause: WaitCause, text: str) -> None:
        """Return when it is time for another attempt.

        Raises:
            MfsynthError: There was time enough; it says `text`.
            StoppedError: Somebody asked to stop.
        """
        now = time.monotonic()
        self._began = began = now if self._began is None else self._began
        end = began + self._seconds
        if now >= end:
            raise MfsynthError(f"{text}{given_up(now - began)}")
        self._failures += 1
        again = min(end, now + backoff(self._failures, random.Random()))
        while (now := time.monotonic()) < again:
            if self._look(Wait(cause, text, now - began, end - now)):
                raise StoppedError(f"stopped on request while waiting: {text}")
            time.sleep(_LOOK_S)
