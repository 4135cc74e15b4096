"""Depth maps as their publishers store them are read in the metres that they hold."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "data" / "rgbd_files"
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "rgbd_files.py"))
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["kind"])
def test_a_published_depth_map_has_the_metres_and_the_camera_of_the_manifest(entry):
    items = [*SCRIPT["items"](entry["kind"], FOLDER)]
    assert len(items) == (3 if entry["kind"].startswith("mcap") else 1)
    for item in items:
        wanted, found = SCRIPT["compared"](entry, item)
        assert found == pytest.approx(wanted, rel=1e-3)
        if entry["kind"] in ("redwood_mm", "realsense_lingbot"):
            camera = {name: getattr(item.intrinsics, name) for name in entry["intrinsics"]}
            assert camera == pytest.approx(entry["intrinsics"], rel=1e-6)
