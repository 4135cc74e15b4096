"""Folders of files, on the local disk or in an object store, by names relative to them."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import fsspec

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.sources.decoding import read_file
from mfsynth.sources.local_files import as_text, files_matching
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.protocols import is_on_this_machine, require_openable
from mfsynth.storage.urls import where_sought

_EXTENSION = re.compile(r"\.[A-Za-z0-9]+$")
WILDCARD = re.compile(r"\*\*/|\*|\?|\[[^\]]+\]")
# What operating systems leave in folders, beside what begins with a dot.
_NOT_DATA = {"__MACOSX", "Thumbs.db", "desktop.ini", "lost+found"}
_LISTED = "it was listed, so restore it or mend the list"


class Tree(Protocol):
    """A folder and what is below it. Names are relative to it, with `/` between their parts."""

    def told(self, name: str = "") -> str:
        """The full name of a file, or of the folder, for messages."""
        ...

    def glob(self, pattern: str) -> Iterator[str]:
        """Files that match wildcards (`**/` for any folders), the extension in any letters.

        Raises:
            MfsynthError: A folder can't be listed.
        """
        ...

    def find(self, name: str) -> str | None:
        """A file, by a name whose extension may be written in other letters."""
        ...

    def read(self, name: str, remedy: str = _LISTED) -> bytes:
        """All of a file.

        Raises:
            MfsynthError: It can't be read, or is longer than `Limit.BYTES`; ends with the remedy.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """A file to be read in parts, whatever its length.

        Raises:
            MfsynthError: It can't be opened.
        """
        ...

    def ends(self, names: Iterable[str], length: int) -> Iterator[tuple[int, bytes] | None]:
        """Size and last bytes of each file; None for one that isn't there."""
        ...


def open_tree(path: str) -> Tree:
    """The folder of a path or URL.

    Raises:
        MfsynthError: There is none, or its store can't be listed or isn't one that is opened.
    """
    if "://" in path:
        require_openable(path)
        if is_on_this_machine(path):
            return open_tree(fsspec.core.strip_protocol(path))
        tree = StoreTree(path.rstrip("/"))
        if not tree.sizes:
            raise MfsynthError(f"{tree.told()}: no files there; check the URL")
        return tree
    if not Path(path).is_dir():
        raise MfsynthError(
            f"{Path(path)}: no such folder of images{where_sought(path)}; check the path"
        )
    return LocalTree(Path(path))


def lone_file(path: str, extensions: Collection[str]) -> tuple[Tree, str] | None:
    """Folder and name of the file that a path or URL is of by its extension; None for a folder.

    Folders are named as files are, too (`clips.mp4`), or as the extension itself (`parquet`).

    Raises:
        MfsynthError: As `open_tree`, of the folder that it is in.
    """
    folder, _, file = path.rpartition("/")
    local = fsspec.core.strip_protocol(path) if "://" in path and is_on_this_machine(path) else path
    if posixpath.splitext(file)[1][1:].lower() not in extensions or Path(local).is_dir():
        return None
    return open_tree(folder or ("/" if path.startswith("/") else ".")), file


def is_hidden(path: str, named: str = "") -> bool:
    """Whether a file is no data: `._x.jpg`, `.DS_Store` and the like, or in such a folder.

    Args:
        path: Of the file.
        named: A pattern whose own parts are meant, hidden or not.
    """
    parts = set(path.split("/")) - set(named.split("/"))
    return any(part.startswith(".") or part in _NOT_DATA for part in parts)


@dataclass(frozen=True)
class LocalTree:
    """Implements `Tree`.

    Attributes:
        root: The folder.
    """

    root: Path

    def told(self, name: str = "") -> str:
        """See `Tree`."""
        return as_text(str(self.root / name))

    def glob(self, pattern: str) -> Iterator[str]:
        """See `Tree`."""
        matches = re.compile(regex_of(pattern)).fullmatch
        found = files_matching(
            self.root,
            pattern.split("/"),
            lambda part: re.compile(regex_of(part)),
            lambda folder: is_hidden(folder, pattern),
        )
        return (name for name in found if matches(name))

    def find(self, name: str) -> str | None:
        """See `Tree`; each folder is listed once, and only if a name isn't there as it is."""
        if (self.root / name).is_file():
            return name
        folder = posixpath.dirname(name)
        return self._listed(folder).get(_plain(posixpath.basename(name)))

    def read(self, name: str, remedy: str = _LISTED) -> bytes:
        """See `Tree`."""
        return read_file(self.root / name, remedy)

    def open(self, name: str) -> BinaryIO:
        """See `Tree`."""
        try:
            return (self.root / name).open("rb")
        except OSError as error:
            raise MfsynthError(
                f"{self.told(name)}: {error.strerror or error}; check the path"
            ) from error

    def ends(self, names: Iterable[str], length: int) -> Iterator[tuple[int, bytes] | None]:
        """See `Tree`."""
        for name in names:
            try:
                with (self.root / name).open("rb") as file:
                    size = file.seek(0, 2)
                    file.seek(max(0, size - length))
                    yield size, file.read()
            except OSError:
                yield None

    def _listed(self, folder: str) -> dict[str, str]:
        found = self._folders.get(folder)
        if found is None:
            place = self.root / folder
            files = sorted(place.iterdir()) if place.is_dir() else []
            found = {
                _plain(path.name): posixpath.join(folder, path.name)
                for path in files
                if path.is_file()
            }
            self._folders[folder] = found
        return found

    @functools.cached_property
    def _folders(self) -> dict[str, dict[str, str]]:
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalTree, (self.root,)


@dataclass(frozen=True)
class StoreTree:
    """Implements `Tree`: listed once, as a whole.

    Attributes:
        url: Of the folder, for fsspec.
    """

    url: str

    def told(self, name: str = "") -> str:
        """See `Tree`."""
        return without_credentials(f"{self.url}/{name}" if name else self.url)

    def glob(self, pattern: str) -> Iterator[str]:
        """See `Tree`."""
        matches = re.compile(regex_of(pattern)).fullmatch
        return (name for name in self.sizes if matches(name))

    def find(self, name: str) -> str | None:
        """See `Tree`."""
        return name if name in self.sizes else self._plain.get(_plain(name))

    def read(self, name: str, remedy: str = _LISTED) -> bytes:
        """See `Tree`."""
        with self._reading(name, remedy) as (filesystem, path):
            data: bytes = filesystem.cat_file(path, start=0, end=Limit.BYTES.most + 1)
        if len(data) > Limit.BYTES.most:
            raise Limit.BYTES.refusal(self.told(name), "a longer file")
        return data

    def open(self, name: str) -> BinaryIO:
        """See `Tree`."""
        with self._reading(name, "check URL and access") as (filesystem, path):
            return cast(BinaryIO, filesystem.open(path, "rb"))

    def ends(self, names: Iterable[str], length: int) -> Iterator[tuple[int, bytes] | None]:
        """See `Tree`; asks for all of them at once."""
        wanted = list(names)
        there = [name for name in dict.fromkeys(wanted) if self.sizes.get(name)]
        found: dict[str, bytes] = {}
        if there:
            with self._reading("", "check URL and access") as (filesystem, root):
                parts = filesystem.cat_ranges(
                    [f"{root}/{name}" for name in there],
                    [max(0, self.sizes[name] - length) for name in there],
                    [self.sizes[name] for name in there],
                    on_error="return",
                )
            for name, part in zip(there, parts, strict=True):
                # What failed is read again by itself, so that it is named if it fails again.
                found[name] = part if isinstance(part, bytes) else self._end(name, length)
        for name in wanted:
            size = self.sizes.get(name)
            yield None if size is None else (size, found.get(name, b""))

    def _end(self, name: str, length: int) -> bytes:
        size = self.sizes[name]
        with self._reading(name, "check URL and access") as (filesystem, path):
            data: bytes = filesystem.cat_file(path, start=max(0, size - length), end=size)
        return data

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Of all files, by their names."""
        with self._reading("", "check URL and access") as (filesystem, root):
            found = filesystem.find(root, detail=True)
        return {
            path.removeprefix(root).lstrip("/"): int(about["size"] or 0)
            for path, about in found.items()
            if about.get("type") == "file"
        }

    @functools.cached_property
    def _plain(self) -> dict[str, str]:
        return {_plain(name): name for name in sorted(self.sizes)}

    @contextmanager
    def _reading(self, name: str, remedy: str) -> Iterator[tuple[Any, str]]:
        # Looked up every time: fsspec keeps connections for each process, so that a forked one
        # doesn't use its parent's.
        try:
            filesystem, root = fsspec.url_to_fs(self.url)
            yield filesystem, posixpath.normpath(posixpath.join(root, name)) if name else root
        except MfsynthError:
            raise
        except Exception as error:
            # Each backend has exceptions of its own; their texts may repeat the URL's secrets.
            raise MfsynthError(
                f"{self.told(name)}: cannot be read ({type(error).__name__}); {remedy}"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreTree, (self.url,)


def regex_of(pattern: str) -> str:
    """A pattern as a regular expression, with a group for each wildcard."""
    parts, position = [], 0
    for match in WILDCARD.finditer(pattern):
        parts.append(re.escape(pattern[position : match.start()]))
        token = match[0]
        if token.startswith("["):
            characters = token[1:-1].replace("[", r"\[").replace("!", "^", token.startswith("[!"))
            parts.append(f"([{characters}])")
        else:
            parts.append({"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}[token])
        position = match.end()
    rest = pattern[position:]
    extension = _EXTENSION.search(rest)
    at = extension.start() if extension else len(rest)
    return "".join([*parts, re.escape(rest[:at]), f"(?i:{re.escape(rest[at:])})"])


def _plain(name: str) -> str:
    stem, extension = posixpath.splitext(name)
    return stem + extension.lower()
