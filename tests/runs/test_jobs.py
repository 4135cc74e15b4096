"""Runs that begin with a source: images get depth, depth gets images."""

from __future__ import annotations

import io
import json
import re
import runpy
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from started import plan_of, start
from test_driver import Lines
from tiny_jobs import SIZES, depth_of, make, members, picture, rows_of
from training_files import write_tar

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.reports.collect import collect_report
from mfsynth.runs.budget import plan_budget
from mfsynth.runs.doctor.examination import looks_right, run_examination
from mfsynth.runs.doctor.findings import Severity, examine
from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome
from mfsynth.runs.items import RunItems
from mfsynth.runs.jobs import require_usable
from mfsynth.runs.loading import Loader
from mfsynth.runs.making import require_given
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Failed, Made
from mfsynth.runs.provenance import Provenance
from mfsynth.runs.reproduce import find_candidate, make_again
from mfsynth.shards.commits import read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.marks import source_type
from mfsynth.shards.records import COMPOSITE_SOURCE_TYPE, DIGITAL_SOURCE_TYPE
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.sources.base import Item, Origin
from mfsynth.sources.decoding import decode_rgb
from mfsynth.storage.errors import StoreError

CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def test_photographs_of_all_sizes_keep_their_grids_and_bytes(job, photographs):
    config = job("i2d", photographs.settings(licence="CC-BY-4.0"), copies=2)
    store = make(config)
    assert verify_run(store).problems == ()
    pairs = RGBDDataset(config.output)
    assert [(p.ref.source, p.ref.copy) for p in pairs] == [
        (f"{n}.jpg", copy) for n in range(len(SIZES)) for copy in (0, 1)
    ]
    assert [p.rgb.shape[:2] for p in pairs[::2]] == [*SIZES]
    assert {p.mode for p in pairs} == {"i2d"}
    assert {p.licence for p in pairs} == {"CC-BY-4.0"}
    assert {p.prompt for p in pairs} == {""}
    assert not np.array_equal(pairs[0].depth, pairs[1].depth)
    found = members(store, 2)
    assert found["rgb"] == (photographs.folder / "1.jpg").read_bytes()
    assert (source_type(found["rgb"]), source_type(found["depth"])) == (None, DIGITAL_SOURCE_TYPE)
    about = json.loads(found["json"])
    assert (about["source"], about["copy"], about["digital_source_type"]) == ("1.jpg", 0, "")
    # The last shard is as short as what is left.
    assert [r.candidates for r in read_commits(store).values()] == [3, 3, 3, 1]


def test_a_photograph_that_lies_on_its_side_is_stood_up_and_a_png_compressed(job, photographs):
    folder = photographs.folder
    for path in folder.iterdir():
        path.unlink()
    upright = Image.fromarray(picture(7, 40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(folder / "a.jpg", exif=exif)
    upright.save(folder / "b.png")
    mark = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{CAPTURED}</x:xmpmeta>'.encode()
    upright.save(folder / "c.jpg", xmp=mark)
    store = make(job("i2d", photographs.settings()))
    assert verify_run(store).problems == ()
    rows = rows_of(store)
    assert [(row["height"], row["width"]) for row in rows] == [(60, 40), (40, 60), (40, 60)]
    assert [row["digital_source_type"] for row in rows] == ["", "", CAPTURED]
    assert members(store, 2)["rgb"] == (folder / "c.jpg").read_bytes()
    found = [members(store, number) for number in range(3)]
    assert [source_type(each["rgb"]) for each in found] == [None, None, CAPTURED]
    assert {source_type(each["depth"]) for each in found} == {DIGITAL_SOURCE_TYPE}
    assert {row["licence"] for row in rows} == {"unknown"}


@pytest.mark.parametrize(
    ("mode", "options", "stays"),
    [
        ("RGB", {}, True),
        ("RGB", {"keep_rgb": True}, True),
        ("L", {}, False),
        ("CMYK", {}, False),
    ],
    ids=["YCbCr", "RGB", "grey", "CMYK"],
)
def test_a_jpeg_stays_as_it_is_if_it_has_three_channels_for_every_reader(mode, options, stays):
    stream = io.BytesIO()
    Image.fromarray(picture(1, 40, 60)).convert(mode).save(stream, "JPEG", **options)
    data = stream.getvalue()
    rgb = decode_rgb(data, "a.jpg", upright=True)
    item = Item(rgb, None, "", origin=Origin(jpeg=data))
    assert Provenance("i2d", "").jpeg(item) == (data if stays else None)


@pytest.mark.parametrize("beside", ["depth", "camera", "stored"])
def test_no_reader_turns_an_image_away_from_its_depth(job, photographs, beside):
    settings = photographs.add_depth() if beside == "depth" else photographs.settings()
    if beside != "depth":
        own = {"camera": {"fov": 60}} if beside == "camera" else {"orientation": "stored"}
        settings |= {"images": "*.jpg", "encoding": own}
    # On its side, mirrored, upright, and what cameras write that don't know; the last has no EXIF.
    orientations = (6, 2, 1, 0)
    for number, orientation in enumerate(orientations):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = Image.fromarray(picture(number, *SIZES[number]))
        upright.save(photographs.folder / f"{number}.jpg", exif=exif, quality=90)
    store = make(job("i2d", settings))
    assert verify_run(store).problems == ()
    for number, orientation in enumerate((*orientations, None)):
        found, file = members(store, number), photographs.folder / f"{number}.jpg"
        assert (found["rgb"] == file.read_bytes()) == (orientation in (1, 0, None))
        # OpenCV heeds EXIF.
        shown = cv2.imdecode(np.frombuffer(found["rgb"], np.uint8), cv2.IMREAD_COLOR_RGB)
        stored = np.asarray(Image.open(file))
        assert shown.shape == stored.shape
        assert np.abs(shown.astype(int) - stored).mean() < 3


def test_what_can_not_be_read_is_in_quarantine_and_the_rest_is_made(job, photographs, monkeypatch):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    (photographs.folder / "1.jpg").write_bytes(b"\xff\xd8 no picture")
    Image.fromarray(picture(9, 4, 400)).save(photographs.folder / "9.jpg")
    config = job("i2d", photographs.settings(max_skipped=0.5))
    store = make(config)
    assert verify_run(store).problems == ()
    assert [row["source"] for row in rows_of(store)] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"]
    broken, long = rows_of(store, "rejects")
    assert (broken["source"], broken["outcome"], broken["candidate"]) == ("1.jpg", "quarantined", 1)
    assert "1.jpg" in broken["reasons"][0]
    assert "cut it into parts" in long["reasons"][0]
    for row in (broken, long):
        found = find_candidate(config.output, row["candidate"], trust=True)
        again = make_again(config.output, *found, "cpu")
        assert isinstance(again, Failed)
        assert again.message == row["reasons"][0].partition("; to see it: ")[0]
    plan = plan_of(config)
    assert plan.too_many(3) is None
    assert "4 of 6 candidates can't be made, and max_skipped allows 3" in plan.too_many(4)


def test_a_shard_of_which_nothing_can_be_read_fails_and_is_not_given_up(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    config = job("i2d", photographs.settings(), shard_size=8)
    start(config)
    worker = open_shard_worker(config, "cpu")
    for path in photographs.folder.iterdir():
        path.unlink()
    candidates = plan_of_lost(config, photographs)
    *_, end = worker.make_shard(Assignment(0, "a", 2), candidates)
    assert (end.cause, end.may_pass) == ("store", True)
    assert "5 of 5 items of a shard can't be used" in end.message


def test_a_broken_folder_among_several_is_in_quarantine_however_many_shards_it_fills(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    for number in range(4):
        path = photographs.folder / "broken" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\xff\xd8 no picture")
    source = photographs.settings(images="**/*.jpg", max_skipped=0.5)
    config = job("i2d", source, shard_size=5)
    store = make(config)
    assert verify_run(store).problems == ()
    assert [(r.accepted, r.quarantined) for r in read_commits(store).values()] == [(5, 0), (0, 4)]
    assert {row["source"] for row in rows_of(store, "rejects")} == {
        f"broken/{number}.jpg" for number in range(4)
    }
    # What can be read again was no broken folder.
    loader, plan = Loader(config), plan_of(config)
    for number in range(4):
        path = photographs.folder / "broken" / f"{number}.jpg"
        Image.fromarray(picture(number, 32, 32)).save(path)
    with pytest.raises(StoreError, match=r"4 of 4 items of a shard .*; now it can"):
        loader.require_there(plan.shard(1), dict.fromkeys(range(5, 9), "lost"))


def test_many_items_that_nothing_can_be_made_of_are_in_quarantine_and_the_run_goes_on(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    folder = photographs.folder
    for number in range(5):
        Image.fromarray(picture(number, 10, 100)).save(folder / f"long{number}.jpg")
    config = job("i2d", photographs.settings(max_skipped=0.9), shard_size=10)
    store = make(config)
    assert [(r.accepted, r.quarantined) for r in read_commits(store).values()] == [(5, 5)]
    assert all("cut it into parts" in row["reasons"][0] for row in rows_of(store, "rejects"))


def test_many_items_of_little_depth_or_none_are_in_quarantine_and_the_run_goes_on(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    folder = photographs.folder
    for number in range(5):
        for name in ("bare", "holes"):
            Image.fromarray(picture(number, 32, 32)).save(folder / f"{name}{number}.jpg")
        codes = np.where(np.arange(32) < 20, 0, 1000 * depth_of(number, 32, 32))
        cv2.imwrite(str(folder / f"holes{number}.depth.png"), codes.astype(np.uint16))
    source = photographs.add_depth() | {"depth": "optional", "max_skipped": 0.9}
    store = make(job("d2i", source, shard_size=15))
    assert [(r.accepted, r.quarantined) for r in read_commits(store).values()] == [(5, 10)]
    reasons = {row["source"]: row["reasons"][0] for row in rows_of(store, "rejects")}
    assert all("has no depth" in reasons[f"bare{number}.jpg"] for number in range(5))
    assert all("depth in 38%" in reasons[f"holes{number}.jpg"] for number in range(5))


def test_a_folder_that_is_away_during_the_last_small_shard_loses_nothing(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    config = job("i2d", photographs.settings(max_skipped=0.9))
    start(config)
    worker, last = open_shard_worker(config, "cpu"), plan_of(config).shard(1)
    assert len(last) == 2
    away = photographs.folder.rename(photographs.folder.with_name("away"))
    *_, end = worker.make_shard(Assignment(1, "a", 2), last)
    assert (end.cause, end.may_pass) == ("store", True)
    away.rename(photographs.folder)
    *_, end = worker.make_shard(Assignment(1, "b", 2), last)
    assert (end.receipt.accepted, end.receipt.quarantined) == (2, 0)


def test_one_lost_item_is_looked_for_again_before_it_is_given_up(job, photographs):
    config = job("i2d", photographs.settings(), shard_size=8)
    loader, shard = Loader(config), plan_of(config).shard(0)
    with pytest.raises(StoreError, match=r"1 of 5 items of a shard .*; now it can"):
        loader.require_there(shard, {4: "lost"})
    (photographs.folder / "4.jpg").write_bytes(b"\xff\xd8 no picture")
    loader.require_there(shard, {4: "lost"})
    photographs.folder.rename(photographs.folder.with_name("away"))
    with pytest.raises(StoreError, match="1 of 5 items of a shard can't be used, the first: lost"):
        loader.require_there(shard, {4: "lost"})


def test_one_lost_item_of_a_shard_is_in_quarantine_where_most_of_the_source_is_broken(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    folder = photographs.folder / "many"
    folder.mkdir()
    for number in range(84):
        Image.fromarray(picture(number, 32, 32)).save(folder / f"{number:02}.jpg")
    source = photographs.settings(images="many/*.jpg", max_skipped=0.99)
    config = job("i2d", source, shard_size=4)
    start(config)
    worker, plan = open_shard_worker(config, "cpu"), plan_of(config)
    loaded = {37, 38, 39}  # None of them is among a few items at equal distances.
    for number in set(range(84)) - loaded:
        (folder / f"{number:02}.jpg").write_bytes(b"\xff\xd8 no picture")
    *_, end = worker.make_shard(Assignment(9, "a", 2), plan.shard(9))
    assert isinstance(end, Made), end
    assert (end.receipt.accepted, end.receipt.quarantined) == (3, 1)


def test_few_of_many_lost_items_are_looked_for_again(job, photographs, monkeypatch):
    for number in range(40):
        (photographs.folder / f"b{number:02}.jpg").write_bytes(b"\xff\xd8 no picture")
    config = job("i2d", photographs.settings(max_skipped=0.9), shard_size=45)
    loader, shard = Loader(config), plan_of(config).shard(0)
    asked: list[int] = []
    can_load = Loader._can_load
    monkeypatch.setattr(
        Loader, "_can_load", lambda self, index: asked.append(index) or can_load(self, index)
    )
    loader.require_there(shard, dict.fromkeys(range(5, 45), "lost"))
    assert asked == [0, 5, 18, 31, 44]


def test_a_tar_that_can_not_be_opened_is_left_out_of_a_run_and_told(job, photographs, tmp_path):
    tars = [tmp_path / f"{number}.tar" for number in range(3)]
    for number, tar in enumerate(tars):
        data = (photographs.folder / f"{number}.jpg").read_bytes()
        write_tar(tar, [(f"{number}.jpg", data)])
    whole = tars[1].read_bytes()
    source = {"kind": "webdataset", "shards": str(tmp_path / "*.tar"), "caption_key": None}
    config = job("i2d", source)
    tars[1].write_bytes(whole[:700])
    items = RunItems(config)
    found = looks_right(items, require_usable(items, config), config)
    assert found.severity is Severity.WARNING
    assert re.match(r"2 items, and 1 left out .*/1\.tar: truncated", found.line)
    store = make(config)
    assert [row["source"] for row in rows_of(store)] == ["0", "2"]
    # Where another tar can't be opened, other items have these numbers.
    worker, assignment = open_shard_worker(config, "cpu"), Assignment(0, "a", 2)
    candidates = plan_of(config).shard(0)
    tars[1].write_bytes(whole)
    elsewhere = open_shard_worker(config, "cpu")
    *_, end = elsewhere.make_shard(assignment, candidates)
    assert (end.cause, end.may_pass) == ("store", True)
    assert re.search("source: item '2' is '1' on .* can't be read there or changed", end.message)
    tars[1].write_bytes(whole[:700])
    *_, end = elsewhere.make_shard(assignment, candidates)
    assert end.cause == "store"
    for one in (worker, elsewhere):
        *_, end = one.make_shard(assignment, candidates)
        assert isinstance(end, Made), end


def plan_of_lost(config, photographs):
    """Candidates as the driver saw them, before the files were gone."""
    for number, size in enumerate(SIZES):
        Image.fromarray(picture(number, *size)).save(photographs.folder / f"{number}.jpg")
    candidates = plan_of(config).shard(0)
    for path in photographs.folder.iterdir():
        path.unlink()
    return candidates


@pytest.mark.parametrize("how", ["annotated", "guided", "retextured"])
def test_what_is_made_of_an_item_does_not_depend_on_its_batch(job, photographs, how):
    mode, steps = ("d2i", 2) if how == "retextured" else ("i2d", 2 if how == "guided" else 1)
    source = photographs.settings() if how == "annotated" else photographs.add_depth(keep=0.6)
    metres = {"metres_per_unit": "source", "completion": "guided"} if how == "guided" else {}
    sampler = {"mode": mode, "steps": steps, "guidance": 1.0}
    config = job(mode, source, shard_size=8, sampler=sampler, **metres)
    alone = {p.sample_id: p for p in RGBDDataset(make(config, batch_size=1).url)}
    elsewhere = config.model_copy(update={"output": config.output + "-4"})
    pairs = RGBDDataset(make(elsewhere, batch_size=4).url)
    assert len(pairs) == len(alone) == len(SIZES)
    for pair in pairs:
        one = alone[pair.sample_id]
        code = 1.01 * one.depth.max() / 65535
        assert np.abs(pair.depth - one.depth).max() <= (0 if mode == "d2i" else code)
        # A level of the model's is a few where JPEG rounds.
        difference = np.abs(pair.rgb.astype(int) - one.rgb)
        assert difference.max() <= (3 if mode == "d2i" else 0)
        assert difference.mean() <= 0.1


@pytest.mark.parametrize("keep", [1.0, 0.05])
def test_a_sensor_makes_depth_metric_however_few_pixels_it_measures(job, photographs, keep):
    source = photographs.add_depth(keep=keep)
    config = job("i2d", source, metres_per_unit="source")
    store = make(config)
    assert verify_run(store).problems == ()
    rows = rows_of(store)
    assert {row["depth_kind"] for row in rows} == {"estimated_metric_z"}
    for pair, row in zip(RGBDDataset(config.output), rows, strict=True):
        number = int(pair.ref.source[0])
        metres = depth_of(number, *SIZES[number])
        assert np.median(pair.depth / metres) == pytest.approx(1, abs=0.4)
        assert row["metres_per_unit"] > 0
        assert 0 < row["metres_per_unit_error"] < 1
        # What the sensor measured is kept as it was.
        png = np.frombuffer(members(store, row["candidate"])["sensor"], np.uint8)
        stored = cv2.imread(str(photographs.folder / f"{number}.depth.png"), cv2.IMREAD_UNCHANGED)
        assert row["sensor_unit_per_code"] == 0.001
        assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), stored)
    candidate = find_candidate(config.output, 1, trust=True)
    pair = make_again(config.output, *candidate, "cpu")
    assert [name.split(".", 1)[1] for name in pair.members] == [
        *("rgb.jpg", "depth.png", "sensor.png", "json")
    ]


def test_an_image_that_no_sensor_saw_is_turned_down_where_metres_are_asked(job, photographs):
    photographs.add_depth()
    (photographs.folder / "2.depth.png").unlink()
    source = photographs.settings(
        images="*.jpg", depths="*.depth.png", codes_per_unit=1000.0, depth="optional"
    )
    store = make(job("i2d", source, metres_per_unit="source"))
    (row,) = rows_of(store, "rejects")
    assert (row["source"], row["reasons"]) == ("2.jpg", ["metres_per_unit"])


def test_depth_gets_several_images_and_stays_what_it_is(job, photographs, run_folder):
    camera = {"fx": 50.0, "fy": 50.0, "cx": 20.0, "cy": 20.0}
    source = photographs.add_depth(keep=0.9) | {"licence": "CC0-1.0"}
    source["encoding"] = {"camera": camera}
    checks = {"depth_error": {"max": 99, "max_edges": 99, "steps": 1}}
    config = job("d2i", source, copies=2, checks=checks, prompts=run_folder.values["prompts"])
    store = make(config)
    assert verify_run(store).problems == ()
    pairs = RGBDDataset(config.output)
    assert [p.ref.source for p in pairs[::2]] == [f"{n}.jpg" for n in range(len(SIZES))]
    assert [p.prompt for p in pairs[:3]] == ["a red cube", "a blue ball", "a blue cube"]
    assert {(p.depth_kind, p.intrinsics_source) for p in pairs} == {("metric_z", "given")}
    for pair in pairs:
        number = int(pair.ref.source[0])
        codes = cv2.imread(str(photographs.folder / f"{number}.depth.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(pair.depth > 0, codes > 0)
        assert np.abs(pair.depth - codes / 1000).max() < 1e-4
        assert (pair.intrinsics[0, 0], pair.rgb.shape[:2]) == (50, SIZES[number])
        assert pair.scores["depth_error"] > 0
    assert not np.array_equal(pairs[0].rgb, pairs[1].rgb)
    row, found = rows_of(store)[0], members(store)
    assert {
        row["digital_source_type"],
        source_type(found["rgb"]),
        source_type(found["depth"]),
    } == {COMPOSITE_SOURCE_TYPE}
    assert row["licence"].startswith("CC0-1.0 AND ")
    assert {p.source_licence for p in pairs} == {"CC0-1.0"} == {row["source_licence"]}
    assert json.loads(found["json"])["source_licence"] == "CC0-1.0"


@pytest.mark.usefixtures("opengl_of_any_thread")
def test_images_for_a_simulators_depth_are_composites_with_its_words_and_camera(job, tmp_path):
    scenes = {"kind": "live_scenes", "scenes": 2, "size": 32}
    store = make(job("d2i", scenes))
    assert verify_run(store).problems == ()
    rows = rows_of(store)
    assert [row["source"] for row in rows] == ["scene 0", "scene 1"]
    marks = {source_type(members(store, n)[name]) for n in (0, 1) for name in ("rgb", "depth")}
    assert marks == {row["digital_source_type"] for row in rows} == {COMPOSITE_SOURCE_TYPE}
    assert {row["intrinsics_source"] for row in rows} == {"rendered"}
    assert all(row["prompt"] for row in rows)
    # What was made for a simulator's depth has that depth, so images for it are composites again.
    again = job("d2i", {"kind": "mfsynth", "url": store.url}, output=str(tmp_path / "again"))
    assert {row["digital_source_type"] for row in rows_of(make(again))} == {COMPOSITE_SOURCE_TYPE}


def test_depth_that_is_none_is_a_hole_and_its_other_pixels_stay(job, photographs):
    depth = depth_of(0, *SIZES[0])
    depth[:3], depth[3:6], depth[6:9], depth[9:12] = np.nan, np.inf, -1, 0
    for number, size in enumerate(SIZES):
        np.save(photographs.folder / f"{number}.npy", depth_of(number, *size))
    np.save(photographs.folder / "0.npy", depth)
    source = photographs.settings(images="*.jpg", depths="*.npy", encoding={"scale": 1.0})
    store = make(job("d2i", source))
    assert verify_run(store).problems == ()
    [pair, *others] = RGBDDataset(store.url)
    assert len(others) == len(SIZES) - 1
    assert np.array_equal(pair.valid, np.isfinite(depth) & (depth > 0))
    assert np.allclose(pair.depth[pair.valid], depth[pair.valid], rtol=1e-3)
    # Nobody says what camera this is, so it has none.
    assert (pair.intrinsics, pair.intrinsics_source) == (None, None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda codes: np.full_like(codes, 65535), "0.depth.png: .* % of the pixels have the code"),
        (lambda codes: codes * 0, "0.depth.png: no pixel has valid depth"),
        (lambda codes: codes[:9, :9], "0.depth.png: .*the image .*0.jpg"),
        (lambda codes: np.where(np.arange(codes.shape[1]) < 40, 0, codes), "0.jpg: depth in 38%"),
    ],
    ids=["all of the highest code", "nothing but holes", "other proportions", "mostly holes"],
)
def test_a_depth_map_that_nothing_can_be_made_for_is_one_line_with_its_name(
    job, photographs, spoil, message
):
    source = photographs.add_depth()
    path = str(photographs.folder / "0.depth.png")
    codes = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    cv2.imwrite(path, spoil(codes).astype(np.uint16))
    config = job("d2i", source)
    loader, (first, *_) = Loader(config), plan_of(config).shard(0)
    with pytest.raises(MfsynthError, match=message):
        require_given("d2i", loader.source.load(first.index), loader.sampler)


def test_depth_without_an_image_is_no_item_and_an_image_without_depth_is_in_quarantine(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    source = photographs.add_depth() | {"depth": "optional", "max_skipped": 0.5}
    (photographs.folder / "1.jpg").unlink()
    (photographs.folder / "2.depth.png").unlink()
    store = make(job("d2i", source))
    assert [row["source"] for row in rows_of(store)] == ["0.jpg", "3.jpg", "4.jpg"]
    [reject] = rows_of(store, "rejects")
    assert "2.jpg: has no depth; leave it out of the source" in reject["reasons"][0]


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("joint", {}, "source is for modes i2d and d2i"),
        ("i2d", {"prompts": {"library": "tabletop"}}, "captions of images come with their source"),
        ("i2d", {"source": None}, "source: missing; sampler.mode i2d begins with one"),
        ("d2i", {"metres_per_unit": "source"}, "depth is the source's own"),
        ("i2d", {"source": {"kind": "film"}}, "source.kind: unknown kind 'film'; known: mfsynth"),
        ("i2d", {"source": {"kind": "mfsynth"}}, "source.url: missing; add it"),
        ("i2d", {"sampler": {"mode": "i2d", "refine_steps": 9}}, "refine_steps is for mode joint"),
        ("i2d", {"checks": {"depth_error": {}}}, "looks at what a depth estimator says"),
    ],
)
def test_what_does_not_go_together_is_one_line(job, photographs, mode, changes, message):
    values = changes if mode != "joint" else {"prompts": {"library": "tabletop"}, **changes}
    with pytest.raises((MfsynthError, ValueError), match=message):
        job(mode, **{"source": photographs.settings(), **values})


def test_every_command_refuses_what_is_anothers_and_a_source_without_depth(job, photographs):
    config = job("i2d", photographs.settings())
    with pytest.raises(MfsynthError, match="i2d is for `mfsynth annotate`, and `mfsynth generate`"):
        generate(config)
    with pytest.raises(MfsynthError, match="d2i: of 5 items of the source none has depth"):
        generate(job("d2i", photographs.settings()), job="retexture")
    with pytest.raises(MfsynthError, match=r"source: .*: no such folder of images; check the path"):
        generate(job("i2d", photographs.settings(path="/nowhere")), job="annotate")


def test_a_run_of_which_too_much_can_not_be_made_has_failed_the_next_time_too(
    job, photographs, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.loading._PAUSE_S", 0)
    for number in (1, 3):
        (photographs.folder / f"{number}.jpg").write_bytes(b"\xff\xd8 no picture")
    config = job("i2d", photographs.settings(max_skipped=0.2))
    make(config)
    ended = generate(config, job="annotate")
    assert ended.outcome is Outcome.FAILED
    assert "2 of 5 candidates can't be made, and max_skipped allows 1" in ended.reason
    enough = job("i2d", photographs.settings(max_skipped=0.4))
    assert generate(enough, job="annotate").outcome is Outcome.FINISHED


def test_a_run_says_when_it_begins_what_may_be_wrong_with_its_depth(job, photographs, monkeypatch):
    source = photographs.add_depth()
    metres = depth_of(3, *SIZES[3]) / 1000
    cv2.imwrite(str(photographs.folder / "3.depth.png"), np.rint(metres * 1000).astype(np.uint16))

    def said(mode: str, **encoding) -> list[str]:
        display = Lines()
        more = {"codes_per_unit": None, "encoding": {"codes_per_unit": 1000.0, **encoding}}
        config = job(mode, source | more, output=f"{photographs.folder}.{mode}{len(encoding)}")
        # It ends before any worker.
        with pytest.raises(MfsynthError, match="can't write to the spool folder"):
            generate(config, job={"i2d": "annotate", "d2i": "retexture"}[mode], display=display)
        return [note for note in display.notes if "items; of" in note]

    monkeypatch.setattr(tempfile, "tempdir", str(photographs.folder / "gone"))
    [note] = said("d2i")
    assert "registration: nobody said that depth is of the image's camera; it is taken so" in note
    assert re.search(r"units: the median depth of .*0\.00.*, make two sources of them", note)
    [note] = said("d2i", registration="same")
    assert "registration" not in note
    # Nothing of that depth goes into the pairs.
    assert said("i2d") == []


def test_a_fingerprint_knows_what_a_source_holds_and_not_where(job, photographs, tmp_path):
    def digest(copies=None, **changes) -> str:
        config = job("i2d", photographs.settings(**changes), copies=copies)
        return RunItems(config).fingerprint("r").digest

    before = digest()
    assert before == digest(max_skipped=0.5) == digest(copies=1) != digest(copies=2)
    assert before != digest(licence="CC0-1.0")
    moved = tmp_path / "elsewhere"
    photographs.folder.rename(moved)
    photographs.folder = moved
    assert digest() == before
    # Of the same name and size.
    data = bytearray((moved / "2.jpg").read_bytes())
    data[-9] ^= 1
    (moved / "2.jpg").write_bytes(data)
    assert digest() != before


def test_all_that_looks_at_runs_takes_those_with_a_source(job, photographs):
    config = job("i2d", photographs.settings(licence="CC-BY-4.0"), checks={"validity": {}})
    with run_examination(config) as probes:
        wanted = {"model", "source", "prompts", "run", "space"}
        found = dict(examine([probe for probe in probes if probe.name in wanted]))
    assert found.keys() == wanted
    assert all(finding.severity is not Severity.ERROR for finding in found.values())
    store = make(config)
    left = plan_budget(config, measured_at=None, workers=1, price=None)
    assert (left.target, left.there, left.shards) == (5, 5, 0)
    more = config.model_copy(update={"target": config.target.model_copy(update={"pairs": 90})})
    left = plan_budget(more, measured_at=None, workers=1, price=None)
    assert (left.shards, left.candidates, left.short) == (0, 0, 85)
    again, candidate = find_candidate(config.output, 4, trust=True)
    assert (candidate.item.origin.key, candidate.copy) == ("4.jpg", 0)
    pair = make_again(config.output, again, candidate, "cpu")
    assert pair.rgb.shape[:2] == SIZES[4]
    with pytest.raises(MfsynthError, match="no such candidate: candidate 5 of 5"):
        find_candidate(config.output, 5, trust=True)
    report = collect_report(config.output)
    assert dict(report.facts)["source"] == str(photographs.folder)
    finalize(store)
    card = store.read_bytes("README.md").decode()
    assert "Images are those of a source; their depth was made by a generative model" in card
    assert "CC-BY-4.0 (that of the pairs)" in card
    manifest = json.loads(store.read_bytes("manifest.json"))
    assert (manifest["licence"], manifest["digital_source_type"]) == ("CC-BY-4.0", "")
    assert "- digital source type: not stated\n" in card
    assert f"- digital source type of the depth: <{DIGITAL_SOURCE_TYPE}>\n" in card
    assert manifest["source_licences"] == ["CC-BY-4.0"]
    croissant = json.loads(store.read_bytes("croissant.json"))
    digest = read_run(store).settings["source"]["digest"]
    assert croissant["prov:wasDerivedFrom"] == {"@id": f"urn:sha256:{digest}"}
    assert croissant["rai:dataCollectionType"] == ["Secondary Data Analysis"]
    assert "- licence of the source's items: CC-BY-4.0\n" in card
    assert f"- licence of {manifest['models'][0]['id']}" in card
    assert verify_run(store).problems == ()
    assert read_run(store).candidates_in_all == 5


@pytest.mark.parametrize("mode", ["i2d", "d2i"])
def test_an_estimator_looks_at_images_of_all_sizes(job, photographs, mode):
    source = photographs.add_depth()
    checks = {"i2d": {"estimator_agreement": {}}, "d2i": {"depth_error": {}}}[mode]
    config = job(mode, source, estimator={"id": "embedded"}, checks=checks, keep_rejects="all")
    store = make(config)
    assert verify_run(store).problems == ()
    rows = rows_of(store) + rows_of(store, "rejects")
    score = "check_depth_error" if mode == "d2i" else "check_estimator_difference"
    assert len(rows) == len(SIZES)
    assert all(row[score] > 0 for row in rows)


def test_the_script_takes_the_configuration_of_any_job(job, photographs, tmp_path, capsys):
    config = job("i2d", photographs.settings())
    make(config)
    path = tmp_path / "annotate.json"
    path.write_text(config.model_dump_json(exclude={"runtime": {"on_event"}}))
    script = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "generate.py"))
    script["main"](str(path), config.output)
    assert capsys.readouterr().out == f"finished: 5 pairs in {config.output} \n"
