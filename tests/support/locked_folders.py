"""Folders that a test may not look into, whoever runs it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534
_THROUGH = 0o011


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While it is entered, this process may not look into a folder, but go through those above.

    As root, which may look everywhere, it is nobody meanwhile.
    """
    user, mode = os.geteuid(), folder.stat().st_mode
    if user == 0:
        # Left so: tests of other processes lie below them, too.
        for above in folder.parents:
            if above.is_relative_to(tempfile.gettempdir()):
                above.chmod(above.stat().st_mode | _THROUGH)
    folder.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)
