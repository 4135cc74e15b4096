"""The steps of a writer on the disk: recorded, or each the last thing that it does."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Every call that makes bytes durable, publishes or removes a name.
STEPS = (
    (os, "fsync"),
    (os, "link"),
    (Path, "mkdir"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "rmdir"),
    (shutil, "rmtree"),
)


@contextmanager
def before_each_step(act: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call `act` with the name and the arguments of each step, before it is taken."""

    def watched(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            act(name, args)
            return step(*args, **kwargs)

        return run

    original = [(owner, name, getattr(owner, name)) for owner, name in STEPS]
    try:
        for owner, name, step in original:
            setattr(owner, name, watched(name, step))
        yield
    finally:
        for owner, name, step in original:
            setattr(owner, name, step)


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    """The steps taken and what they were taken on."""
    steps: list[tuple[str, str]] = []

    def record(name: str, args: tuple[Any, ...]) -> None:
        path = Path(f"/proc/self/fd/{args[0]}").readlink() if name == "fsync" else Path(args[0])
        steps.append((name, path.name))

    with before_each_step(record):
        yield steps


def killed_at_each_step(work: Callable[[], object]) -> Iterator[int]:
    """Do `work` in a child that is killed at its first step, at its second, and so on to the last.

    It forks, so that the process must have no threads. Gives the number of the step after each
    kill, and ends with the child that took all steps.
    """
    number = 0
    while True:
        number += 1
        child = os.fork()
        if child == 0:
            _die_at(number, work)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield number


def _die_at(number: int, work: Callable[[], object]) -> None:
    taken = 0

    def count(_name: str, _args: tuple[Any, ...]) -> None:
        nonlocal taken
        taken += 1
        if taken == number:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with before_each_step(count):
            work()
    except BaseException:
        os._exit(1)
    os._exit(0)
