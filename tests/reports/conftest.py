"""A small report with every kind of content."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.geometry.colour import colour_depth
from mfsynth.reports import images
from mfsynth.reports.content import (
    PairCard,
    QuarantineCard,
    ReasonCount,
    RejectCard,
    RunReport,
    score_cells,
)
from mfsynth.reports.histogram import draw_histogram
from mfsynth.shards.commits import ScoreInfo

EVIL = '<script>alert("x")</script> & \'quoted\' \x00 \ud800 "ünïcode"'


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
    pair = PairCard(
        sample_id="run-000000000",
        prompt=EVIL,
        seed=1,
        rgb_uri=images.image_uri(rgb),
        depth_uri=images.image_uri(colour_depth(depth)),
        width=64,
        height=48,
        scores=score_cells(
            {"registration": 2.0, "self_agreement": float("nan")}, scores.__getitem__
        ),
    )
    thumbnail = images.data_uri(images.jpeg(rgb), "image/jpeg")
    rejects = tuple(
        RejectCard("run-000000001", EVIL, 2, uri, ("registration 0.82 < 1.50", EVIL))
        for uri in (thumbnail, None)
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
        quarantine=(QuarantineCard("run-000000003", EVIL, 4, EVIL),),
        reason_counts=(ReasonCount("registration", 2, 1.0), ReasonCount(EVIL, 2, 1.0)),
        histograms=(
            draw_histogram(scores["registration"], [2.0], [0.8, 0.9]),
            draw_histogram(scores["self_agreement"], [float("nan")], [float("nan")] * 2),
            draw_histogram(scores["some_other_score"], [1.0], [1.0, 1.0]),
        ),
    )
