"""A run made ready to be given away: `manifest.json`, `croissant.json`, `README.md`.

All three are functions of `run.json` and the commits, so they can be made again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import read_run
from mfsynth.shards.documents.card import data_card
from mfsynth.shards.documents.croissant import croissant
from mfsynth.shards.documents.manifest import build_manifest
from mfsynth.shards.drivers import read_all_commits
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt
from mfsynth.storage.store import ObjectStore


def finalize(store: ObjectStore) -> list[str]:
    """Write the three documents of a run; returns their keys.

    Visible: each as a whole, over its predecessor. Idempotent, and to be run again after the
    run was extended.

    Raises:
        MfsynthError: There is no run, nothing is committed, a shard is missing, or an index can't
            be read.
    """
    run = read_run(store)
    commits = read_all_commits(store)
    if not commits:
        raise MfsynthError(f"{store.url}: no shard is committed yet; run generate first")
    index = read_index(store, commits.values())
    manifest = build_manifest(run, commits, index)
    documents = {
        layout.MANIFEST_KEY: _json(manifest),
        layout.CROISSANT_KEY: _json(croissant(manifest, index.schema)),
        layout.CARD_KEY: data_card(manifest, run.scores, _pure(store, commits.values())),
    }
    for key, text in documents.items():
        store.put_bytes(key, text.encode())
    return list(documents)


def _pure(store: ObjectStore, receipts: Iterable[Receipt]) -> set[str]:
    """Kinds of objects of which only what is committed lies in their folders."""
    committed = {stored.key for receipt in receipts for stored in receipt.objects.values()}
    return {
        kind
        for kind, folder in layout.FOLDERS.items()
        if committed.issuperset(key for key in store.list(folder) if layout.parse_object_key(key))
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
