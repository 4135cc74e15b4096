"""The one way to a terminal for what commands say."""

from __future__ import annotations

import time

import click

from mfsynth.formatting import printable


def echo(text: str, *, err: bool = False) -> None:
    """Print text, lines as they are; control characters that came with data are shown, not sent.

    Args:
        text: What to say.
        err: Whether to say it on standard error.
    """
    click.echo(printable(text), err=err)


class Progress:
    """Says on standard error, every two seconds, how many shards are done.

    A line reads as well in a log file as on a terminal.

    Args:
        what: What they are then: `verified`.
    """

    _INTERVAL_S = 2.0

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = time.monotonic()

    def __call__(self, done: int, shards: int) -> None:
        """Told after each of the shards."""
        if time.monotonic() - self._shown > self._INTERVAL_S:
            self._shown = time.monotonic()
            echo(f"{done} of {shards} shards {self._what}", err=True)
