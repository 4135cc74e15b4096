"""Writes a small run of real frames through the shard writer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mfsynth.config import settings_digest
from mfsynth.geometry import DepthKind
from mfsynth.shards import layout
from mfsynth.shards.commits import commit
from mfsynth.shards.records import CandidateRef, Quarantine, Reject, Sample
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo, open_run, run_sha256
from mfsynth.shards.tables import Declared, contents_of_run
from mfsynth.shards.writer import ShardSpool
from mfsynth.storage.store import ObjectStore

EVIL = '<script>alert("x")</script> & \'quoted\' \x00 \ud800 "ünïcode"'
"""What no page may take for its own."""

FRAMES = Path(__file__).parents[1] / "data" / "real_rgbd"
SHARD_SIZE = 8
SCORES = ("valid_fraction", "registration", "self_agreement")
CHECKS: Mapping[str, Any] = {
    "validity": {"min_valid_fraction": 0.5, "max_far_fraction": 0.005},
    "registration": {"min": 1.5},
    "flying_pixels": None,
    "self_agreement": {"max": 0.1},
}
SETTINGS = {
    "name": "real",
    "seed": 7,
    "sampler": {
        "mode": "joint",
        "steps": 30,
        "guidance": 4.0,
        "log2_alpha": 5.0,
        "refine_steps": 0,
    },
    "depth": "of the finished image",
    "checks": CHECKS,
}
SCORE_INFOS = {
    "valid_fraction": ScoreInfo("valid depth", note="share with a depth", limit=0.5),
    "registration": ScoreInfo("registration", note="shift-z", limit=1.5),
    "self_agreement": ScoreInfo("self agreement", "lower", limit=0.1),
}


def frames(side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """RGB and depth of the real frames, cut to squares and shrunk."""
    pairs = []
    for frame in json.loads((FRAMES / "frames.json").read_text(encoding="utf-8")):
        rgb = cv2.cvtColor(cv2.imread(str(FRAMES / frame["rgb"])), cv2.COLOR_BGR2RGB)
        depth = cv2.imread(str(FRAMES / frame["depth"]), cv2.IMREAD_UNCHANGED)[:, 80:560]
        small = cv2.resize(rgb[:, 80:560], (side, side), interpolation=cv2.INTER_AREA)
        near = cv2.resize(depth, (side, side), interpolation=cv2.INTER_NEAREST)
        pairs.append((small, near.astype(np.float32) / 1000))
    return pairs


def write_run(
    folder: Path,
    shards: int = 2,
    side: int = 48,
    prompt: str = "things on a table",
    score_infos: Mapping[str, ScoreInfo] = SCORE_INFOS,
    checks: Mapping[str, Any] = CHECKS,
) -> str:
    """A run in which, of every 8 candidates, 5 pass, 2 are rejected and 1 is quarantined."""
    store = ObjectStore.open(folder)
    settings = {**SETTINGS, "checks": checks}
    fingerprint = settings_digest(settings)
    run = layout.run_id("real", fingerprint)
    open_run(
        store,
        RunManifest(
            format_version=layout.WRITTEN_VERSIONS[0],
            run="real",
            fingerprint=fingerprint,
            settings=settings,
            config={**SETTINGS, "prompts": {"library": "tabletop"}},
            versions={},
            created="2026-01-02T03:04:05+00:00",
            model={"id": "embedded", "revision": "r1", "licence": "Apache-2.0"},
            scores=score_infos,
            **contents_of_run(dict.fromkeys(SCORES, "")),
        ),
    )
    pairs = frames(side)
    for shard in range(shards):
        first = shard * SHARD_SIZE
        with ShardSpool(
            run=run,
            run_sha256=run_sha256(store),
            shard=shard,
            attempt=layout.new_attempt(),
            first_candidate=first,
            candidates=SHARD_SIZE,
            declared=Declared(SCORES),
        ) as spool:
            for number in range(first, first + SHARD_SIZE):
                spool.add(_outcome(run, number, pairs[number % SHARD_SIZE % len(pairs)], prompt))
            spool.close()
            receipt = spool.upload(store, seconds={"generate": 10.0}, worker="w0")
        assert commit(store, receipt)
    return str(folder)


def _outcome(run: str, number: int, pair, prompt: str) -> Sample | Reject | Quarantine:
    ref = CandidateRef(
        sample_id=layout.sample_id(run, number),
        candidate=number,
        seed=number + 1000,
        prompt=prompt,
        prompt_id="0" * 16,
    )
    rgb, depth = pair
    place = number % SHARD_SIZE
    if place == 7:
        return Quarantine(ref, reason="worker died (signal 9)")
    if place >= 5:
        _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1])
        return Reject(
            ref,
            scores={"valid_fraction": 0.9, "registration": 0.82, "self_agreement": np.nan},
            reasons=("registration",),
            thumbnail_jpeg=jpeg.tobytes() if place == 5 else None,
        )
    return Sample(
        ref,
        rgb=rgb,
        depth=depth,
        scores={"valid_fraction": 0.9, "registration": 2.0 + number, "self_agreement": 0.05},
        mode="joint",
        model_id="embedded",
        depth_kind=DepthKind.SCALE_INVARIANT_Z,
        licence="apache-2.0",
    )
