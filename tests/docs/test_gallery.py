"""`benchmarks/gallery.py` on small runs: it draws what they have, with why it was turned down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reader
from fenced import ROOT
from PIL import Image

from mfsynth.datasets import RGBDDataset

BENCHMARKS = ROOT / "benchmarks"
SMALL = {
    "annotated": ["sampler.steps=1"],
    "retextured": ["sampler.steps=1", "source.scenes=1"],
}


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gallery

    return gallery


@pytest.mark.usefixtures("opengl")
def test_the_gallery_has_what_its_runs_have(gallery, place, tmp_path, monkeypatch):
    demo = str(place / "out" / "mine")
    # The same candidates, of which half are turned down.
    scores = [sample.scores["registration"] for sample in RGBDDataset(demo)]
    small = {
        **SMALL,
        "pairs": [
            "target={candidates: 4}",
            "shard_size=4",
            "sampler.height=64",
            "sampler.width=64",
            f"checks={{validity: {{}}, registration: {{min: {np.median(scores)}}}}}",
        ],
    }
    monkeypatch.chdir(ROOT)
    for name, (job, overrides) in gallery.RUNS.items():
        given = [word for each in [*overrides, *small[name]] for word in ("--set", each)]
        reader.run(["mfsynth", job, "--out", str(tmp_path / name), *given])
    gallery.draw(demo, tmp_path, tmp_path / "docs")
    assert size_of(tmp_path / "docs" / "demo.png") == (8 * 198 - 6, 2 * 198)
    pictures = tmp_path / "docs" / "images" / "gallery"
    for name, columns, tiles in (("pairs", 6, 2), ("rejects", 6, 2), ("retextured", 6, 3)):
        width, height = size_of(pictures / f"{name}.png")
        assert width == columns * 198 - 6
        assert tiles * 198 < height < (tiles + 1) * 198, name
    assert size_of(pictures / "annotated.png")[0] == 5 * 198 - 6
    why = [column.caption for column in gallery._rejects(str(tmp_path / "pairs"), 9)]
    assert len(why) == 2
    assert all(text.startswith("registration ") and " < " in text for text in why)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size
