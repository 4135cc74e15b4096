"""Probes, what they find, and how they are asked: one by one, none for longer than its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum

from mfsynth.errors import MfsynthError
from mfsynth.formatting import duration, one_line
from mfsynth.storage.credentials import without_credentials

THREAD = "probe"
"""Name of the threads that probes are asked on."""
_LIMIT_S = 60.0


class Severity(IntEnum):
    """How bad it is; more is worse."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """In lower case, as people and programs read it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe has seen.

    Attributes:
        severity: `NOTE` is worth knowing, with `WARNING` a run goes on and something is lost, with
            `ERROR` it does not begin, or ends.
        seen: In one line.
        remedy: What to do about it; "" for nothing.
    """

    severity: Severity
    seen: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """Both in one line, as errors have it."""
        return f"{self.seen}; {self.remedy}" if self.remedy else self.seen


def ok(seen: str) -> Finding:
    """As it should be."""
    return Finding(Severity.OK, seen)


def note(seen: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Severity.NOTE, seen, remedy)


def warning(seen: str, remedy: str) -> Finding:
    """Better mended before a night."""
    return Finding(Severity.WARNING, seen, remedy)


def error(seen: str, remedy: str = "") -> Finding:
    """To be mended before a run."""
    return Finding(Severity.ERROR, seen, remedy)


@dataclass(frozen=True, slots=True)
class Probe:
    """A question.

    Attributes:
        name: Of what is looked at.
        look: Gives the answer. An `MfsynthError` is one, too: it is what a run would end with.
        limit_s: Seconds that it may take.
        needs: Names of probes without whose success there is nothing to look at.
    """

    name: str
    look: Callable[[], Finding]
    limit_s: float = _LIMIT_S
    needs: tuple[str, ...] = ()


def examine(probes: Collection[Probe]) -> Iterator[tuple[str, Finding]]:
    """Ask probes in order; gives the name and the finding of each as soon as it is there."""
    failed: set[str] = set()
    for probe in probes:
        if lacking := [name for name in probe.needs if name in failed]:
            found = note(f"not looked at, for want of: {', '.join(lacking)}")
            failed.add(probe.name)
        else:
            found = in_time(probe.look, probe.limit_s)
        if found.severity is Severity.ERROR:
            failed.add(probe.name)
        yield probe.name, found


def in_time(look: Callable[[], Finding], limit_s: float) -> Finding:
    """What is found, or that there was no answer.

    A call into a file system or a library can't be ended from outside. It is left behind on its
    thread, which no exit of the process waits for.
    """
    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.append(_looked(look)), name=THREAD, daemon=True)
    thread.start()
    thread.join(limit_s)
    if found:
        return found[0]
    return error(f"no answer in {duration(limit_s)}", "see whether what it asks hangs")


def some_hang() -> bool:
    """Whether a probe that was given up is still at it."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def _looked(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except MfsynthError as problem:
        return error(str(problem))
    # Exception: whatever a library raises where it is asked what it can do is an answer.
    except Exception as problem:
        said = without_credentials(" ".join(str(problem).split()))
        return error(f"{type(problem).__name__}: {one_line(said, 300)}")
