"""Files that could be had again, kept on the local disk so that they need not."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mfsynth.storage.exclusive import PART_SUFFIX


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
    have it open.

    Attributes:
        folder: Where; made if it is missing.
        limit: Bytes that it may hold; the newest file stays, whatever its size.
    """

    folder: Path
    limit: int

    def open(self, name: str, fetch: Callable[[Path], None]) -> int:
        """A descriptor to read the file of a name, which is had by `fetch` if it isn't here.

        Args:
            name: Says what is in it: two contents never have the same name.
            fetch: Writes the file to the path that it is given, whole or not at all.

        Raises:
            OSError: The folder can't be written; or what `fetch` raises.
        """
        path = self.folder / name
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            os.utime(descriptor)
            return descriptor
        self.folder.mkdir(parents=True, exist_ok=True)
        # Opened before it has its name, under which others may remove it at once.
        part = self.folder / f".{name}.{secrets.token_hex(4)}{PART_SUFFIX}"
        try:
            fetch(part)
            descriptor = os.open(part, os.O_RDONLY)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._make_room(path)
        return descriptor

    def forget(self, name: str) -> None:
        """Remove a file that is not what its name says."""
        (self.folder / name).unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        found = []
        for path in self.folder.iterdir():
            # Another process may remove it.
            with contextlib.suppress(OSError):
                status = path.stat()
                if path != newest and not path.name.endswith(PART_SUFFIX):
                    found.append((status.st_mtime, status.st_size, path))
        with contextlib.suppress(OSError):
            used = newest.stat().st_size + sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if used <= self.limit:
                    return
                path.unlink(missing_ok=True)
                used -= size
