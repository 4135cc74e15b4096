"""Where a report goes, and writing it so that no half-written page is ever seen."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.storage.store import ObjectStore


def default_path(url: str, run: str) -> Path:
    """`report.html` in a run on a local disk; for other stores `RUN.report.html` here."""
    root = ObjectStore.open(url).local_root
    return Path(f"{run}.report.html") if root is None else root / "report.html"


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file under its name only when it is complete; makes its folder.

    Raises:
        MfsynthError: It can't be written; what was there before is still there.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        reason = os.strerror(error.errno) if error.errno else error
        raise MfsynthError(f"{path} can't be written ({reason}); give another path") from error
