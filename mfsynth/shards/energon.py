"""A run's files for Megatron-Energon, in the store."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.documents.energon import SQLITE_KEY, EnergonIndex
from mfsynth.storage.store import ObjectStore


def has_energon(store: ObjectStore) -> bool:
    """Whether a run has anything of what Energon reads, also what a killed writer has begun."""
    if store.list(layout.ENERGON_FOLDER):
        return True
    return any(layout.tar_of_index(key) for key in store.list(layout.FOLDERS["tar"]))


def write_energon(store: ObjectStore, wanted: EnergonIndex) -> list[str]:
    """Write what Energon reads; returns the keys, but those beside the tars.

    Visible: each as a whole, the list of tars last. Idempotent.

    Raises:
        MfsynthError: It can't be written, to the store or, on the way there, to the local disk.
    """
    with tempfile.TemporaryDirectory(prefix="mfsynth-energon-") as folder:
        path = Path(folder) / "index.sqlite"
        try:
            wanted.write_database(path)
        except sqlite3.OperationalError as error:
            raise MfsynthError(
                f"can't write {SQLITE_KEY} in {tempfile.gettempdir()} first ({error}); free some "
                "there, or set TMPDIR to a larger disk, and run the same command again"
            ) from error
        store.put_file(path, SQLITE_KEY)
    documents = wanted.documents
    for key, data in documents.items():
        store.put_bytes(key, data)
    return [SQLITE_KEY, *(key for key in documents if layout.tar_of_index(key) is None)]


def stale_energon(store: ObjectStore, wanted: EnergonIndex) -> list[str]:
    """Keys of what Energon reads that is lacking, or not what the receipts come to."""
    documents = wanted.documents
    there = {*store.list(layout.ENERGON_FOLDER), *store.list(layout.FOLDERS["tar"])}
    found = store.read_many(key for key in documents if key in there)
    stale = [key for key, data in documents.items() if found.get(key) != data]
    if SQLITE_KEY in there:
        with store.local_copy(SQLITE_KEY) as path:
            if wanted.is_database(path):
                return stale
    return [*stale, SQLITE_KEY]
