"""A small report with every kind of content."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from browser import browsing, found
from conftest_run import EVIL
from required import require

from mfsynth.geometry import DepthKind
from mfsynth.reports import images
from mfsynth.reports.content import (
    Card,
    QuarantineCard,
    ReasonCount,
    RunReport,
    ShardRow,
    SlotTable,
    score_cells,
)
from mfsynth.reports.histogram import draw_depths, draw_histogram
from mfsynth.reports.pictures import pictures_of
from mfsynth.shards.acceptance import ValueAcceptance
from mfsynth.shards.run_manifest import ScoreInfo


@pytest.fixture
def depth():
    depth = np.linspace(1, 3, 64 * 48, dtype=np.float32).reshape(48, 64)
    depth[:5, :5] = 0
    return depth


@pytest.fixture
def report(depth):
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    scores = {name: ScoreInfo(name) for name in ("self_agreement", "some_other_score")}
    scores["registration"] = ScoreInfo("registration", note="shift-z", limit=1.5)
    sample = SimpleNamespace(
        rgb=rgb, depth=depth, depth_kind=DepthKind.SCALE_INVARIANT_Z, intrinsics=None
    )
    pair = Card(
        sample_id="run-000000000",
        candidate=0,
        prompt=EVIL,
        seed=1,
        scores=score_cells({"registration": 2.0, "self_agreement": math.nan}, scores.__getitem__),
        slots={EVIL: (EVIL,)},
        pictures=pictures_of([sample])[0],
        shard=0,
        reproduce=EVIL,
    )
    _, jpeg = cv2.imencode(".jpg", rgb)
    thumbnail = images.data_uri(jpeg.tobytes(), "image/jpeg")
    rejects = tuple(
        replace(
            pair,
            sample_id=f"run-00000000{number}",
            candidate=number,
            pictures=None,
            thumbnail_uri=uri,
            reasons=("registration 0.82 < 1.50", EVIL),
            failed=("registration", EVIL),
        )
        for number, uri in ((1, thumbnail), (2, None))
    )
    return RunReport(
        name=EVIL,
        run_id="evil-00000000",
        facts=(("model", EVIL), ("seed", "0")),
        candidates=4,
        accepted=1,
        rejected=2,
        quarantined=1,
        shards=1,
        seconds=12.0,
        pairs=(pair,),
        rejects=rejects,
        quarantine=(QuarantineCard("run-000000003", EVIL, 4, EVIL, EVIL),),
        reason_counts=(ReasonCount("registration", 2, 1.0), ReasonCount(EVIL, 2, 1.0)),
        histograms=(
            draw_histogram("registration", scores["registration"], [2.0], [0.8, 0.9]),
            draw_histogram(
                "self_agreement", scores["self_agreement"], [math.nan], [float("nan")] * 2
            ),
            draw_histogram("some_other_score", scores["some_other_score"], [1.0], [1.0, 1.0]),
        ),
        depths=draw_depths([(depth, False)]),
        shard_rows=(ShardRow(0, 1, 4, EVIL, EVIL, (("tar", EVIL),)),),
        slots=(SlotTable(EVIL, (ValueAcceptance(EVIL, EVIL, 1, 4),), 1),),
        made=EVIL,
        warning=EVIL,
        url=EVIL,
    )


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; where everything must run, it has to be there."""
    require("needs Chromium; apt-get install chromium" if found() is None else None)
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
