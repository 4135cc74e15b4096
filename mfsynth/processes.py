"""Processes on this machine: how many it has cores for, and that none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import threading


def usable_cores() -> int:
    """How many cores this process may use, which are fewer than the machine's under a scheduler."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Don't outlive a parent that was killed: nobody would ever end this process."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
