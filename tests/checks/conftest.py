"""Real pairs, scored under every corruption, and synthetic scenes, for tests of the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest_scenes import make_scene

from mfsynth.checks import open_checks
from mfsynth.evaluation.calibration.config import TrustedPart
from mfsynth.evaluation.calibration.power import Bootstrap
from mfsynth.evaluation.calibration.scoring import Scored, score_pairs
from mfsynth.evaluation.calibration.trusted import read_pairs, with_estimates

REAL = {
    "kind": "folder",
    "layout": "generic",
    "path": str(Path(__file__).parents[1] / "data" / "real_rgbd"),
    "images": "*/*.rgb.jpg",
    "depths": "*/*.depth.png",
    "codes_per_unit": 1000.0,
    "crops": 3,
}
CHECKS = {"validity": {}, "registration": {}, "flying_pixels": {}, "self_agreement": {}}


@pytest.fixture(scope="session")
def scored() -> Scored:
    """Windows of the real frames, scored; their depth with a smooth error is the joint depth."""
    parts = [TrustedPart.model_validate(REAL)]
    found = read_pairs(parts, 224, 224, lambda *_: None)
    found = with_estimates(found, None, 0, lambda *_: None)
    pairs = [
        replace(one, pair=replace(one.pair, joint_depth=one.pair.estimate.values))
        for one in found.pairs
    ]
    return score_pairs(pairs, open_checks(CHECKS), 0, lambda *_: None)


@pytest.fixture(scope="session")
def clean(scored) -> Callable[[str], np.ndarray]:
    """A score of the clean pairs."""
    return lambda score: scored.clean[:, scored.names.index(score)]


@pytest.fixture(scope="session")
def auc(scored) -> Callable[[str, str], float]:
    """Probability that a clean pair scores better than one that a corruption has spoilt."""
    bootstrap = Bootstrap(scored.images, draws=1, seed=0)
    by_name = {corruption.name: corruption for corruption in scored.spoilt}

    def find(score: str, corruption: str) -> float:
        column, one = scored.names.index(score), by_name[corruption]
        sign = scored.signs[column]
        spoilt = scored.spoilt[one][:, column]
        drawn = bootstrap.power(sign * scored.clean[:, column], sign * spoilt, scored.applied[one])
        return float(drawn.auc[0])

    return find


@pytest.fixture(params=[64, 224, 512])
def side(request) -> int:
    return request.param


@pytest.fixture
def scene(side):
    return make_scene(side)
