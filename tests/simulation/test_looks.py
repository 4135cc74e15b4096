"""Looks of `benchmarks/looks.py`: another image of a scene, and the same depth."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mfsynth.prompts import load_library
from mfsynth.simulation import STYLES, render_scene, scenes

pytestmark = pytest.mark.usefixtures("opengl")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("style", ["plain", "varied"])
def test_another_look_is_another_image_of_the_same_depth_and_camera(monkeypatch, style):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    looks = pytest.importorskip("looks")
    library = load_library("tabletop_rooms", 3)
    for number, scene in scenes(library, 3, [5], STYLES[style]):
        restyled = [
            looks.restyled(scene, look, np.random.default_rng(number)) for look in looks.LOOKS
        ]
        views = [render_scene(one, 1, 32, 32)[0] for one in (scene, *restyled)]
        for one, other in combinations(views, 2):
            np.testing.assert_array_equal(one.depth, other.depth)
            assert one.intrinsics == other.intrinsics
            assert np.abs(one.rgb.astype(int) - other.rgb).mean() > 5
