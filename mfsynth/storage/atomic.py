"""Local files that are whole or absent, whatever happens while they are written.

Every function writes a temporary beside the target, forces it to the disk and only then gives
it the target's name, so a reader (or the next run, after a power cut) never sees half of one.
A kill leaves at most a `.<name>.<random>.part`, which no reader takes for data and `gc` removes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

PART_SUFFIX = ".part"


def create_if_absent(path: Path, data: bytes) -> bool:
    """Publish `data` at `path` unless something is there.

    Visible: at once and whole, by `os.link`, which fails if the name exists; of any number of
    callers on any number of machines sharing the file system exactly one gets True.
    A retry after a lost answer gets False; compare what is stored to tell whose it is.
    """
    with _staged(path, lambda file: file.write(data)) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            return False
    _sync_folder(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Publish `data` at `path`, over what is there. Idempotent; readers see old or new, whole."""
    with _staged(path, lambda file: file.write(data)) as part:
        part.replace(path)
    _sync_folder(path.parent)


def copy(source: Path, path: Path) -> None:
    """Publish a copy of the file `source` at `path`, over what is there. Idempotent."""

    def fill(file: BinaryIO) -> None:
        with source.open("rb") as opened:
            shutil.copyfileobj(opened, file, 1 << 20)

    with _staged(path, fill) as part:
        part.replace(path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def _staged(path: Path, fill: Callable[[BinaryIO], object]) -> Iterator[Path]:
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PART_SUFFIX}")
    try:
        with part.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        # Cleaning up must not hide the error that brought us here.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # A name is durable only when its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
