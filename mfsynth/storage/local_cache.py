"""Files that could be had again, kept on the local disk so that they need not."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mfsynth.storage.exclusive import PART_SUFFIX

_SILENT_S = 3600.0
_CLOCK_S = 0.1


def cache_folder(name: str) -> Path | None:
    """`MFSYNTH_CACHE/name`, by default in the user's cache folder; None where none can be written.

    None, too, for a folder that others may write: what lies in it is believed. So it is None where
    rights can't be told, on Windows.
    """
    if not hasattr(os, "getuid"):
        return None
    try:
        if (given := os.environ.get("MFSYNTH_CACHE")) is not None:
            root = Path(given).expanduser()
        else:
            root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfsynth"
        folder = root / name
        # One after the other: parents that are made on the way are everybody's of the group.
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        places = [each.stat() for each in (folder, folder.parent)]
        if any(place.st_uid != os.getuid() or place.st_mode & 0o022 for place in places):
            return None
    # RuntimeError: of a user without a home.
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


@dataclass(frozen=True, slots=True)
class LocalCache:
    """A folder of files, of which those go that were not used for longest.

    Any number of processes may share it. A file that is removed stays readable for those that
    have it open. What is larger than the folder may be is not fetched again and again: files that
    were used since the cache was opened stay, and others find no room.

    Attributes:
        folder: Where; made if it is missing.
        limit: Bytes that it may hold.
        since: Files that were used after this time (seconds of the epoch) make room for no other.
    """

    folder: Path
    limit: int
    since: float = field(default_factory=time.time)

    def find(self, name: str) -> int | None:
        """A descriptor to read the file of a name; None if it isn't here.

        Raises:
            OSError: It can't be read.
        """
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        # Where nothing can be written it may be read all the same.
        with contextlib.suppress(OSError):
            os.utime(descriptor)
        return descriptor

    def keep(self, name: str, size: int, fetch: Callable[[Path], None]) -> int | None:
        """Fetch a file, and give a descriptor to read it; None if there is no room for it.

        Args:
            name: Says what is in it: two contents never have the same name.
            size: Its bytes.
            fetch: Writes it to the path that it is given.

        Raises:
            OSError: The folder can't be written; or what `fetch` raises.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._make_room(size):
            return None
        path = self.folder / name
        # Opened before it has its name, under which others may remove it at once.
        part = self.folder / f".{name}.{secrets.token_hex(4)}{PART_SUFFIX}"
        try:
            fetch(part)
            descriptor = os.open(part, os.O_RDONLY)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        # Others may have fetched theirs meanwhile.
        if not self._make_room(0):
            self.forget(name)
        return descriptor

    def forget(self, name: str) -> None:
        """Remove a file that is not what its name says."""
        (self.folder / name).unlink(missing_ok=True)

    def _make_room(self, size: int) -> bool:
        remove_left_parts(self.folder)
        found = []
        for path in self.folder.iterdir():
            # Another process may remove it.
            with contextlib.suppress(OSError):
                if not path.name.endswith(PART_SUFFIX):
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        missing = sum(each for _, each, _ in found) + size - self.limit
        # Clocks of file systems are behind by some milliseconds.
        unused = sorted(each for each in found if each[0] < self.since - _CLOCK_S)
        if missing > sum(each for _, each, _ in unused):
            return False
        for _, each, path in unused:
            if missing <= 0:
                break
            path.unlink(missing_ok=True)
            missing -= each
        return True


def remove_left_parts(folder: Path) -> None:
    """Remove what fetches that were killed have left: nobody has written to it for an hour."""
    for path in folder.glob(f".*{PART_SUFFIX}"):
        # Another process may remove it.
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _SILENT_S:
                path.unlink()
