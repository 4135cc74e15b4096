"""A view made ready to be given away: its rows as one table, and the three documents about it.

They are functions of `run.json`, the commits and the view, so they can be made again at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from mfsynth.config.documents import json_document
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.documents.card import data_card
from mfsynth.shards.documents.croissant import croissant
from mfsynth.shards.documents.manifest import build_manifest
from mfsynth.shards.documents.seal import open_sealed, seal
from mfsynth.shards.drivers import read_counted_commits
from mfsynth.shards.reading import read_moderate
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo, read_run
from mfsynth.shards.selection import RETURNED, reasons_in, view_rows
from mfsynth.shards.tables import write_parquet
from mfsynth.shards.totals import by_count
from mfsynth.shards.views import View, read_view
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.store import ObjectStore

TAR = "tar"
"""The column of the rows that an index hasn't: the key of the tar that the pair lies in."""


def finalize_view(store: ObjectStore, name: str) -> list[str]:
    """Write the rows and the documents of a view; returns their keys.

    Visible: each as a whole, over its predecessor. Idempotent.

    Raises:
        MfsynthError: There is no such view, or it is of other shards than are committed.
    """
    run, view = read_run(store), read_view(store, name)
    receipts = read_counted_commits(store)
    rows = _rows(store, view, receipts)
    sink = pa.BufferOutputStream()
    write_parquet(rows, sink)
    made = _documents(store, run, view, receipts, rows, sink.getvalue().to_pybytes())
    for key, data in made.items():
        store.put_bytes(key, data)
    return list(made)


def view_document_problems(
    store: ObjectStore, run: RunManifest, views: Iterable[View], receipts: Mapping[int, Receipt]
) -> list[str]:
    """What is wrong with the documents of views that are of these shards, one line each."""
    problems = []
    for view in views:
        try:
            view.receipts_of(receipts)
        except MfsynthError:
            continue  # of the view, which is told of
        try:
            stale = documents_of_view(store, run, view, receipts)[1]
        except MfsynthError as error:
            problems.append(str(error).removeprefix(f"{store.url}/"))
            continue
        problems += [
            f"{key}: is not what the view comes to: it was changed or removed, or the view made "
            f"anew; `mfsynth finalize --view {view.name}` writes it anew"
            for key in stale
        ]
    return problems


def documents_of_view(
    store: ObjectStore, run: RunManifest, view: View, receipts: Mapping[int, Receipt]
) -> tuple[dict[str, bytes], list[str]]:
    """The documents of a view that are what the view comes to; keys of the others.

    Of those that aren't there, too, if the manifest was written with them.

    Args:
        store: Of the run.
        run: What it is.
        view: Of shards that are committed.
        receipts: Of all of them.
    """
    found = {}
    for key in layout.view_document_keys(view.name).values():
        with contextlib.suppress(FileNotFoundError):
            found[key] = store.read_bytes(key)
    if not found:
        return {}, []
    keys = layout.view_document_keys(view.name)
    own = view.receipts_of(receipts)
    sealed = open_sealed(layout.MANIFEST_KEY, found.get(keys[layout.MANIFEST_KEY], b""))
    if sealed is not None and sealed.is_of(run.fingerprint, own):
        said = sealed.manifest.get("view")
        if isinstance(said, Mapping) and said.get("sha256") == sha256_of_bytes(view.to_bytes()):
            names = {key: name for name, key in keys.items()}
            right = {k: data for k, data in found.items() if sealed.holds(names[k], data)}
            lacking = [keys[name] for name in sealed.lacking([names[key] for key in found])]
            return right, [key for key in found if key not in right] + lacking
    rows = _rows(store, view, receipts)
    key = keys[layout.VIEW_ROWS]
    stored = found.get(key, b"")
    made = _documents(store, run, view, receipts, rows, stored)
    # Of the same rows another version of Parquet makes other bytes.
    sound = {name: data for name, data in found.items() if made[name] == data}
    if key in sound and not _holds(stored, rows):
        del sound[key]
    return sound, [name for name in found if name not in sound]


def _holds(data: bytes, rows: pa.Table) -> bool:
    try:
        return bool(read_moderate(pa.BufferReader(data), layout.VIEW_ROWS).equals(rows))
    except (pa.ArrowException, OSError, ValueError, MfsynthError):
        return False


def _rows(store: ObjectStore, view: View, receipts: Mapping[int, Receipt]) -> pa.Table:
    rows = view_rows(store, view, receipts)
    keys = [
        receipts[shard].objects[layout.REJECTED_TAR if returned else "tar"].key
        for shard, returned in zip(
            rows["shard"].to_pylist(), rows[RETURNED].to_pylist(), strict=True
        )
    ]
    return rows.append_column(TAR, pa.array(keys, pa.string())).combine_chunks()


def _documents(
    store: ObjectStore,
    run: RunManifest,
    view: View,
    receipts: Mapping[int, Receipt],
    rows: pa.Table,
    data: bytes,
) -> dict[str, bytes]:
    """The documents by their keys.

    Args:
        store: Of the run.
        run: What the run is.
        view: Of the run.
        receipts: Of all its shards.
        rows: Of the view.
        data: The same as Parquet.
    """
    keys = layout.view_document_keys(view.name)
    own = view.receipts_of(receipts)
    manifest = build_manifest(run, {receipt.shard: receipt for receipt in own}, rows)
    counts = manifest["counts"]
    counts |= {
        "pairs": view.pairs,
        "rejected": counts["candidates"] - counts["quarantined"] - view.pairs,
        "rejected_by_reason": dict(by_count(reasons_in(store, view, own))),
        "returned": view.returned,
    }
    manifest["view"] = {
        "name": view.name,
        "rules": view.rules.text(),
        "sha256": sha256_of_bytes(view.to_bytes()),
        "rows": {
            "key": layout.VIEW_ROWS,
            "size": len(data),
            "sha256": sha256_of_bytes(data),
        },
    }
    others = {
        layout.VIEW_ROWS: data,
        layout.CROISSANT_KEY: json_document(croissant(manifest, rows.schema)),
        layout.CARD_KEY: data_card(manifest, limits_of(run, view)).encode(),
    }
    made = {**others, layout.MANIFEST_KEY: seal(manifest, others)}
    return {keys[name]: text for name, text in made.items()}


def limits_of(run: RunManifest, view: View) -> dict[str, ScoreInfo]:
    """What a run says of its scores, with the limits of a view in place of its own."""
    changed = {
        name: replace(
            run.score(name),
            limit=bound.value,
            direction="higher" if bound.is_minimum else "lower",
        )
        for name, bound in view.rules.limits.items()
    }
    return {**run.scores, **changed}
