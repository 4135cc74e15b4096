"""Folders that a test may not look into, whoever runs it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534
_THROUGH = 0o011


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While it is entered, this process may not look into a folder, but go through those above.

    As root, which may look everywhere, it is nobody meanwhile.
    """
    user = os.geteuid()
    above = folder.parents if user == 0 else ()
    before = {one: one.stat().st_mode for one in (folder, *above)}
    for one, mode in before.items():
        if one == folder or mode & _THROUGH != _THROUGH:
            one.chmod(0 if one == folder else mode | _THROUGH)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        for one, mode in before.items():
            if one.stat().st_mode != mode:
                one.chmod(mode)
