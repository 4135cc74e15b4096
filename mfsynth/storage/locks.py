"""Folders and files that are a process' for as long as it lives, however it ends.

The kernel frees a lock with its process. Where a file system has no locks, the file itself says
whose it is: then a folder is given up when that process is known to be gone, which only the
machine knows that it ran on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK = "lock"
# Between a folder and its lock there are three calls; the clocks of two machines differ by less.
_HELD_WITHIN_S = 3600.0
# Of file systems without locks, as they are mounted: some NFS, Lustre, FUSE.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def hold(folder: Path) -> int:
    """Make a folder this process' own, until the descriptor that comes back is closed.

    Raises:
        OSError: It can't be written.
    """
    # The file is locked before it has the name that others look for, so that nobody sees it
    # unlocked while we live.
    descriptor = os.open(folder / "locking", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, json.dumps(_this_process()).encode())
        _lock(descriptor, fcntl.LOCK_EX)
        (folder / "locking").rename(folder / LOCK)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process inside, by a file that stays; where there are no locks, nobody is.

    Raises:
        BlockingIOError: Another one is.
        OSError: The file can't be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def share(path: Path) -> int:
    """Say that a file is in use, until the descriptor that comes back is closed.

    Raises:
        OSError: It isn't there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _lock(descriptor, fcntl.LOCK_SH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_unused(path: Path, *, is_old: bool) -> bool:
    """Remove a file unless a process shares it; where there are no locks, if it is old.

    Raises:
        OSError: It isn't there, or can't be removed.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        unused = _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) or is_old
        if unused:
            path.unlink()
        return unused
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the folders whose names begin so and whose processes are gone."""
    for folder in parent.glob(f"{prefix}*"):
        # Its process lives, another user's, or being removed by someone else.
        with contextlib.suppress(OSError):
            try:
                descriptor = os.open(folder / LOCK, os.O_RDWR)
            except FileNotFoundError:
                # Killed before it held the folder, or about to.
                if time.time() - folder.stat().st_mtime > _HELD_WITHIN_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) or _owner_is_gone(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    """Lock a file; False where the file system has no locks."""
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _owner_is_gone(descriptor: int) -> bool:
    try:
        owner = json.loads(os.read(descriptor, 4096))
        process = int(owner.pop("process"))
    except (ValueError, TypeError, AttributeError, KeyError):
        return False
    here = _this_process()
    del here["process"]
    if owner != here:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is another user's
    return False


def _this_process() -> dict[str, Any]:
    # Containers may have one host name and numbers of their own for processes.
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return {"host": socket.gethostname(), "space": space, "process": os.getpid()}
