"""What lies in a store, as far as its implementation says."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mfsynth.storage.connection import Connection
from mfsynth.storage.errors import StoreError, no_such_bucket, or_none, with_retries
from mfsynth.storage.system_entries import has_system_entry, is_system_entry


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored object in a listing.

    Attributes:
        key: Key relative to the root of the store.
        size: Bytes.
        modified: When it was last written (UTC), or None where the store doesn't say.
        upload: Id of a multipart upload to `key` that was begun and not completed; None for an
            object.
    """

    key: str
    size: int
    modified: datetime | None
    upload: str | None = None


def entries_below(connection: Connection, prefix: str) -> Sequence[Entry]:
    """Everything below a folder (`""` = all), sorted by key."""
    path = connection.path(prefix)
    if connection.is_local or not connection.filesystem.async_impl:
        found = _entries(connection, _walk(connection, path))
    else:
        infos = or_none(lambda: connection.uncached.find(path, detail=True)) or {}
        if not infos:
            require_a_way_to(connection, prefix)
        if isinstance(infos, list):  # Azure's package means the path itself
            infos = {prefix: {"name": path, "type": "file"}}
        found = _entries(connection, infos.values())
    if any(entry.key == prefix for entry in found):
        raise StoreError(f"{connection.shown_url}/{prefix} is an object and not a folder")
    return found


def entries_at_top(connection: Connection) -> Sequence[Entry]:
    """The objects that lie in no folder of the store, sorted by key."""
    return _entries(connection, _children(connection, connection.path("")))


def keys_one_by_one(connection: Connection) -> Iterator[str]:
    """All keys in no order; what isn't asked for isn't listed."""
    for info in _walk(connection, connection.path("")):
        yield from (entry.key for entry in _entries(connection, [info]))


def description(connection: Connection, key: str) -> Mapping[str, Any] | None:
    """What the store says of an object, as fsspec has it; None if there is none.

    Raises:
        StoreError: There is a link that leads nowhere.
    """
    path = connection.path(key)
    if connection.is_local:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return _described(path, Path(path).stat())
        found: Mapping[str, Any] | None = None
    else:
        found = or_none(lambda: connection.uncached.info(path))
    if found is None:
        require_a_way_to(connection, key)
    return found


def require_a_way_to(connection: Connection, key: str) -> None:
    """Tell what isn't there from what can't be seen.

    Raises:
        StoreError: The object of this key, or a folder above it, is a link to nothing.
        StoreRefusedError: There is no such bucket. S3 says so itself; Azure's and Google's
            packages take it for one without objects.
    """
    if connection.is_local:
        root, path = Path(connection.path("")), Path(connection.path(key))
        for place in (path, *path.parents):
            if place.is_symlink() and not place.exists():
                raise _dead(str(place))
            if place == root:
                return
    elif not _has_bucket(connection):
        raise no_such_bucket(connection.url)


def _has_bucket(connection: Connection) -> bool:
    bucket = connection.root.partition("/")[0]
    if connection.is_azure:
        return bool(connection.uncached.exists(bucket))
    if connection.is_gcs:
        # Asks for the right to list objects, not for that to see buckets.
        question = ("GET", "b/{}/o", bucket)
        call = connection.filesystem.call
        return or_none(lambda: call(*question, maxResults=1, json_out=True)) is not None
    return True


def unfinished_uploads(connection: Connection) -> Sequence[Entry]:
    """Multipart uploads that were begun and not completed, of an S3 store."""
    filesystem = connection.filesystem
    bucket, folder, _ = filesystem.split_path(f"{connection.root}/")
    question: dict[str, Any] = {"Bucket": bucket, "Prefix": folder}
    entries: list[Entry] = []
    while True:
        page = with_retries(lambda: filesystem.call_s3("list_multipart_uploads", **question))
        for upload in page.get("Uploads", []):
            key = upload["Key"][len(folder) :]
            entries.append(Entry(key, 0, upload["Initiated"], upload["UploadId"]))
        if not page.get("IsTruncated"):
            return entries
        question["KeyMarker"] = page["NextKeyMarker"]
        question["UploadIdMarker"] = page["NextUploadIdMarker"]


def modified(info: Mapping[str, Any]) -> datetime | None:
    """When the object that fsspec describes so was last written (UTC); None if it doesn't say."""
    for name in ("LastModified", "mtime", "modified", "last_modified", "created"):
        when = info.get(name)
        if isinstance(when, datetime):
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        if isinstance(when, (int, float)):
            return datetime.fromtimestamp(when, UTC)
    return None


def _children(connection: Connection, path: str) -> Sequence[Mapping[str, Any]]:
    if connection.is_local:
        return _local_children(connection, path)
    found = or_none(lambda: connection.uncached.ls(path, detail=True)) or []
    if not found:
        require_a_way_to(connection, connection.key(path))
    return [_resolved(connection, info) for info in found]


def _local_children(connection: Connection, path: str) -> Sequence[Mapping[str, Any]]:
    """A folder's entries, links followed; none if there is no such folder.

    fsspec's own listing takes links for nothing that it knows, and leaves out what leads nowhere.
    """
    found = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_system_entry(entry.name):
                    continue
                if (status := _status(entry)) is not None:
                    found.append(_described(entry.path, status))
    except FileNotFoundError:
        require_a_way_to(connection, connection.key(path))
        return []
    return sorted(found, key=lambda info: info["name"])


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What it is, or what the link leads to; None if it was removed since the folder was read."""
    try:
        return entry.stat()
    except FileNotFoundError:
        if Path(entry.path).is_symlink():
            raise _dead(entry.path) from None
        return None
    except OSError as error:
        raise StoreError(f"can't look at {entry.path}: {error.strerror or error}") from error


def _described(path: str, status: os.stat_result) -> Mapping[str, Any]:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}
    return {
        "name": path,
        "type": kinds.get(stat.S_IFMT(status.st_mode), "other"),
        "size": status.st_size,
        "mtime": status.st_mtime,
        "id": (status.st_dev, status.st_ino),
    }


def _resolved(connection: Connection, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a listing shows of a link is the link; asked for it by name, stores follow it."""
    if info["type"] in ("file", "directory"):
        return info
    found: Mapping[str, Any] = with_retries(lambda: connection.uncached.info(info["name"]))
    return {**found, "name": info["name"]}


def _walk(
    connection: Connection, path: str, above: tuple[object, ...] = ()
) -> Iterator[Mapping[str, Any]]:
    # fsspec's own walk takes a folder that it can't read for an empty one.
    for info in (children := _children(connection, path)):
        if info["type"] != "directory":
            yield info
    for info in children:
        if info["type"] == "directory" and info["name"].rstrip("/") != path.rstrip("/"):
            identity = info.get("id", info["name"])
            if identity in above:
                raise StoreError(f"{info['name']} is a link to a folder that it lies in; remove it")
            yield from _walk(connection, info["name"], (*above, identity))


def _entries(connection: Connection, found: Iterable[Mapping[str, Any]]) -> Sequence[Entry]:
    entries = []
    for info in found:
        key, kind = connection.key(info["name"]), info.get("type", "file")
        if kind not in ("file", "directory"):
            raise StoreError(
                f"{connection.shown_url}/{key} is neither a file nor a folder; remove it"
            )
        # Consoles of S3 show folders by empty objects whose names end in a slash.
        if kind == "file" and key and not key.endswith("/") and not has_system_entry(key):
            entries.append(Entry(key, int(info.get("size") or 0), modified(info)))
    return sorted(entries, key=lambda entry: entry.key)


def _dead(path: str) -> StoreError:
    return StoreError(f"{path} is a link to what isn't there; bring that back, or remove the link")
