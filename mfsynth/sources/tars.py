"""Members of tar files at any path or fsspec URL, by position."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass

import fsspec
from webdataset.shardlists import expand_urls

from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials


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
        return without_credentials(self.path)

    def read(self, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length`.

        Raises:
            MfsynthError: They can't be read, or the file ends before.
        """
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
                return [(m.name, m.offset_data, m.size) for m in tar if m.isfile()]
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
        pattern: Path or fsspec URL; {000..127} counts, *, ? and [] match what is there.

    Raises:
        MfsynthError: Nothing matches, or the file system can't be listed.
    """
    shown = without_credentials(pattern)
    found: list[TarFile] = []
    for url in expand_urls(pattern):
        try:
            filesystem, path = fsspec.url_to_fs(url)
            wild = any(character in path for character in "*?[")
            paths = sorted(filesystem.glob(path)) if wild else [path]
        except Exception as error:
            raise MfsynthError(
                f"{shown}: cannot be listed ({type(error).__name__}); check URL and access"
            ) from error
        found += [TarFile(url, path) for path in paths]
    if not found:
        raise MfsynthError(f"{shown}: no tar file matches; check the pattern")
    return found
