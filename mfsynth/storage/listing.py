"""What lies in a store, as far as its implementation says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mfsynth.storage.connection import Connection
from mfsynth.storage.errors import or_none, with_retries


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
    if not connection.filesystem.async_impl:
        return _entries(connection, _walk(connection, path))
    found = or_none(lambda: connection.uncached.find(path, detail=True))
    return _entries(connection, (found or {}).values())


def entries_at_top(connection: Connection) -> Sequence[Entry]:
    """The objects that lie in no folder of the store, sorted by key."""
    return _entries(connection, _children(connection, connection.root))


def keys_one_by_one(connection: Connection) -> Iterator[str]:
    """All keys in no order; what isn't asked for isn't listed."""
    for info in _walk(connection, connection.root):
        yield from (entry.key for entry in _entries(connection, [info]))


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
    return or_none(lambda: connection.uncached.ls(path, detail=True)) or []


def _walk(connection: Connection, path: str) -> Iterator[Mapping[str, Any]]:
    # fsspec's own walk takes a folder that it can't read for an empty one.
    for info in (children := _children(connection, path)):
        if info["type"] != "directory":
            yield info
    for info in children:
        if info["type"] == "directory" and info["name"].rstrip("/") != path.rstrip("/"):
            yield from _walk(connection, info["name"])


def _entries(connection: Connection, found: Iterable[Mapping[str, Any]]) -> Sequence[Entry]:
    entries = []
    for info in found:
        key = connection.key(info["name"])
        # Consoles of S3 show folders by empty objects whose names end in a slash.
        if info.get("type", "file") == "file" and key and not key.endswith("/"):
            entries.append(Entry(key, int(info.get("size") or 0), modified(info)))
    return sorted(entries, key=lambda entry: entry.key)
