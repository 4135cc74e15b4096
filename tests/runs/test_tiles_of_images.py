"""Images of more pixels than the model's are seen in tiles, too, where a run asks for it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_jobs import SIZES, make, picture

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import seam_ratio
from mfsynth.shards.verify import verify_run

SEEN = 32
TILED = {"mode": "i2d", "steps": 1, "guidance": 1.0, "tile_overlap": 0.25}


def maps_of(job, photographs, folder, batch_size=2, **sampler):
    values = {**TILED, "height": SEEN, "width": SEEN, **sampler}
    config = job("i2d", photographs.settings(), sampler=values, output=str(folder))
    assert verify_run(make(config, batch_size)).problems == ()
    return [pair.depth for pair in RGBDDataset(config.output)]


def test_large_images_have_finer_depth_without_seams_and_small_ones_what_they_had(
    job, photographs, tmp_path
):
    Image.fromarray(picture(5, 80, 104)).save(photographs.folder / "5.png")
    Image.fromarray(picture(6, 20, 30)).save(photographs.folder / "6.png")
    whole = maps_of(job, photographs, tmp_path / "whole", tile_overlap=None)
    tiled = maps_of(job, photographs, tmp_path / "tiled")
    for one, other, size in zip(whole, tiled, [*SIZES, (80, 104), (20, 30)], strict=True):
        assert one.shape == other.shape == size
        assert np.array_equal(one, other) == (max(size) <= SEEN)
    large = tiled[len(SIZES)]
    # Tiles begin at 0, 24, 48 and 72, and end 32 pixels further on.
    for turned in (1, -1):
        assert seam_ratio(large[::turned, ::turned], 24) < 1.3
    assert np.median(large / whole[len(SIZES)]) == pytest.approx(1, abs=0.05)


def test_depth_of_tiles_does_not_depend_on_the_batch(job, photographs, tmp_path):
    alone, together = (
        maps_of(job, photographs, tmp_path / f"{size}", batch_size=size) for size in (1, 4)
    )
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1.01 * one.max() / 65535


@pytest.mark.parametrize(
    ("mode", "overlap", "more", "problem"),
    [
        ("d2i", 0.25, {}, "tile_overlap is for mode i2d, not d2i; leave it out"),
        ("i2d", 0.0, {}, "greater than or equal to 0.1"),
        ("i2d", 0.8, {}, "less than or equal to 0.5"),
        ("i2d", 0.25, {"completion": "guided"}, "leads depth of whole images; leave tile_overlap"),
    ],
)
def test_tiles_are_of_images_and_not_of_guided_depth(
    job, photographs, mode, overlap, more, problem
):
    sampler = {**TILED, "mode": mode, "tile_overlap": overlap}
    metric = {"metres_per_unit": "source", **more} if more else {}
    with pytest.raises(ValueError, match=problem):
        job(mode, photographs.add_depth(), sampler=sampler, **metric)
