"""Files of this machine by wildcards: what is linked is there, what can't be listed is told."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mfsynth.errors import MfsynthError

ANY_FOLDERS = "**"
"""A part of a pattern that stands for no folder, or any number of them."""


def as_text(name: str) -> str:
    r"""A file's name as a text that can be stored and sent, `M\xfcller` as `M\udcfcller`.

    Names of this machine are bytes. Those that are no UTF-8, as older systems and archives have
    them, come as halves of characters, which nothing can encode.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def files_matching(
    root: Path,
    parts: Sequence[str],
    matcher: Callable[[str], re.Pattern[str]],
    may_be_skipped: Callable[[str], bool],
) -> Iterator[str]:
    """Names, relative to a folder, of the files below that match a pattern; each is given once.

    A link is what it leads to, and one to nothing is a file, which whoever reads it misses. A link
    to a folder that it lies in leads to nothing new.

    Args:
        root: The folder.
        parts: Of the pattern, between its slashes.
        matcher: What a part other than `ANY_FOLDERS` matches.
        may_be_skipped: Whether a folder, by its name relative to the root, can do without being
            listed.

    Raises:
        MfsynthError: A folder that may have such files can't be listed.
    """
    matchers = [None if part == ANY_FOLDERS else matcher(part) for part in parts]
    return _walk(root, "", matchers, {0}, may_be_skipped, ())


def _walk(
    folder: Path,
    name: str,
    matchers: Sequence[re.Pattern[str] | None],
    # Parts of the pattern that an entry of this folder may be.
    possible: set[int],
    may_be_skipped: Callable[[str], bool],
    above: tuple[tuple[int, int], ...],
) -> Iterator[str]:
    possible = _with_none_of_any(possible, matchers)
    try:
        status = folder.stat()
        identity = status.st_dev, status.st_ino
        if identity in above:
            return
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _mode(entry)) for entry in entries)
    except OSError as error:
        if may_be_skipped(name):
            return
        raise MfsynthError(
            f"{folder}: cannot be listed ({error.strerror or error}); give access to it, or a "
            "pattern without it"
        ) from error
    for entry, mode in found:
        path = f"{name}/{entry}" if name else entry
        if not stat.S_ISDIR(mode):
            # From what is no file, a read may never return.
            if stat.S_ISREG(mode) and _follows(entry, len(matchers) - 1, matchers, possible):
                yield path
            continue
        following = {at for at in possible if matchers[at] is None}
        following |= {
            at + 1
            for at in possible
            if at + 1 < len(matchers) and _follows(entry, at, matchers, possible)
        }
        if following:
            below = (*above, identity)
            yield from _walk(folder / entry, path, matchers, following, may_be_skipped, below)


def _with_none_of_any(possible: set[int], matchers: Sequence[re.Pattern[str] | None]) -> set[int]:
    reached = set(possible)
    for at, matcher in enumerate(matchers):
        if matcher is None and at in reached:
            reached.add(at + 1)
    return reached


def _follows(
    entry: str, at: int, matchers: Sequence[re.Pattern[str] | None], possible: set[int]
) -> bool:
    matcher = matchers[at]
    return at in possible and matcher is not None and matcher.fullmatch(entry) is not None


def _mode(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG
