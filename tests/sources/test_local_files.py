"""Folders of this machine as people have them: what is linked is there, what is locked is told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
from locked_folders import locked
from training_files import codes, image, jpeg, png, source, write, write_tar
from video_files import write_video

from mfsynth.errors import MfsynthError
from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings

# Müller, as systems and archives write it that aren't in UTF-8.
ODD = "M\udcfcller"

LISTED = {
    "folder": {"kind": "folder", "layout": "generic", "path": "{}", "images": "**/*.png"},
    "folder, levels": {"kind": "folder", "layout": "generic", "path": "{}", "images": "*/*.png"},
    "URL": {"kind": "folder", "layout": "generic", "path": "file://{}", "images": "**/*.png"},
    "tars": {"kind": "webdataset", "shards": "{}/**/*.tar", "caption_key": None},
    "tars, levels": {"kind": "webdataset", "shards": "{}/*/*.tar", "caption_key": None},
    "tars of a URL": {"kind": "webdataset", "shards": "file://{}/**/*.tar", "caption_key": None},
}


def fill(folder: Path, number: int) -> None:
    write(folder / f"{number}.png", png(image(number)))
    write_tar(folder / f"{number}.tar", [(f"{number}.jpg", jpeg(image(number)))])


@pytest.fixture
def root(tmp_path) -> Path:
    fill(tmp_path / "root" / "here", 0)
    return tmp_path / "root"


@pytest.fixture(params=LISTED)
def count(request, root):
    """How many items a source of the folder has."""
    settings = {
        name: value.format(root) if isinstance(value, str) else value
        for name, value in LISTED[request.param].items()
    }
    return lambda: len(source(**settings))


def test_what_links_lead_to_is_there(root, tmp_path, count):
    fill(tmp_path / "elsewhere", 1)
    (root / "there").symlink_to(tmp_path / "elsewhere")
    for end in ("png", "tar"):
        (root / "here" / f"2.{end}").symlink_to(tmp_path / "elsewhere" / f"1.{end}")
    assert count() == 3


def test_a_link_to_a_folder_above_leads_to_nothing_new(root, count):
    (root / "here" / "back").symlink_to(root)
    assert count() == 1


def test_a_folder_that_can_not_be_listed_is_not_an_empty_one(root, count):
    fill(root / "there", 1)
    assert count() == 2
    with locked(root / "there"), pytest.raises(MfsynthError, match="cannot be listed") as told:
        count()
    assert str(root / "there") in str(told.value)
    assert "\n" not in str(told.value)


def test_folders_that_no_data_is_in_may_be_locked(root, count):
    (root / "lost+found").mkdir()
    with locked(root / "lost+found"):
        assert count() == 1


def test_a_link_to_nothing_is_an_item_that_can_not_be_read(root):
    (root / "here" / "1.png").symlink_to(root / "gone.png")
    items = source(**LISTED["folder"] | {"path": str(root)})
    assert len(items) == 2
    with pytest.raises(MfsynthError, match=re.escape(str(root / "here" / "1.png"))):
        items[1]


def test_a_pattern_reaches_no_further_than_it_says(root):
    fill(root / "here" / "below", 1)
    os.mkfifo(root / "here" / "3.png")
    for images, expected in {
        "here/*.png": 1,
        "**/*.png": 2,
        "*/*/*.PNG": 1,
        "here/**/*.png": 2,
    }.items():
        settings = {**LISTED["folder"], "path": str(root), "images": images}
        assert len(source(**settings)) == expected


def fill_oddly(folder: Path, kind: str) -> dict[str, object]:
    """Two items with `ODD` in names; their settings."""
    folder.mkdir()
    if kind == "webdataset":
        write_tar(folder / f"{ODD}.tar", [(f"{n}.jpg", jpeg(image(0))) for n in ("A", ODD)])
        return {"kind": kind, "shards": f"{folder}/*.tar", "caption_key": None}
    if kind == "table":
        images = pa.StructArray.from_arrays([pa.array([png(image(0))] * 2)], ["bytes"])
        table = pa.table({"image": images})
        with (
            (folder / f"{ODD}.arrow").open("wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table)
        return {"kind": kind, "path": str(folder)}
    if kind == "video":
        write_video(folder / f"{ODD}.mkv", [image(n, 32, 48) for n in range(2)])
        return {"kind": kind, "path": str(folder)}
    for name in ("A", ODD):
        write(folder / "rgb" / f"{name}.png", png(image(0)))
        write(folder / "depth" / f"{name}.png", png(codes(0)))
    wildcards = {"images": "rgb/*.png", "depths": "depth/*.png", "codes_per_unit": 1000}
    return {"kind": kind, "layout": "generic", "path": str(folder), **wildcards}


@pytest.mark.parametrize("kind", ["folder", "webdataset", "table", "video"])
def test_names_that_are_no_utf_8_are_read_and_spelt_out(tmp_path, kind):
    settings = fill_oddly(tmp_path / "root", kind)
    items = source(**settings)
    assert len(items) == 2
    assert items[1].rgb is not None
    # Whatever is stored or sent of an item can be.
    told = [items.key(1), items[1].name]
    if (moment := items.moment(1)) is not None:
        told.append(moment.episode)
    for text in told:
        assert r"M\udcfcller" in text
        text.encode()
    content_digest(source_settings(settings), items)


def test_a_broken_file_of_such_a_name_is_told(tmp_path):
    settings = fill_oddly(tmp_path / "root", "folder")
    (tmp_path / "root" / "rgb" / f"{ODD}.png").unlink()
    write(tmp_path / "root" / "rgb" / f"{ODD}.png", b"")
    with pytest.raises(MfsynthError, match=r"M\\udcfcller.png: corrupt"):
        source(**settings)[1]
