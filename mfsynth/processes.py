"""Processes on this machine: how many it has cores for, and that none is left behind."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def usable_cores() -> int:
    """How many cores this process may use.

    They are fewer than the machine's under a scheduler (affinity) and in a container or service
    with a limit (Linux' control groups, of which a part of a core counts as one).
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):  # nor are there control groups
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        cores = min([cores, *(math.ceil(limit) for limit in _cgroup_limits(own, _CGROUPS))])
    return cores


def _cgroup_limits(own: str, mounted: Path) -> Iterator[float]:
    """Of a process' groups and all that these are in, where there is one: time over time.

    Args:
        own: What /proc/self/cgroup says: `NUMBER:CONTROLLERS:GROUP` a line, no controllers in
            version 2.
        mounted: Where groups are folders.
    """
    for line in own.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container what is mounted may begin at its own group, whatever that is called.
        parts = PurePosixPath(group.lstrip("/"))
        for folder in (parts, *parts.parents):
            here = mounted / (controllers and "cpu") / folder
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                if controllers:
                    quota, period = (
                        (here / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
                    )
                else:
                    quota, period = (here / "cpu.max").read_text().split()
                # "max" and -1 are no limit.
                if quota != "max" and int(quota) > 0:
                    yield int(quota) / int(period)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes that are started meanwhile compute with one thread, where each has a core.

    The libraries that numpy computes with take as many as there are cores, when they are loaded.
    """
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def end_with_parent() -> None:
    """Don't outlive a parent that was killed: nobody would ever end this process."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
