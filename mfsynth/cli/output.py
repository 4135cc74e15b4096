"""The one way to a terminal for what commands say."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from mfsynth.formatting import printable

# Often enough to see that it lives, seldom enough for a log file.
_PLAIN_INTERVAL_S = 15.0


def echo(text: str, *, err: bool = False) -> None:
    """Print text, lines as they are; control characters that came with data are shown, not sent.

    Args:
        text: What to say.
        err: Whether to say it on standard error.
    """
    click.echo(printable(text), err=err)


def open_standard_streams() -> None:
    """Give a process that was started without them standard streams that lead nowhere.

    Otherwise the first files that it opens get their numbers, and with them whatever a library
    says on standard error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


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


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal, a line now and then elsewhere; on standard error."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    console = Console(stderr=True)
    if console.is_terminal:
        with Bars(console=console) as drawn:
            tasks: dict[str, TaskID] = {}

            def redraw(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = drawn.add_task(what)
                drawn.update(tasks[what], completed=done, total=total)

            yield redraw
        return
    shown = time.monotonic()

    def write(what: str, done: int, total: int) -> None:
        nonlocal shown
        if done == total or time.monotonic() - shown > _PLAIN_INTERVAL_S:
            shown = time.monotonic()
            echo(f"{what} {done} of {total}", err=True)

    yield write
