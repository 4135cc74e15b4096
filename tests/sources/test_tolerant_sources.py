"""What the world leaves in folders and tars: left out with a count, up to a limit, and named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from depth_files import npy_of, z_map
from training_files import (
    assert_same_items,
    codes,
    image,
    jpeg,
    one_line_error,
    png,
    source,
    write,
    write_tar,
)

from mfsynth.sources.survey import survey
from mfsynth.training.data import PartSettings, open_mixture, survey_parts
from mfsynth.training.data.batches import batches


def frames(root, count=8, captions=True):
    for number in range(count):
        write(root / "rgb" / f"{number}.png", png(image(number)))
        write(root / "depth" / f"{number}.png", png(codes(number)))
        if captions:
            write(root / "rgb" / f"{number}.txt", f"cup {number}\n")
    return {
        "kind": "folder",
        "layout": "generic",
        "path": str(root),
        "images": "rgb/*.png",
        "depths": "depth/*.png",
        "codes_per_unit": 1000,
    }


def litter(root):
    for folder in (root, root / "rgb", root / "depth", root / "__MACOSX" / "rgb"):
        write(folder / "._0.png", b"\0\5\x16\7")
        write(folder / ".DS_Store", b"Bud1")
        write(folder / ".thumbnails" / "0.png", b"")
    (root / "lost+found").mkdir()


def test_what_operating_systems_leave_is_no_data(tmp_path):
    settings = frames(tmp_path)
    litter(tmp_path)
    wild = {**settings, "images": "**/rgb/*.png", "depths": "**/depth/*.png"}
    for opened in (source(**settings), source(**wild)):
        assert [item.rgb[0, 0, 0] for item in opened] == [image(n)[0, 0, 0] for n in range(8)]
    trees = {"kind": "folder", "layout": "kitti", "depth": "paired"}
    paths = {"path": str(tmp_path / "rgb"), "depth_path": str(tmp_path / "depth")}
    assert len(source(**trees, **paths)) == 8


def test_a_hidden_folder_that_a_pattern_names_is_meant(tmp_path):
    write(tmp_path / ".cache" / "a.png", png(image(0)))
    folder = {"kind": "folder", "layout": "generic", "path": str(tmp_path)}
    assert len(source(**folder, images=".cache/*.png")) == 1


def test_extensions_may_be_written_in_capitals_and_be_several(tmp_path):
    for number, name in enumerate(["a.JPG", "b.jpeg", "c.jpg", "d.png"]):
        data = png(image(number)) if name.endswith("png") else jpeg(image(number))
        write(tmp_path / "rgb" / name, data)
        write(
            tmp_path / "depth" / f"{name[0]}.{'PNG' if number % 2 else 'png'}", png(codes(number))
        )
    opened = source(
        kind="folder",
        layout="generic",
        path=str(tmp_path),
        images="rgb/*.{jpg,jpeg,png}",
        depths="depth/*.png",
        codes_per_unit=1000,
    )
    assert [item.name.rpartition("/")[2] for item in opened] == [
        "a.JPG",
        "b.jpeg",
        "c.jpg",
        "d.png",
    ]
    for number, item in enumerate(opened):
        np.testing.assert_array_equal(item.depth, (codes(number) / 1000).astype(np.float32))


def test_an_image_with_two_depth_maps_is_told(tmp_path):
    settings = frames(tmp_path, 1)
    write(tmp_path / "depth" / "0.npy", npy_of(z_map()))
    with one_line_error("depth/0.png and .*depth/0.npy are depth of the same image"):
        source(**{**settings, "depths": "depth/*.{png,npy}"})


def test_members_of_tars_may_have_capitals_several_extensions_and_litter(tmp_path):
    members = [
        ("._0.jpg", b"\0\5"),
        ("0.JPG", jpeg(image(0))),
        ("0.TXT", b"a"),
        (".DS_Store", b"x"),
        ("__MACOSX/0.jpg", b"x"),
        ("1.png", png(image(1))),
        ("1.txt", b"b"),
    ]
    write_tar(tmp_path / "0.tar", members)
    opened = source(kind="webdataset", shards=str(tmp_path / "0.tar"), image_key="jpg;png")
    assert list(opened.texts()) == ["a", "b"]
    np.testing.assert_array_equal(opened[1].rgb, image(1))


@pytest.mark.parametrize("double", [False, True])
def test_captions_lie_in_files_beside_images(tmp_path, double):
    settings = frames(tmp_path, 3)
    if double:
        for number in range(3):
            (tmp_path / "rgb" / f"{number}.txt").rename(tmp_path / "rgb" / f"{number}.png.txt")
    opened = source(**settings, captions={"beside": "txt"})
    assert list(opened.texts()) == ["cup 0", "cup 1", "cup 2"]


def test_captions_may_be_lists_of_which_the_first_is_taken(tmp_path):
    settings = frames(tmp_path, 2, captions=False)
    for number in range(2):
        document = {"caption": [f"a cup {number}", "a mug"]}
        write(tmp_path / "rgb" / f"{number}.json", json.dumps(document))
    beside = {"beside": ".json", "caption_key": "caption"}
    assert list(source(**settings, captions=beside).texts()) == ["a cup 0", "a cup 1"]
    rows = [json.dumps({"file_name": f"rgb/{n}.png", "text": [f"{n}", "x"]}) for n in range(2)]
    write(tmp_path / "c.jsonl", "\n".join(rows))
    assert list(source(**settings, captions={"file": "c.jsonl"}).texts()) == ["0", "1"]
    write(tmp_path / "c.jsonl", "\n".join([*rows[:1], '{"file_name": "rgb/1.png", "text": null}']))
    lacking = source(**settings, captions={"file": "c.jsonl"})
    assert [*lacking.texts()] == ["0"]
    assert "c.jsonl:2: no text under the key 'text'" in lacking.skipped[0].reason
    write_tar(tmp_path / "0.tar", [("a.jpg", jpeg(image(0))), ("a.json", b'{"texts": ["b", "c"]}')])
    tars = {"kind": "webdataset", "shards": str(tmp_path / "0.tar"), "caption_key": "json"}
    assert source(**tars, caption_field="texts")[0].text == "b"


def test_hints_know_what_captions_are_called(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.jpg", jpeg(image(0))), ("a.caption", b"b")])
    with one_line_error(r"no file .txt; set caption_key \(did you mean caption\?\)"):
        source(kind="webdataset", shards=str(tmp_path / "0.tar"))
    settings = frames(tmp_path, 1)
    write(tmp_path / "c.jsonl", '{"file_name": "rgb/0.png", "caption": "x"}')
    with one_line_error(r"no text under the key 'text'.*did you mean caption\?"):
        source(**settings, captions={"file": "c.jsonl"})


def test_missing_captions_are_left_out_with_a_count_up_to_the_limit(tmp_path):
    settings = frames(tmp_path)
    (tmp_path / "rgb" / "3.txt").unlink()
    beside = {"captions": {"beside": "txt"}}
    opened = source(**settings, **beside)
    assert len(opened) == 7
    assert [one.name.rpartition("/")[2] for one in opened.skipped] == ["3.png"]
    with one_line_error("3.txt: no such file with the caption of 3.png; add it$"):
        source(**settings, **beside, max_skipped=0)
    (tmp_path / "rgb" / "5.txt").unlink()
    with one_line_error("5.txt: .*; 2 of 8 items can't be used, and max_skipped allows 1$"):
        source(**settings, **beside)
    assert len(source(**settings, **beside, max_skipped=0.25)) == 6


def test_samples_without_a_caption_or_an_image_are_left_out_up_to_the_limit(tmp_path):
    members = [
        (f"{number}.{extension}", data)
        for number in range(8)
        for extension, data in (("png", png(image(number))), ("txt", b"x"))
        if (number, extension) not in {(2, "txt"), (6, "png")}
    ]
    write_tar(tmp_path / "0.tar", members)
    tars = {"kind": "webdataset", "shards": str(tmp_path / "0.tar"), "image_key": "png"}
    with one_line_error("0.tar/2: no file .txt; .*; .*0.tar/6: no file .png; .*2 of 8 items"):
        source(**tars)
    opened = source(**tars, max_skipped=0.3)
    assert opened.keys == ("0", "1", "3", "4", "5", "7")
    assert len(opened.skipped) == 2


def test_captions_that_cannot_be_read_are_empty_in_the_list_of_texts_up_to_the_limit(tmp_path):
    members = [
        (f"{number}.{extension}", data)
        for number in range(8)
        for extension, data in (
            ("png", png(image(number))),
            ("txt", b"\xff" if number == 2 else b"x"),
        )
    ]
    write_tar(tmp_path / "0.tar", members)
    tars = {"kind": "webdataset", "shards": str(tmp_path / "0.tar"), "image_key": "png"}
    assert list(source(**tars).texts()) == ["x", "x", "", *["x"] * 5]
    with one_line_error("2.txt: not UTF-8 text"):
        list(source(**tars, max_skipped=0).texts())


def mixture_of(settings, **more):
    return open_mixture([PartSettings.model_validate({**settings, **more})], 6, 8)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_left_out_of_training_and_told_once(tmp_path, workers):
    settings = frames(tmp_path)
    write(tmp_path / "rgb" / "3.png", png(image(3))[:-20])
    said = []
    mixture = mixture_of(settings, captions={"beside": "txt"})
    loaded = list(batches(mixture, 0, 4, range(6), workers=workers, log=said.append))
    captions = [caption for batch in loaded for caption in batch.captions]
    assert len(captions) == 24
    assert "cup 3" not in captions
    # The next one takes its place.
    assert captions.count("cup 4") == 6
    assert len(said) == 1
    assert "left out, 1 so far: " in said[0]
    assert "rgb/3.png: corrupt or not an image" in said[0]


def test_more_broken_images_than_the_limit_end_a_training(tmp_path):
    settings = frames(tmp_path)
    for number in (1, 3):
        write(tmp_path / "depth" / f"{number}.png", b"")
    with one_line_error("^.*depth/[13].png: .*; 2 of 8 items can't be used, .*allows 1$"):
        list(batches(mixture_of(settings), 0, 4, range(6)))
    assert list(batches(mixture_of(settings, max_skipped=0.25), 0, 4, range(6)))
    with one_line_error("^.*depth/[13].png: not a PNG"):
        list(batches(mixture_of(settings, max_skipped=0), 0, 4, range(6)))


def test_depth_that_is_invalid_everywhere_stops_a_training_before_it_begins(tmp_path):
    settings = frames(tmp_path)
    for number in range(8):
        write(tmp_path / "depth" / f"{number}.png", png(np.zeros((6, 8), np.uint16)))
    with one_line_error("depth/0.png: no pixel has valid depth; check encoding"):
        survey_parts(mixture_of(settings), print)
    with one_line_error("data: no valid depth in any part.*depth would be learnt from nothing"):
        survey_parts(mixture_of(settings, depth="optional"), print)
    images = {key: value for key, value in settings.items() if key != "depths"}
    with one_line_error("data: no valid depth in any part"):
        survey_parts(mixture_of(images), print)


def test_one_map_without_a_valid_pixel_is_left_out(tmp_path):
    settings = frames(tmp_path)
    write(tmp_path / "depth" / "2.png", png(np.zeros((6, 8), np.uint16)))
    said = []
    survey_parts(mixture_of(settings), said.append)
    list(batches(mixture_of(settings), 0, 4, range(4), log=said.append))
    assert sum("depth/2.png: no pixel has valid depth" in line for line in said) == 2
    assert source(**settings, depth="optional")[2].depth.any() == False  # noqa: E712


def test_a_training_begins_with_what_its_data_seem_to_hold(tmp_path):
    settings = frames(tmp_path)
    given = {"fx": 7.0, "fy": 6.5, "cx": 3.4, "cy": 2.6}
    said = []
    survey_parts(mixture_of(settings, encoding={"camera": given}), said.append)
    assert said[0] == "data.0: 8 items; of 8, 8 with depth"
    assert "95.8% of the pixels valid, near " in said[1]
    assert " m; codes 0 (4.2% of the pixels) to 6" in said[1]
    assert said[2] == ("data.0: camera: fx 7.0, fy 6.5, cx 3.4, cy 2.6 for 8x6 from the settings")
    assert "nobody said that depth is of the image's camera" in said[3]


def test_saturated_codes_stop_a_training_before_it_begins(tmp_path):
    settings = frames(tmp_path)
    for number in range(8):
        write(tmp_path / "depth" / f"{number}.png", png(np.full((6, 8), 65535, np.uint16)))
    with one_line_error("depth/0.png: 100 % of the pixels have the code 65535"):
        survey(source(**settings), 4)


def test_items_are_the_same_however_they_are_listed(tmp_path):
    settings = frames(tmp_path)
    litter(tmp_path)
    one = source(**settings)
    other = source(**{**settings, "images": "rgb/[0-9].{png,jpg}", "depths": "depth/[0-9].png"})
    for index in range(8):
        assert_same_items(one[index], other[index])


def test_a_frame_number_that_is_no_int64_is_one_line(tmp_path):
    for number in ("000000000000000000007", "9" * 30):
        write(tmp_path / number / "a" / f"{number}.png", png(image(0)))
    labels = {"episode": r"(?P<episode>.*)/(?P<frame>\d+)\.png"}
    settings = {"kind": "folder", "layout": "generic", "images": "a/*.png", "labels": labels}
    first = source(**settings, path=str(tmp_path / "000000000000000000007"))
    assert first[0].labels.moment.frame == 7
    with one_line_error("its frame is no number of at most 18 digits"):
        source(**settings, path=str(tmp_path / ("9" * 30)))
