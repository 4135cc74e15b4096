"""Folders of this machine as people have them: what is linked is there, what is locked is told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from locked_folders import locked
from training_files import image, jpeg, png, source, write, write_tar

from mfsynth.errors import MfsynthError

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
