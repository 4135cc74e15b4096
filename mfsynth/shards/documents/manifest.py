"""`manifest.json`: what a data set is and which files it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from mfsynth.shards import tables
from mfsynth.shards.quantisation import FORMULAS
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE, Receipt
from mfsynth.shards.run_manifest import RunManifest
from mfsynth.shards.totals import by_count, totals
from mfsynth.shards.words import licence_of_pairs

CONVENTIONS = {
    "rgb": "JPEG, 8 bits, sRGB",
    "depth": "16-bit greyscale PNG; codes decode by the sample's own encoding",
    "depth_measure": "z-depth along the optical axis, not ray distance",
    "depth_formulas": {str(scale): formula for scale, formula in FORMULAS.items()},
    "camera_axes": "OpenCV: x right, y down, z forward",
    "pixel_centres": "integer: the centre of an image is ((width - 1) / 2, (height - 1) / 2)",
}


def build_manifest(
    run: RunManifest, commits: Mapping[int, Receipt], index: pa.Table
) -> dict[str, Any]:
    """The content of `manifest.json`.

    Args:
        run: What the run is.
        commits: Its receipts by shard.
        index: The joined index of all of them.
    """
    sums = totals(commits.values())
    widths, heights = index["width"].to_pylist(), index["height"].to_pylist()
    models = [{"id": model} for model in _distinct(index, "model_id")]
    # Of format version 1, whose `run.json` names none, they are those that all versions have.
    rejects = tables.rejects_schema(tables.Declared.by(index.column_names), first_version=True)
    if run.reject_columns:
        rejects = tables.described_schema(run.reject_columns)
    return {
        "format_version": run.format_version,
        "run": run.run,
        "fingerprint": run.fingerprint,
        "settings": run.settings,
        "versions": run.versions,
        "created": run.created,
        "last_commit": max(receipt.created for receipt in commits.values()),
        "licence": licence_of_pairs(run, index),
        **_source_licences(index),
        "models": [dict(run.model)] if run.model else models,
        **({"estimator": dict(run.estimator)} if run.estimator else {}),
        "digital_source_type": _source_type(run, index),
        "counts": {
            "shards": sums.shards,
            "candidates": sums.candidates,
            "pairs": sums.accepted,
            "rejected": sums.rejected,
            "quarantined": sums.quarantined,
            "rejected_by_reason": dict(by_count(sums.reasons)),
            "bytes": sums.size,
        },
        "modes": _distinct(index, "mode"),
        "depth_kinds": _distinct(index, "depth_kind"),
        "sizes": sorted({*zip(widths, heights, strict=True)}),
        "conventions": CONVENTIONS,
        "scores": tables.Declared.by(index.column_names).scores,
        "index_columns": _columns(index.schema),
        "rejects_columns": _columns(rejects),
        "shards": [described(receipt) for receipt in commits.values()],
    }


def _source_licences(index: pa.Table) -> dict[str, Any]:
    if "source_licence" not in index.column_names:
        return {}
    return {"source_licences": _distinct(index, "source_licence")}


def _source_type(run: RunManifest, index: pa.Table) -> str:
    """How images came to be; several kinds in their order, those that don't say left out."""
    if "source" not in run.settings:
        return DIGITAL_SOURCE_TYPE
    return ", ".join(filter(None, _distinct(index, "digital_source_type")))


def _distinct(index: pa.Table, column: str) -> list[str]:
    return sorted({*index[column].to_pylist()})


def _columns(schema: pa.Schema) -> list[dict[str, Any]]:
    return [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in schema]


def described(receipt: Receipt) -> dict[str, Any]:
    """What `manifest.json` says of a shard."""
    return {
        "shard": receipt.shard,
        "first_candidate": receipt.first_candidate,
        "candidates": receipt.candidates,
        "pairs": receipt.accepted,
        **{kind: asdict(stored) for kind, stored in receipt.objects.items()},
    }
