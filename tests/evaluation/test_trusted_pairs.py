"""Trusted pairs: windows of what sources give, and whose depth each of them meets."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import pytest

from mfsynth.checks import Check, CheckedPair, Score, open_checks
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration import scoring
from mfsynth.evaluation.calibration.config import TrustedPart
from mfsynth.evaluation.calibration.figures import one_of_each
from mfsynth.evaluation.calibration.scoring import score_pairs
from mfsynth.evaluation.calibration.splitting import FITTING, HALVES, split
from mfsynth.evaluation.calibration.trusted import (
    TrustedPair,
    TrustedPairs,
    read_pairs,
    with_estimates,
)
from mfsynth.geometry import Intrinsics
from mfsynth.shards.labels import EPISODE, Moment
from mfsynth.sources.base import Item
from mfsynth.sources.settings import SourceSettings

CAMERA = Intrinsics(fx=50.0, fy=50.0, cx=29.5, cy=19.5)


@dataclass(frozen=True)
class Items:
    items: list[Item]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def texts(self):
        return (item.text for item in self.items)


class ListSettings(SourceSettings):
    """Items of this process."""

    kind: Literal["list"] = "list"
    url: str = "s3://key:secret@bucket/pairs"
    held: ClassVar[list[Item]] = []

    def open(self):
        return Items([*self.held])


def item(seed, rows=40, columns=60, **changes):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (rows, columns, 3), np.uint8)
    depth = rng.uniform(1, 2, (rows, columns)).astype(np.float32)
    return Item(**{"rgb": rgb, "depth": depth, "text": "a box", "intrinsics": CAMERA} | changes)


def read(*items, height=40, width=40, **own) -> TrustedPairs:
    ListSettings.held[:] = items
    part = TrustedPart(source=ListSettings(), **own)
    return read_pairs([part], height, width, lambda *_: None)


def test_windows_lie_side_by_side_and_have_their_camera():
    given = item(0)
    found = read(given, crops=2)
    assert [(pair.item, pair.image) for pair in found.pairs] == [(0, 0), (0, 0)]
    for pair, left in zip((one.pair for one in found.pairs), (5, 15), strict=True):
        np.testing.assert_array_equal(pair.rgb, given.rgb[:, left : left + 40])
        np.testing.assert_array_equal(pair.depth, given.depth[:, left : left + 40])
        assert pair.intrinsics.cx == pytest.approx(29.5 - left)


def test_windows_that_are_the_same_count_once():
    assert len(read(item(0, rows=40, columns=41), crops=4).pairs) == 2
    assert len(read(item(0, rows=40, columns=40), crops=4).pairs) == 1


def test_the_fused_score_is_fitted_on_no_depth_and_no_text_of_what_judges_it():
    class Means(Check):
        inputs = ("depth", "text")
        scores = (
            Score("depth", "depth", "lower", "whose"),
            Score("text", "text", "lower", "whose"),
        )

        def measure(self, pair):
            return {"depth": float(pair.depth.mean()), "text": float(pair.text)}

    count = 24
    depths = [np.full((40, 40), 1 + number, np.float32) for number in range(count)]
    items = [
        item(number, columns=40, depth=depths[number], text=str(number)) for number in range(count)
    ]
    found = score_pairs(read(*items).pairs, {"means": Means()}, 0, lambda *_: None)
    met = {one.name: rows for one, rows in found.spoilt.items()}
    partners = met["other sample's depth"][:, 0].astype(int) - 1
    strangers = met["other sample's prompt"][:, 1].astype(int)
    for others in (partners, strangers):
        assert (others != np.arange(count)).all()
        for parts in (FITTING, HALVES):
            part = split(found.images, 0, parts)
            assert (part == part[others]).all()


@pytest.mark.usefixtures("opengl")
def test_views_of_a_scene_and_windows_of_a_view_are_one_image(tmp_path):
    render = {"library": "tabletop_shapes", "scenes": 2, "views": 2, "seed": 5}
    scenes = {"kind": "cached_scenes", "path": str(tmp_path / "scenes"), "render": render}
    ListSettings.held[:] = [item(0), item(1)]
    parts = [
        TrustedPart.model_validate(scenes | {"limit": 3, "crops": 2}),
        TrustedPart(source=ListSettings()),
        TrustedPart.model_validate(scenes),
    ]
    found = read_pairs(parts, 16, 12, lambda *_: None)
    images = [pair.image for pair in found.pairs]
    assert images == [0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 5]
    assert [pair.item for pair in found.pairs] == [0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8]
    assert found.images == 6
    assert [source["images"] for source in found.sources] == [2, 2, 2]
    # What is drawn and halved is images.
    fits = split(np.array(images), seed=0, parts=2)
    assert all(len({*fits[np.array(images) == image]}) == 1 for image in images)
    # Any of its pairs speaks for an image, not the first of each.
    chosen = np.stack([one_of_each(np.array(images), seed) for seed in range(20)])
    assert (np.array(images)[chosen] == range(6)).all()
    assert [*np.ptp(chosen, axis=0)] == [3, 1, 0, 0, 1, 1]
    # Each view meets the other one of its scene.
    seen = score_pairs(found.pairs[8:], open_checks({"validity": {}}), 0, lambda *_: None)
    assert seen.same_prompt == 4


def test_what_came_of_one_item_or_stands_in_one_episode_is_one_image():
    """Copies are drawn together, and frames of a video: they are alike."""

    class Copies(Items):
        def scene(self, index):
            return f"item {index // 2}"

    class Frames(Items):
        labels: ClassVar[tuple[str, ...]] = (EPISODE,)

        def moment(self, index):
            return None if index == 0 else Moment("walk", index)

    class Settings(ListSettings):
        opened: ClassVar[type[Items]] = Copies

        def open(self):
            return self.opened([*self.held])

    images = []
    for Settings.opened in (Copies, Frames, Items):
        ListSettings.held[:] = [item(seed) for seed in range(3)]
        part = TrustedPart(source=Settings())
        found = read_pairs([part, part], 40, 60, lambda *_: None)
        images.append([pair.image for pair in found.pairs])
    assert images == [[0, 0, 1, 2, 2, 3], [0, 1, 1, 2, 3, 3], [0, 1, 2, 3, 4, 5]]


def test_windows_are_brought_to_the_size_of_the_pairs():
    [one] = read(item(0), height=20, width=20).pairs
    assert one.pair.depth.shape == (20, 20)
    assert one.pair.intrinsics.fx == pytest.approx(25)
    # No depth is mixed of two.
    assert np.isin(one.pair.depth, item(0).depth).all()


def test_what_is_recorded_of_a_source_tells_other_pixels():
    first, again, other = (read(item(seed)).sources[0] for seed in (0, 0, 1))
    assert first == again
    assert first["sha256"] != other["sha256"]


def test_credentials_are_recorded_of_no_source():
    assert read(item(0)).sources[0]["settings"]["url"] == "s3://bucket/pairs"


def test_windows_without_depth_are_left_out():
    depth = item(0).depth.copy()
    depth[:, :30] = 0
    depth[:, 55:] = 0
    assert len(read(item(0, depth=depth), crops=3, width=20, height=40).pairs) == 2


def test_an_item_without_depth_is_named():
    with pytest.raises(MfsynthError, match="frame 7: no image with depth"):
        read(item(0), item(1, depth=None, name="frame 7"))


def test_sources_without_any_depth_are_told():
    with pytest.raises(MfsynthError, match="data: no image has valid depth"):
        read(item(0, depth=np.zeros((40, 60), np.float32)))


def test_a_perturbed_copy_is_seeded_and_about_five_percent_off():
    [one], [again] = (
        with_estimates(read(item(0)), None, 3, lambda *_: None).pairs for _ in range(2)
    )
    off = np.abs(np.log(one.pair.estimate.values / one.pair.depth))
    assert off.mean() == pytest.approx(0.05, rel=0.05)
    assert 0.8 < one.pair.estimate.intrinsics.fx / one.pair.intrinsics.fx < 1.2
    np.testing.assert_array_equal(one.pair.estimate.values, again.pair.estimate.values)


def test_a_check_is_asked_again_only_where_what_it_looks_at_is_spoilt():
    asked = Counter()

    class Counting(Check):
        scores = (Score("seen", "seen", "lower", "how often"),)

        def measure(self, pair):
            asked[self.inputs] += 1
            return {self.scores[0].name: float(asked[self.inputs])}

    def looking_at(*names):
        score = replace(Counting.scores[0], name=names[0])
        return type(names[0], (Counting,), {"inputs": names, "scores": (score,)})()

    checks = {name: looking_at(name) for name in ("rgb", "depth", "intrinsics", "camera", "text")}
    pairs = read(item(0), item(1), item(2, text="a mug")).pairs
    found = score_pairs(pairs, checks, 0, lambda *_: None)
    spoilt = Counter()
    for corruption, there in found.applied.items():
        spoilt[corruption.spoils] += int(there.sum())
    assert spoilt["depth"] > 30
    assert (spoilt["intrinsics"], spoilt["rgb"], spoilt["text"]) == (6, 9, 3)
    assert asked == {
        ("rgb",): 12,
        ("text",): 6,
        ("depth",): 3 + spoilt["depth"],
        ("intrinsics",): 9,
        ("camera",): 9,
    }
    for corruption, rows in found.spoilt.items():
        kept = [name != corruption.spoils for name in ("rgb", "text")]
        columns = np.array([0, 4])[kept]
        np.testing.assert_array_equal(rows[:, columns], found.clean[:, columns])


def test_data_that_has_nothing_to_spoil_is_told():
    pairs = read(item(0, intrinsics=None), item(1, intrinsics=None)).pairs
    pairs, checks = (
        with_estimates(TrustedPairs(pairs, ()), None, 0, lambda *_: None).pairs,
        open_checks({"field_of_view": {}}),
    )
    with pytest.raises(MfsynthError, match=r"^checks: nothing that they look at is in the data"):
        score_pairs(pairs, checks, 0, lambda *_: None)


class EndlessCheck(Check):
    inputs = ("depth",)
    scores = (Score("endless", "endless", "lower", "a number without end"),)

    def measure(self, pair):
        return {"endless": float("inf")}


def test_an_infinite_score_is_told():
    pairs = read(item(0), item(1)).pairs
    with pytest.raises(MfsynthError, match="the score endless is infinite"):
        score_pairs(pairs, {"endless": EndlessCheck()}, 0, lambda *_: None)


class DeadlyCheck(Check):
    inputs = ("depth",)
    scores = (Score("seen", "seen", "lower", "nothing"),)

    def measure(self, pair):
        os._exit(1)


def test_processes_score_what_one_does_and_their_death_is_told(monkeypatch):
    pairs = read(*map(item, range(6))).pairs
    checks = open_checks({"validity": {}, "registration": {}, "exposure": {}})
    alone = score_pairs(pairs, checks, 0, lambda *_: None)
    monkeypatch.setattr(scoring, "_WORTH_A_PROCESS", 3)
    monkeypatch.setattr(scoring, "usable_cores", lambda: 3)
    started = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, processes, *args):
            started.append(processes)
            super().__init__(processes, *args)

    monkeypatch.setattr(scoring, "ProcessPoolExecutor", Pool)
    together = score_pairs(pairs, checks, 0, lambda *_: None)
    assert started == [2]
    np.testing.assert_array_equal(alone.clean, together.clean)
    assert [*alone.spoilt] == [*together.spoilt]
    for corruption, rows in alone.spoilt.items():
        np.testing.assert_array_equal(rows, together.spoilt[corruption])
    with pytest.raises(MfsynthError, match="a process that scored pairs died"):
        score_pairs(pairs, {"deadly": DeadlyCheck()}, 0, lambda *_: None)


def test_other_depth_is_of_the_same_prompt_where_there_is_one():
    def level(number, text, image=None):
        depth = np.full((32, 32), number + 1.0, np.float32)
        pair = CheckedPair(np.zeros((32, 32, 3), np.uint8), depth, text=text)
        return TrustedPair(pair, number, number if image is None else image)

    # Two views of a scene, and two scenes of their own.
    pairs = [level(0, "a box", 0), level(1, "a box", 0), level(2, "a mug"), level(3, None)]
    checks = open_checks({"validity": {}})
    found = score_pairs(pairs, checks, 0, lambda *_: None)
    assert found.same_prompt == 2
    with pytest.raises(MfsynthError, match="one image alone"):
        score_pairs(pairs[:2], checks, 0, lambda *_: None)
