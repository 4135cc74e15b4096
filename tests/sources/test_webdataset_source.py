"""Plain WebDataset shards, indexed by their headers and read in any order."""

from __future__ import annotations

import gzip
import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import webdataset
from pydantic import ValidationError
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

from mfsynth.sources.tars import find_tars
from mfsynth.storage.protocols import PROTOCOLS_VARIABLE

UNIT = {"depth_key": "depth.png", "codes_per_unit": 1000}


def files(number, *, depth=True):
    """Members of a sample in webdataset's order: any, but side by side."""
    key = f"scenes-v1.0/{number:06d}"
    return [
        (f"{key}.json", json.dumps({"prompt": f"bowl {number}", "n": number}).encode()),
        *([(f"{key}.depth.png", png(codes(number)))] if depth else []),
        (f"{key}.png", png(image(number))),
        (f"{key}.txt", f"cup {number}\n".encode()),
    ]


@pytest.fixture
def shards(tmp_path):
    """Three shards of two samples."""
    for shard in range(3):
        members = [*files(2 * shard), *files(2 * shard + 1)]
        write_tar(tmp_path / f"train-{shard:03d}.tar", members)
    return {"kind": "webdataset", "image_key": "png", "shards": str(tmp_path / "train-*.tar")}


def assert_sample(sample, number, caption):
    np.testing.assert_array_equal(sample.rgb, image(number))
    np.testing.assert_array_equal(sample.depth, (codes(number) / 1000).astype(np.float32))
    assert sample.text == caption


def test_samples_are_read_in_any_order(shards):
    opened = source(**shards, **UNIT)
    assert len(opened) == 6
    for number in (5, 0, 3, 3):
        assert_sample(opened[number], number, f"cup {number}")
    assert list(opened.texts()) == [f"cup {number}" for number in range(6)]
    with pytest.raises(IndexError):
        opened[6]


def test_shards_are_named_by_counting_or_wildcards_on_any_file_system(shards, tmp_path):
    whole = source(**shards, **UNIT)
    counted = source(**{**shards, "shards": str(tmp_path / "train-{001..002}.tar")}, **UNIT)
    assert len(counted) == 4
    assert_same_items(counted[0], whole[2])
    memory = fsspec.filesystem("memory")
    for path in tmp_path.glob("*.tar"):
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    remote = source(**{**shards, "shards": "memory://bucket/train-*.tar"}, **UNIT)
    for index in range(6):
        assert_same_items(remote[index], whole[index])


def test_what_webdataset_reads_is_what_we_read(shards, tmp_path):
    opened = source(**shards, **UNIT)
    urls = sorted(str(path) for path in tmp_path.glob("*.tar"))
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in theirs] == list(opened.keys)
    assert [sample["txt"].decode().strip() for sample in theirs] == list(opened.texts())


def test_samples_of_one_name_in_several_tars_are_called_by_their_tars_too(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "x" / folder).mkdir(parents=True)
        write_tar(tmp_path / "x" / folder / "0.tar", files(0))
    settings = {"kind": "webdataset", "image_key": "png"}

    def keys(pattern):
        opened = source(**settings, shards=str(tmp_path / "x" / pattern))
        return [opened.key(index) for index in range(len(opened))]

    name = "scenes-v1.0/000000"
    assert keys("a/0.tar") == [name]
    assert keys("*/0.tar") == [f"a/0.tar/{name}", f"b/0.tar/{name}"]
    assert keys("a/{0,0}.tar") == [f"0.tar/{name}", f"0.tar/{name}#1"]


def test_long_names_and_foreign_members_do_no_harm(tmp_path):
    long = "folder/" * 30 + "000001"
    members = [
        ("README", b"no extension"),
        (f"{long}.jpg", jpeg(image(1))),
        (f"{long}.txt", b"x"),
    ]
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        write_tar(path, members)
        with tarfile.open(path, "w", format=form) as tar:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name, data in members:
                tar.add(write(tmp_path / "file", data), name)
    opened = source(kind="webdataset", shards=str(tmp_path / "*.tar"))
    assert len(opened) == 2
    assert_same_items(opened[0], opened[1])


def test_captions_may_be_a_field_of_json_or_none(shards):
    field = source(**shards, caption_key="json", caption_field="prompt")
    assert field[4].text == "bowl 4"
    assert field[4].depth is None
    assert list(source(**shards, caption_key=None).texts()) == [""] * 6
    unknown = source(**shards, caption_key="json", caption_field="promt")
    with one_line_error("000002.json: no text under 'promt'; set caption_field; .*mean prompt?"):
        unknown[2]
    number = source(**shards, caption_key="json", caption_field="n")
    with one_line_error("no text under 'n'"):
        list(number.texts())
    with one_line_error("000000.txt: not UTF-8 JSON"):
        source(**shards, caption_field="prompt")[0]


def test_a_caption_that_is_there_twice_is_no_caption(tmp_path):
    members = [("a.jpg", jpeg(image(0))), ("a.json", b'{"text": "a mug", "text": "a bowl"}')]
    write_tar(tmp_path / "0.tar", members)
    settings = {"caption_key": "json", "caption_field": "text"}
    opened = source(kind="webdataset", shards=str(tmp_path / "0.tar"), **settings)
    with one_line_error("a.json: not UTF-8 JSON .the key 'text' is there twice"):
        opened[0]


def test_a_sample_without_depth_is_an_error_or_an_image_or_left_out(shards, tmp_path):
    write_tar(tmp_path / "train-001.tar", [*files(2, depth=False), *files(3)])
    with one_line_error(
        r"train-001.tar/scenes-v1.0/000002: no file .depth.png; set depth_key or depth"
    ):
        source(**shards, **UNIT)
    optional = source(**shards, **UNIT, depth="optional")
    assert [optional[i].depth is None for i in range(6)] == [False, False, True, *[False] * 3]
    paired = source(**shards, **UNIT, depth="paired")
    assert len(paired) == 5
    assert_sample(paired[2], 3, "cup 3")


@pytest.mark.parametrize("depth", ["required", "paired", "optional"])
def test_depth_alone_is_taken_where_no_image_is_named(tmp_path, depth):
    members = [("a.depth.png", png(codes(0))), ("b.depth.png", png(codes(1))), ("b.txt", b"cup")]
    write_tar(tmp_path / "0.tar", members)
    settings = {"kind": "webdataset", "shards": str(tmp_path / "0.tar"), "image_key": None}
    settings |= {"caption_key": None, "depth": depth}
    opened = source(**settings, **UNIT)
    for number, item in enumerate(opened):
        assert (item.rgb, item.text) == (None, "")
        assert item.name.endswith("0.tar/" + "ab"[number] + ".depth.png")
        np.testing.assert_array_equal(item.depth, (codes(number) / 1000).astype(np.float32))
    write_tar(tmp_path / "0.tar", [*members, ("c.txt", b"a bowl")])
    if depth == "paired":
        assert source(**settings, **UNIT).ids == ("a", "b")
    else:
        with one_line_error(r"0.tar/c: no file .depth.png; set depth_key"):
            source(**settings, **UNIT)
    with pytest.raises(ValidationError, match="give image_key, depth_key, or both"):
        source(**settings)


def test_a_misspelt_extension_is_told_the_right_one(shards):
    with one_line_error(r"000000: no file .pgn; set image_key \(did you mean png\?\)"):
        source(**{**shards, "image_key": "pgn"})
    with one_line_error("no file .text; set caption_key"):
        source(**shards, caption_key="text")


def test_depth_of_the_wrong_kind_is_named_by_shard_and_sample(tmp_path):
    members = [("k.png", png(image(0))), ("k.depth.png", png(codes(0).astype(np.uint8)))]
    write_tar(tmp_path / "a.tar", members)
    opened = source(
        kind="webdataset",
        shards=str(tmp_path / "a.tar"),
        image_key="png",
        caption_key=None,
        **UNIT,
    )
    with one_line_error(r"a\.tar/k\.depth\.png: a PNG that is 8-bit"):
        opened[0]


def test_nothing_to_read_is_told(tmp_path, monkeypatch):
    settings = {"kind": "webdataset", "shards": str(tmp_path / "*.tar")}
    with one_line_error(r"\*\.tar: no tar file matches"):
        source(**settings)
    with one_line_error(r"none\.tar: cannot be read \(FileNotFoundError\)"):
        source(**{**settings, "shards": str(tmp_path / "none.tar")})
    monkeypatch.setenv(PROTOCOLS_VARIABLE, "nosuch")
    with one_line_error(r"^nosuch://bucket/\*\.tar: cannot be listed"):
        source(**{**settings, "shards": "nosuch://user:secret@bucket/*.tar"})
    write_tar(tmp_path / "a.tar", [])
    with one_line_error("no samples in 1 tar files"):
        source(**settings)


def test_a_truncated_a_compressed_and_a_doubled_tar_are_left_out_by_name(shards, tmp_path):
    strict = {**shards, "max_skipped": 0}
    whole = (tmp_path / "train-001.tar").read_bytes()
    path = tmp_path / "train-002.tar"
    # In the middle of the last member's data.
    write(path, whole[: whole.index(b"cup 3") + 2])
    with one_line_error(r"train-002\.tar: truncated, compressed or not a tar file"):
        source(**strict)
    write(path, gzip.compress(whole))
    with one_line_error(r"train-002\.tar: truncated, compressed or not a tar file"):
        source(**strict)
    write_tar(path, [*files(1), *files(1)])
    with one_line_error(r"train-002\.tar: scenes-v1\.0/000001\.json is there twice"):
        source(**strict)
    opened = source(**shards)
    assert len(opened) == 4
    assert [one.name.rpartition("/")[2] for one in opened.skipped] == ["train-002.tar"]
    write(tmp_path / "train-001.tar", b"")
    with one_line_error("2 of 3 files can't be used, and max_skipped allows 1"):
        source(**shards)
    for path in tmp_path.glob("*.tar"):
        write(path, b"x" * 600)
    with one_line_error(r"train-000\.tar: truncated, compressed or not a tar file \(.*\); restore"):
        source(**shards)


def test_a_shard_that_shrank_since_it_was_indexed_is_told(shards, tmp_path):
    opened = source(**shards)
    write(tmp_path / "train-002.tar", b"")
    with one_line_error(r"train-002\.tar: truncated since it was indexed"):
        opened[5]


def test_an_index_pickles_small_and_gives_the_same_samples(shards):
    opened = source(**shards, **UNIT)
    data = pickle.dumps(opened)
    assert len(data) < 4000
    assert_same_items(pickle.loads(data)[3], opened[3])


@pytest.mark.parametrize(
    ("pattern", "other", "escaped"),
    [
        ("run[1]/a.tar", "run1/a.tar", "run[[]1]/a.tar"),
        ("run/a*.tar", "run/ab.tar", "run/a[*].tar"),
        ("run/a?.tar", "run/ab.tar", "run/a[?].tar"),
        ("run/{a,b}.tar", "run/b.tar", "run/\\{a,b\\}.tar"),
        ("run/{a,b}[1].tar", "run/b1.tar", "run/\\{a,b\\}[[]1].tar"),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_tar_whose_name_is_a_pattern_is_that_tar_or_refused(
    tmp_path, pattern, other, escaped, remote
):
    place = f"memory:/{tmp_path}" if remote else str(tmp_path)
    filesystem, root = fsspec.url_to_fs(place)

    def found(name):
        return [tar.path.removeprefix(f"{root}/") for tar in find_tars(f"{place}/{name}")]

    for folder in {Path(pattern).parent, Path(other).parent}:
        filesystem.makedirs(f"{root}/{folder}", exist_ok=True)
    filesystem.pipe(f"{root}/{pattern}", b"")
    assert found(pattern) == [pattern]
    filesystem.pipe(f"{root}/{other}", b"")
    with one_line_error("a file of this very name and others"):
        found(pattern)
    assert found(escaped) == [pattern]
    filesystem.rm_file(f"{root}/{pattern}")
    assert other in found(pattern)
