"""A run made ready to be given away: `manifest.json`, `croissant.json`, `README.md`.

All three are functions of `run.json` and the commits, so they can be made again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.errors import MfsynthError
from mfsynth.shards import cards, layout, tables
from mfsynth.shards.codecs import FORMULAS
from mfsynth.shards.commits import RunManifest, gaps, read_commits, read_run
from mfsynth.shards.records import Receipt
from mfsynth.shards.status import listed
from mfsynth.shards.totals import by_count, totals
from mfsynth.shards.writer import DIGITAL_SOURCE_TYPE
from mfsynth.storage.store import ObjectStore

CONVENTIONS = {
    "rgb": "JPEG, 8 bits, sRGB",
    "depth": "16-bit greyscale PNG; codes decode by the sample's own encoding",
    "depth_measure": "z-depth along the optical axis, not ray distance",
    "depth_formulas": {str(scale): formula for scale, formula in FORMULAS.items()},
    "camera_axes": "OpenCV: x right, y down, z forward",
    "pixel_centres": "integer: the centre of an image is ((width - 1) / 2, (height - 1) / 2)",
}


def finalize(store: ObjectStore) -> list[str]:
    """Write the three documents of a run; returns their keys.

    Visible: each as a whole, over its predecessor. Idempotent, and to be run again after the
    run was extended.

    Raises:
        MfsynthError: There is no run, nothing is committed, a shard is missing in between, or
            an index can't be read.
    """
    run = read_run(store)
    commits = read_commits(store)
    if not commits:
        raise MfsynthError(f"{store.url}: no shard is committed yet; run generate first")
    if missing := gaps(commits):
        raise MfsynthError(
            f"{store.url}: {listed(missing)} missing; start the run again to fill the gaps"
        )
    index = _index_table(store, commits)
    manifest = build_manifest(run, commits, index)
    documents = {
        layout.MANIFEST_KEY: _json(manifest),
        layout.CROISSANT_KEY: _json(cards.croissant(manifest, index.schema)),
        layout.CARD_KEY: cards.data_card(manifest, run.scores),
    }
    for key, text in documents.items():
        store.put_bytes(key, text.encode())
    return list(documents)


def build_manifest(
    run: RunManifest, commits: Mapping[int, Receipt], index: pa.Table
) -> dict[str, Any]:
    """The content of `manifest.json`; `index` needs the columns of `_SUMMARISED`."""
    sums = totals(commits.values())
    distinct = {name: sorted(set(index[name].to_pylist())) for name in _SUMMARISED[:-2]}
    return {
        "format_version": run.format_version,
        "run": run.run,
        "fingerprint": run.fingerprint,
        "settings": run.settings,
        "versions": run.versions,
        "created": run.created,
        "last_commit": max(receipt.created for receipt in commits.values()),
        "licence": run.model.get("licence"),
        "models": [dict(run.model)] if run.model else [{"id": m} for m in distinct["model_id"]],
        "digital_source_type": DIGITAL_SOURCE_TYPE,
        "counts": {
            "shards": sums.shards,
            "candidates": sums.candidates,
            "pairs": sums.accepted,
            "rejected": sums.rejected,
            "quarantined": sums.quarantined,
            "rejected_by_reason": dict(by_count(sums.reasons)),
            "bytes": sums.size,
        },
        "modes": distinct["mode"],
        "depth_kinds": distinct["depth_kind"],
        "sizes": sorted(
            {(w, h) for w, h in zip(*(index[n].to_pylist() for n in _SUMMARISED[-2:]), strict=True)}
        ),
        "conventions": CONVENTIONS,
        "scores": tables.score_names(index.schema),
        "index_columns": _columns(index.schema),
        "rejects_columns": _columns(tables.rejects_schema(tables.score_names(index.schema))),
        "shards": [_shard(receipt) for receipt in commits.values()],
    }


_SUMMARISED = ("mode", "depth_kind", "model_id", "width", "height")


def _index_table(store: ObjectStore, commits: Mapping[int, Receipt]) -> pa.Table:
    parts = []
    for receipt in commits.values():
        key = receipt.objects["index"].key
        try:
            with store.local_copy(key) as path:
                parts.append(pq.read_table(path, partitioning=None))
        except (FileNotFoundError, pa.ArrowException) as error:
            raise MfsynthError(
                f"{store.url}/{key} is missing or damaged; `mfsynth verify` says what else is"
            ) from error
    return pa.concat_tables(parts)


def _columns(schema: pa.Schema) -> list[dict[str, Any]]:
    return [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in schema]


def _shard(receipt: Receipt) -> dict[str, Any]:
    return {
        "shard": receipt.shard,
        "first_candidate": receipt.first_candidate,
        "candidates": receipt.candidates,
        "pairs": receipt.accepted,
        **{kind: asdict(stored) for kind, stored in receipt.objects.items()},
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
