"""What a report says of how a run was made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mfsynth.datasets import RGBDSample
from mfsynth.formatting import by_shards, counts
from mfsynth.shards.run_manifest import RunManifest
from mfsynth.shards.totals import Totals, by_count
from mfsynth.shards.words import (
    NO_GUARANTEE,
    camera_in_words,
    licence_of_models,
    licence_of_pairs,
    limits_by_hand,
    loosened_limits,
)

_DIGEST = re.compile(r"([0-9a-f]{12})[0-9a-f]{28,}")


def facts_of(
    manifest: RunManifest, shown: Sequence[RGBDSample], sums: Totals, index: pa.Table
) -> tuple[tuple[str, str], ...]:
    """Label and value of what made a run; what is not known is left out.

    Args:
        manifest: Of the run.
        shown: Some of its pairs.
        sums: Over its shards.
        index: The rows of all its pairs.
    """
    model, settings = manifest.model, manifest.settings
    sampler: Mapping[str, Any] = settings.get("sampler", {})
    prompts: Mapping[str, Any] = manifest.config.get("prompts") or {}
    source: Mapping[str, Any] = manifest.config.get("source") or {}
    steps = (
        ("steps", "steps"),
        ("refine_steps", "second-pass steps"),
        ("guidance", "guidance"),
        ("log2_alpha", "log2 α"),
    )
    kind = str(shown[0].depth_kind).replace("_", " ") if shown else None
    of = settings.get("depth")
    by_hand = "; ".join(limits_by_hand(manifest.scores, settings))
    facts = {
        "model": model.get("id"),
        # In full in run.json; of a folder it is made of digests.
        "revision": re.sub(
            r"([0-9a-f]{12})[0-9a-f]{28,}", r"\1…", str(model.get("revision") or "")
        ),
        "licence": licence_of_pairs(manifest, index),
        "licence of the model": licence_of_models(manifest) if "source" in settings else None,
        "mode": sampler.get("mode"),
        "sampler": ", ".join(f"{label} {sampler[key]}" for key, label in steps if key in sampler),
        "prompts": prompts.get("library") or prompts.get("file"),
        "source": source and (source.get("path") or source.get("url") or source.get("kind")),
        "image size": f"{shown[0].rgb.shape[1]} × {shown[0].rgb.shape[0]}" if shown else None,
        "depth": f"{kind}, {of}" if kind and of else kind,
        "camera": f"{camera}, assumed" if (camera := camera_in_words(settings)) else None,
        "loosened": "; ".join(loosened_limits(manifest.scores)),
        "set by hand": by_hand and f"{by_hand}: {NO_GUARANTEE}",
        "seed": settings.get("seed"),
        "device": by_shards(dict(by_count(sums.devices))),
        "done again": counts(
            {cause.replace("_", " "): number for cause, number in by_count(sums.retries)}
        ),
        "started": f"{manifest.created[:16].replace('T', ' ')} UTC",
        "made with": manifest.versions.get("mfsynth") and f"mfsynth {manifest.versions['mfsynth']}",
        "fingerprint": manifest.fingerprint[:16],
    }
    return tuple(
        (label, str(value)) for label, value in facts.items() if value not in (None, "", {})
    )
