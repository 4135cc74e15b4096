"""What `gc` will delete, and from when on: between the two, drivers learn of it.

A tombstone is a permission, not a fact: what it names is looked for among the receipts again
before it is deleted, and no driver commits what one names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.storage.exclusive import CLAIMS, PART_SUFFIX, is_part
from mfsynth.storage.listing import Entry
from mfsynth.storage.store import ObjectStore

FOLDERS = (
    *layout.FOLDERS.values(),
    layout.COMMITS_FOLDER,
    layout.SEGMENTS_FOLDER,
    layout.DRIVERS_FOLDER,
    layout.TOMBSTONES_FOLDER,
    layout.LOGS_FOLDER,
    layout.VIEWS_FOLDER,
    layout.ENERGON_FOLDER,
)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What may be deleted of a run, and when.

    Attributes:
        key: Of the tombstone.
        due: From when on, by the store's clock.
        entries: What.
    """

    key: str
    due: datetime
    entries: tuple[Entry, ...]


def may_be_deleted(key: str, *, is_upload: bool = False) -> bool:
    """Whether it is of what mfsynth writes and deletes: a stranger's file is not ours.

    Args:
        key: Of an object.
        is_upload: Whether it is an upload that was begun and not completed.
    """
    folder = key.rpartition("/")[0]
    if key.endswith(PART_SUFFIX):
        return is_part(key) and _may_have_parts(folder)
    if is_upload and (key in layout.DOCUMENT_KEYS or folder == layout.ENERGON_FOLDER):
        return True
    names = (
        layout.parse_object_key(key),
        layout.parse_segment_key(key),
        layout.tar_of_index(key),
    )
    is_known = any(name is not None for name in names)
    return is_known or layout.is_heartbeat(key) or layout.is_view_document(key)


def _may_have_parts(folder: str) -> bool:
    folder = f"/{folder}/".partition(f"/{CLAIMS}/")[0].strip("/")
    return folder in ("", *FOLDERS) or layout.is_view_document(f"{folder}/{layout.MANIFEST_KEY}")


def put_tombstone(
    store: ObjectStore, entries: Sequence[Entry], made: datetime, due: datetime
) -> Tombstone:
    """Name what will be deleted. Visible: when it returns."""
    tombstone = Tombstone(layout.new_tombstone(made), due, tuple(entries))
    objects = [{"key": e.key, "size": e.size, "upload": e.upload} for e in entries]
    document = {"due": due.isoformat(), "objects": objects}
    store.put_bytes(tombstone.key, (json.dumps(document, indent=1) + "\n").encode())
    return tombstone


def read_tombstones(store: ObjectStore) -> list[Tombstone]:
    """All of a run, oldest first.

    Raises:
        MfsynthError: One can't be read, or names what isn't the run's.
    """
    keys = [key for key in store.list(layout.TOMBSTONES_FOLDER) if layout.is_tombstone(key)]
    found = []
    for key in keys:
        try:
            found.append(_parsed(key, store.read_bytes(key)))
        except FileNotFoundError:
            pass  # done with by another gc since it was listed
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise MfsynthError(
                f"{store.url}/{key}: not a tombstone ({str(error)[:100]}); remove it"
            ) from error
    return found


def condemned_keys(store: ObjectStore) -> set[str]:
    """Keys of the objects that tombstones name.

    Raises:
        MfsynthError: A tombstone can't be read.
    """
    return {e.key for t in read_tombstones(store) for e in t.entries if e.upload is None}


def _parsed(key: str, data: bytes) -> Tombstone:
    document = strict_json(data)
    due = datetime.fromisoformat(document["due"])
    if due.tzinfo is None:
        raise ValueError("its time has no zone")
    entries = []
    for found in document["objects"]:
        name, size, upload = found["key"], found["size"], found["upload"]
        if not isinstance(name, str) or not _may_be_named(name, is_upload=upload is not None):
            raise ValueError(f"{name!r} is not gc's to delete")
        if type(size) is not int or not isinstance(upload, str | None):
            raise ValueError("size or upload is of the wrong type")
        entries.append(Entry(name, size, None, upload))
    return Tombstone(key, due, tuple(entries))


def _may_be_named(key: str, *, is_upload: bool) -> bool:
    if may_be_deleted(key, is_upload=is_upload):
        return True
    # Earlier versions marked whatever had this ending; it is not deleted any more.
    return key.endswith(PART_SUFFIX) and _may_have_parts(key.rpartition("/")[0])
