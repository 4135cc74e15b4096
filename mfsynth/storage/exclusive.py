"""Publishing a file under a name that must be free, where the file system has no hard links.

A folder can't be renamed to the name of another one that has something in it: that is POSIX, and of
many who try exactly one wins. So the file, whole and on the disk, lies in a folder that becomes the
*claim* of the name, and is moved from there to the name itself.

What is guaranteed, whatever is killed and whenever: nobody sees half a file; of all that want the
name one wins; a claim that was made is published, by its maker or by the next who wants the name,
and nothing else is. While a claim has its file no other can be made, and files of claims have names
that no other has: whoever publishes one has seen it before it saw the name free, so that it moves
no other one over what is there meanwhile.

Not guaranteed: anything beside machines that see the same folder with hard links, nor on mounts of
object stores that rename a folder file by file; those that refuse to are told by their own URLs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

PART_SUFFIX = ".part"
"""Of files that no reader takes for data."""

NO_HARD_LINKS = (
    errno.EPERM,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
CLAIMS = ".claims"
"""Folder of claims, beside the files whose names are claimed."""
# `.NAME.RANDOM.part` and probes, and files of claims, whose folder has the name.
_PART = re.compile(rf"(?:.*/)?\.(?:[^/]+\.|probe-)[0-9a-f]+\{PART_SUFFIX}")
_PART_OF_A_CLAIM = re.compile(rf"(?:.*/)?\{CLAIMS}/[^/]+/[0-9a-f]+\{PART_SUFFIX}")


def is_part(key: str) -> bool:
    """Whether a file is one of ours that is yet to get its name; a stranger's `film.part` is not.

    Args:
        key: Its path, with forward slashes.
    """
    return any(pattern.fullmatch(key) for pattern in (_PART, _PART_OF_A_CLAIM))


def publish(part: Path, path: Path, flush: Callable[[Path], None]) -> bool:
    """Give `part`, which is whole and on the disk, the name `path` unless something has it.

    Args:
        part: A file beside it.
        path: The name.
        flush: Forces the names in a folder to the disk.

    Raises:
        OSError: The file system can't do that, or the disk fails.
    """
    claim = path.parent / CLAIMS / path.name
    token = f"{secrets.token_hex(6)}{PART_SUFFIX}"
    folder = claim.with_name(f".{path.name}.{secrets.token_hex(6)}")
    folder.mkdir(parents=True)
    try:
        part.rename(folder / token)
        flush(folder)
        while not _claims(folder, claim):
            if _settle(claim, path) or _is_taken(path):
                return False
        return _publish_own(claim / token, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            claim.rmdir()  # which it can't while somebody's file is in it


def _claims(folder: Path, claim: Path) -> bool:
    try:
        # Onto an empty folder it can be renamed: a claim that was published and not removed.
        folder.rename(claim)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno or 0)}; the file system has neither hard links nor renames "
            "of folders, and can't hold a run: give another output (for a mount of an object store "
            "its own URL)",
        ) from error
    return True


def _settle(claim: Path, path: Path) -> bool:
    """Publish somebody else's claim, who may have been killed; whether there was one."""
    try:
        files = [*claim.iterdir()]
    except FileNotFoundError:
        return False
    for file in files:
        # In this order: of a name that is free now, this is the first claim.
        if not _is_taken(path):
            with contextlib.suppress(FileNotFoundError):
                file.rename(path)
    return bool(files)


def _publish_own(file: Path, path: Path) -> bool:
    """Publish the claim that is ours, unless the name was taken before it was made."""
    if not _is_taken(path):
        with contextlib.suppress(FileNotFoundError):  # somebody else has done it
            file.rename(path)
        return True
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
        return False
    return True  # not there: it has the name


def _is_taken(path: Path) -> bool:
    # Network file systems remember for a while that a name was free; a listing is asked for.
    return os.path.lexists(path) or any(p.name == path.name for p in path.parent.iterdir())
