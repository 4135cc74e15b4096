"""Members of tar files at any path or URL, by position."""

from __future__ import annotations

import math
import posixpath
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.sources.local_files import ANY_FOLDERS, as_text, files_matching
from mfsynth.sources.trees import is_hidden
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.protocols import is_on_this_machine, require_openable

# What braceexpand gives a meaning: escapes, ranges of numbers and letters, alternatives.
_BRACES = re.compile(
    r"\\.|\{(?P<first>-?\d+)\.\.(?P<last>-?\d+)(?:\.\.-?(?P<step>\d+))?\}"
    r"|(?P<letters>\{[A-Za-z]\.\.[A-Za-z](?:\.\.-?\d+)?\})|[{},]",
    re.ASCII | re.DOTALL,
)
_MOST_LETTERS = 52
_LONGEST_PATTERN = 4096


@dataclass(frozen=True, slots=True)
class TarFile:
    """One tar file.

    Attributes:
        url: What names its file system, for fsspec.
        path: Where it is on that.
    """

    url: str
    path: str

    @property
    def name(self) -> str:
        """What to show people."""
        scheme, there, _ = self.url.partition("://")
        path = as_text(self.path)
        if not there or "://" in path:
            return without_credentials(path)
        # A file system's own path keeps a URL's user and password, and is no URL any more.
        whole = f"{scheme}://{path.lstrip('/')}"
        shown = without_credentials(whole)
        return path if shown == whole else shown

    def read(self, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length`.

        Raises:
            MfsynthError: They can't be read, the file ends before, or they are more than
                `Limit.BYTES`.
        """
        # A header may claim any size, and the memory for it would be taken first.
        if length > Limit.BYTES.most:
            raise Limit.BYTES.refusal(self.name, f"a member of {length} bytes")
        # Looked up every time: fsspec keeps connections for each process, so that a forked one
        # doesn't use its parent's.
        try:
            filesystem, _ = fsspec.url_to_fs(self.url)
            data: bytes = filesystem.cat_file(self.path, start=start, end=start + length)
        except Exception as error:
            raise self._unreadable(error) from error
        if len(data) != length:
            raise MfsynthError(f"{self.name}: truncated since it was indexed; restore it")
        return data

    def members(self) -> list[tuple[str, int, int]]:
        """Name, position and size of every file in it, in their order, from the headers alone.

        Raises:
            MfsynthError: Not a whole, uncompressed tar file, or it can't be read.
        """
        try:
            filesystem, _ = fsspec.url_to_fs(self.url)
            # Not "r:*": the members of a compressed file have no positions.
            with (
                filesystem.open(self.path, "rb") as stream,
                tarfile.open(fileobj=stream, mode="r:") as tar,
            ):
                return [(as_text(m.name), m.offset_data, m.size) for m in tar if m.isfile()]
        except tarfile.TarError as error:
            raise MfsynthError(
                f"{self.name}: truncated, compressed or not a tar file ({error}); "
                "restore or unpack it"
            ) from error
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> MfsynthError:
        # Each fsspec backend has exceptions of its own; their texts may repeat the URL's secrets.
        return MfsynthError(
            f"{self.name}: cannot be read ({type(error).__name__}); check URL and access"
        )


def find_tars(pattern: str) -> list[TarFile]:
    """The tar files that a pattern names, sorted within each wildcard.

    Args:
        pattern: Path or URL; {000..127} counts, *, ? and [] match what is there. A file of this
            very name is that file.

    Raises:
        MfsynthError: Nothing matches, both a file of this very name and others do, the file system
            can't be listed or isn't one that is opened, or the braces make more than
            `Limit.FILES`.
    """
    # Here, for it brings torch, and settings of a source are read before anything waits for that.
    from webdataset.shardlists import expand_urls

    shown = without_credentials(pattern)
    # webdataset divides by `::`, and fsspec chains.
    require_openable(pattern)
    _require_few(pattern, shown)
    found: list[TarFile] = []
    try:
        urls = expand_urls(pattern)
    except ValueError as error:
        raise MfsynthError(f"{shown}: {error}; mend the braces") from error
    for url in urls:
        require_openable(url)
        found += _matching(url, shown)
    if urls != [pattern]:
        found = _of_one_meaning(pattern, found, shown)
    if not found:
        raise MfsynthError(f"{shown}: no tar file matches; check the pattern")
    return found


def _matching(url: str, shown: str) -> list[TarFile]:
    with _listing(shown):
        filesystem, path = fsspec.url_to_fs(url)
        if not any(character in path for character in "*?["):
            return [TarFile(url, path)]
        if is_on_this_machine(url):
            found = [TarFile(url, path) for path in _local_matches(path)]
        else:
            found = [TarFile(url, path) for path in sorted(filesystem.glob(path))]
    return _of_one_meaning(url, found, shown)


def _local_matches(pattern: str) -> list[str]:
    """As fsspec's glob, which passes by what it can't list, and links to folders under `**`."""
    matches = re.compile(fsspec.utils.glob_translate(pattern)).match
    before, *_ = re.split(r"[*?\[]", pattern, maxsplit=1)
    root = posixpath.dirname(before)
    if not Path(root).is_dir():
        return []
    parts = pattern.removeprefix(root).strip("/").split("/")
    if parts[-1] == ANY_FOLDERS:
        parts.append("*")
    found = files_matching(
        Path(root),
        parts,
        lambda part: re.compile(fsspec.utils.glob_translate(part)),
        lambda folder: is_hidden(folder, pattern),
    )
    paths = (posixpath.join(root, name) for name in found)
    return sorted(path for path in paths if matches(path))


def _of_one_meaning(url: str, found: list[TarFile], shown: str) -> list[TarFile]:
    """What is found by a pattern, or the file that has the pattern for its name."""
    with _listing(shown):
        filesystem, path = fsspec.url_to_fs(url)
        if not filesystem.isfile(path):
            return found
        others = any(filesystem.isfile(tar.path) for tar in found if tar.path != path)
    if others:
        raise MfsynthError(
            f"{shown}: there are a file of this very name and others that it is a pattern of; "
            "rename that, or write [[] for [, [*] for *, [?] for ? and \\{ for {"
        )
    return [TarFile(url, path)]


@contextmanager
def _listing(shown: str) -> Iterator[None]:
    try:
        yield
    except MfsynthError:
        raise
    except Exception as error:
        raise MfsynthError(
            f"{shown}: cannot be listed ({type(error).__name__}); check URL and access"
        ) from error


def _require_few(pattern: str, shown: str) -> None:
    """Refuse braces that make more names than anybody has tar files, before they are made."""
    if len(pattern) > _LONGEST_PATTERN:
        raise MfsynthError(f"{shown}: longer than {_LONGEST_PATTERN} characters; use wildcards")
    # Of the braces that are open: names of the alternatives before, and of the one in hand.
    before, count = [0], [1]
    for match in _BRACES.finditer(pattern):
        first, last, step = match.group("first", "last", "step")
        if first is not None:
            count[-1] *= abs(int(last) - int(first)) // (int(step or 1) or 1) + 1
        elif match["letters"]:
            count[-1] *= _MOST_LETTERS
        elif match[0] == "{":
            before.append(0)
            count.append(1)
        elif match[0] == "," and len(count) > 1:
            before[-1] += count[-1]
            count[-1] = 1
        elif match[0] == "}" and len(count) > 1:
            names = before.pop() + count.pop()
            count[-1] *= names
    if math.prod(count) > Limit.FILES.most:
        raise Limit.FILES.refusal(shown, "braces that make too many names")
