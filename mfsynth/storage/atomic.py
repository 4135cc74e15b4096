"""Local files and folders that are whole or absent, whatever happens while they are written.

Every function writes a temporary beside the target, forces it to the disk and only then gives
it the target's name, so a reader (or the next run, after a power cut) never sees half of one.
A kill leaves at most a `.<name>.<random>.part`, which no reader takes for data: that of a folder is
removed by the next writer of the folder, that of a file in a run by `gc`, any other stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mfsynth.errors import MfsynthError
from mfsynth.storage import exclusive
from mfsynth.storage.exclusive import PART_SUFFIX

_ASIDE_SUFFIX = ".old"
_NO_FLUSH_OF_FOLDERS = (
    errno.EINVAL,
    errno.EPERM,
    errno.EACCES,
    errno.EBADF,
    errno.EISDIR,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
)


def create_if_absent(path: Path, data: bytes) -> bool:
    """Publish `data` at `path` unless something is there.

    Visible: at once and whole, by `os.link`, which fails if the name exists; of any number of
    callers on any number of machines sharing the file system exactly one gets True. Where there are
    no hard links, `exclusive` gives the same by names of folders.
    A retry after a lost answer gets False; compare what is stored to tell whose it is.
    """
    with _staged_file(path, lambda file: file.write(data)) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in exclusive.NO_HARD_LINKS:
                raise
            if not exclusive.publish(part, path, flush):
                return False
    flush(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Publish `data` at `path`, over what is there. Idempotent; readers see old or new, whole."""
    with _staged_file(path, lambda file: file.write(data)) as part:
        part.replace(path)
    flush(path.parent)


def copy(source: Path, path: Path) -> None:
    """Publish a copy of the file `source` at `path`, over what is there. Idempotent."""

    def fill(file: BinaryIO) -> None:
        with source.open("rb") as opened:
            shutil.copyfileobj(opened, file, 1 << 20)

    with _staged_file(path, fill) as part:
        part.replace(path)
    flush(path.parent)


def write_document(path: Path, data: bytes) -> None:
    """As `replace`, where a user said to; makes the folder of the file.

    Raises:
        MfsynthError: It can't be written; what was there before is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise MfsynthError(f"{path} can't be written ({reason}); give another path") from error


def require_writable(folder: Path) -> None:
    """See that files can be written into a folder, before what they will hold is made.

    Of one that isn't there, whether it can be made; it isn't yet.

    Raises:
        MfsynthError: They can't.
    """
    above = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise MfsynthError(f"{folder} can't be written to ({reason}); give another path") from error


@contextlib.contextmanager
def staged_folder(path: Path, *, over: bool = False) -> Iterator[Path]:
    """A new folder to fill, which becomes `path` if all goes well and else disappears.

    Visible: when the context is left, whole, on the disk, and for whom the umask says. One writer
    of a path at a time: what a killed one left is removed.

    Args:
        path: Of the folder; folders above it are made, and a link is followed.
        over: Whether it takes the place of a folder that is there, which has no name for the
            moment between two renames; after a kill in that moment the next writer begins by
            giving it back its name.

    Raises:
        OSError: It can't be written, or something is there.
    """
    path = Path(os.path.realpath(path))
    _tidy_up(path)
    staging = _beside(path, PART_SUFFIX)
    staging.mkdir(parents=True)
    try:
        yield staging
        # safetensors makes files that their owner alone can read, whatever the umask says.
        readable = staging.stat().st_mode & 0o666
        for below in (*staging.rglob("*"), staging):
            if below.is_file():
                below.chmod(readable)
            flush(below)
        if over and path.exists():
            _take_the_place_of(path, staging)
        else:
            staging.rename(path)
        flush(path.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def flush(path: Path) -> None:
    """Force a file's bytes, or the names in a folder, to the disk.

    Of a folder as far as its file system can: some write names at once and know no flush of them.
    """
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NO_FLUSH_OF_FOLDERS):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _staged_file(path: Path, fill: Callable[[BinaryIO], object]) -> Iterator[Path]:
    part = _beside(path, PART_SUFFIX)
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


def _take_the_place_of(path: Path, staging: Path) -> None:
    aside = _beside(path, _ASIDE_SUFFIX)
    path.rename(aside)
    try:
        staging.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _tidy_up(path: Path) -> None:
    """Bring back what a killed writer had set aside, and remove what it had begun."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]+(\{PART_SUFFIX}|\{_ASIDE_SUFFIX})")
    for other in [*path.parent.iterdir()] if path.parent.is_dir() else ():
        if not (match := name.fullmatch(other.name)):
            continue
        if match[1] == _ASIDE_SUFFIX and not path.exists():
            other.rename(path)
        else:
            shutil.rmtree(other, ignore_errors=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{suffix}")
