"""A run made ready to be given away: `manifest.json`, `croissant.json`, `README.md`.

All three are functions of `run.json` and the commits, so they can be made again at any time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping

import pyarrow as pa

from mfsynth.config.documents import json_document
from mfsynth.errors import MfsynthError
from mfsynth.formatting import one_line
from mfsynth.shards import layout
from mfsynth.shards.compaction import compact
from mfsynth.shards.documents.card import data_card, first_card
from mfsynth.shards.documents.croissant import croissant
from mfsynth.shards.documents.energon import EnergonIndex
from mfsynth.shards.documents.manifest import build_manifest
from mfsynth.shards.documents.seal import open_sealed, seal
from mfsynth.shards.drivers import read_all_commits
from mfsynth.shards.energon import has_energon, stale_energon, write_energon
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, read_run
from mfsynth.storage.store import ObjectStore

_log = logging.getLogger(__name__)


def finalize(store: ObjectStore, *, energon: bool = False) -> list[str]:
    """Write the three documents of a run, and the segments that it lacks; returns their keys.

    What Energon reads is written if it is asked for, or is there.

    Visible: each as a whole, over its predecessor. Idempotent, and to be run again after the
    run was extended. A segment that can't be written is logged, and no matter.

    Raises:
        MfsynthError: There is no run, nothing is committed, a shard is missing, or an index can't
            be read.
    """
    run = read_run(store)
    commits = read_all_commits(store)
    if not commits:
        raise MfsynthError(f"{store.url}: no shard is committed yet; start the run first")
    index = read_index(store, commits.values())
    documents = run_documents(run, commits, index, _pure(store, commits.values()))
    for key, data in documents.items():
        store.put_bytes(key, data)
    written = [*documents]
    if energon or has_energon(store):
        written += write_energon(store, EnergonIndex(commits, index))
    # Of an earlier version no more is written than it knew of.
    if run.format_version in layout.WRITTEN_VERSIONS:
        problems = [problem for _, problem in compact(store, commits) if problem]
        if problems:
            _log.warning("%s", one_line(f"{store.url}: not compacted: {problems[0]}"))
    return written


def run_documents(
    run: RunManifest, commits: Mapping[int, Receipt], index: pa.Table, pure: Collection[str]
) -> dict[str, bytes]:
    """The three documents by their keys: a function of the run and nothing else.

    Args:
        run: What the run is.
        commits: Its receipts by shard; at least one.
        index: The joined index of all of them.
        pure: See `data_card`.
    """
    manifest = build_manifest(run, commits, index)
    others = {
        layout.CROISSANT_KEY: json_document(croissant(manifest, index.schema)),
        layout.CARD_KEY: data_card(manifest, run.scores, pure).encode(),
    }
    return {**others, layout.MANIFEST_KEY: seal(manifest, others)}


def document_problems(
    store: ObjectStore, run: RunManifest, commits: Mapping[int, Receipt]
) -> list[str]:
    """What is wrong with the documents, one line each; as `stale_documents`."""
    stale = stale_documents(store, run, commits)
    if has_energon(store):
        index = read_index(store, commits.values(), from_segments=False)
        stale += stale_energon(store, EnergonIndex(commits, index))
    return [
        f"{key}: is not what the receipts come to: it was changed or removed, or shards were "
        "added since; `mfsynth finalize` writes it anew"
        for key in stale
    ]


def stale_documents(
    store: ObjectStore, run: RunManifest, commits: Mapping[int, Receipt]
) -> list[str]:
    """Keys of the documents that aren't what the receipts come to, or aren't there.

    The latter if the manifest was written with them.

    Args:
        store: The run.
        run: What it is.
        commits: Its receipts, whose indexes can be read.
    """
    found = {}
    for key in layout.DOCUMENT_KEYS:
        with contextlib.suppress(FileNotFoundError):
            found[key] = store.read_bytes(key)
    if not commits or not found:
        return []
    firsts = {first_card(run).encode()}
    card = found.get(layout.CARD_KEY, b"")
    if layout.MANIFEST_KEY not in found and run.fingerprint.encode() in card:
        # The run may have been begun by a version that had other words for it.
        firsts.add(card)
    sealed = open_sealed(layout.MANIFEST_KEY, found.get(layout.MANIFEST_KEY, b""))
    if sealed is not None and sealed.is_of(run.fingerprint, commits.values()):
        changed = [
            key
            for key, data in found.items()
            if not sealed.holds(key, data) and not (key == layout.CARD_KEY and data in firsts)
        ]
        return changed + sealed.lacking(found)
    index = read_index(store, commits.values(), from_segments=False)
    # Uncommitted objects come and go; the card says of each kind whether there were any.
    kinds = ("index", "rejects")
    choices = [(), *((kind,) for kind in kinds), kinds]
    made = [run_documents(run, commits, index, pure) for pure in choices]
    right = {key: {documents[key] for documents in made} for key in found}
    right.setdefault(layout.CARD_KEY, set()).update(firsts)
    return [key for key, data in found.items() if data not in right[key]]


def _pure(store: ObjectStore, receipts: Iterable[Receipt]) -> set[str]:
    """Kinds of objects of which only what is committed lies in their folders."""
    committed = {stored.key for receipt in receipts for stored in receipt.objects.values()}
    return {
        kind
        for kind, folder in layout.FOLDERS.items()
        if committed.issuperset(key for key in store.list(folder) if layout.parse_object_key(key))
    }
