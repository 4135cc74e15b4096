"""Streams that others have closed, or that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
from typing import Any, TextIO


def switch_off(stream: TextIO | Any) -> None:
    """Let what is written to a stream go nowhere from now on, what waits in it included.

    Otherwise the interpreter would fail at its end, when it writes that, and so the process.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number, null = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def is_terminal(stream: TextIO | Any) -> bool:
    """Whether somebody looks at it; not if it is closed, or was never open."""
    try:
        return bool(stream.isatty())
    except (OSError, ValueError, AttributeError):
        return False
