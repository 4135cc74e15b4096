"""Locks that a forked process doesn't inherit in the hands of threads that it hasn't."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class HasLocks(Protocol):
    """Something whose locks are made by a method."""

    def make_locks(self) -> None:
        """Make them anew."""


_known: WeakSet[HasLocks] = WeakSet()


def lock_anew_in_forks(owner: HasLocks) -> None:
    """Make its locks, now and in each process that is forked while it lives."""
    owner.make_locks()
    _known.add(owner)


def _make_locks() -> None:
    for owner in [*_known]:
        owner.make_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_make_locks)
