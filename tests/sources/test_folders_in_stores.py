"""Folders in object stores are read as those on the disk, and have the same content."""

from __future__ import annotations

import pickle
import re

import fsspec
import numpy as np
import pytest
from s3_server import SECRETS
from training_files import assert_same_items, codes, image, one_line_error, png, source, write

from mfsynth.errors import MfsynthError
from mfsynth.sources.contents import content_digest
from mfsynth.sources.registry import source_settings

GENERIC = {
    "kind": "folder",
    "layout": "generic",
    "images": "**/rgb/*.png",
    "depths": "**/depth/*.png",
    "encoding": {"scale": 0.001, "camera": {"file": "../K.txt"}},
    "captions": {"file": "captions.csv"},
}


def uploaded(folder, url):
    fsspec.filesystem(url.partition("://")[0]).put(f"{folder}/", f"{url}/", recursive=True)
    return url


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    rows = ["file_name,text"]
    for scene in ("a", "b"):
        write(root / scene / "K.txt", "7 0 3\n0 7 2\n0 0 1\n")
        for number in range(2):
            write(root / scene / "rgb" / f"{number}.PNG", png(image(number)))
            write(root / scene / "depth" / f"{number}.png", png(codes(number)))
            write(root / scene / "rgb" / f"._{number}.png", b"left by a file manager")
            rows.append(f"{scene}/rgb/{number}.PNG,{scene} {number}")
    write(root / "captions.csv", "\n".join(rows))
    return root


@pytest.mark.parametrize("place", ["disk", "store"])
def test_files_beside_are_found_and_counted_whatever_the_letters_of_their_extension(
    folder, s3, place
):
    for scene in ("a", "b"):
        (folder / scene / "K.txt").rename(folder / scene / "K.TXT")

    def digest():
        url = uploaded(folder, s3.new_bucket() + "/data") if place == "store" else str(folder)
        settings = {**GENERIC, "path": url}
        opened = source(**settings)
        assert opened[0].intrinsics.cx == 3
        return content_digest(source_settings(settings), opened)

    before = digest()
    write(folder / "a" / "K.TXT", "8 0 3\n0 8 2\n0 0 1\n")
    assert digest() != before


def test_a_file_that_vanished_from_a_store_is_one_line_when_contents_are_taken(folder):
    url = uploaded(folder, "memory://vanished/data")
    settings = {**GENERIC, "path": url}
    opened = source(**settings)
    fsspec.filesystem("memory").rm("/vanished/data/a/depth/1.png")
    with one_line_error("a/depth/1.png: cannot be read .*; check URL and access"):
        content_digest(source_settings(settings), opened)


def test_a_folder_in_a_store_has_the_items_and_the_content_of_the_one_on_the_disk(folder, s3):
    url = uploaded(folder, s3.new_bucket() + "/data")
    here, there = ({**GENERIC, "path": path} for path in (str(folder), url))
    local, remote = source(**here), pickle.loads(pickle.dumps(source(**there)))
    assert len(remote) == len(local) == 4
    for index in range(4):
        assert remote.key(index) == local.key(index)
        assert_same_items(remote[index], local[index])
        assert remote[index].intrinsics.fx == 7
    digests = {content_digest(source_settings(s), o) for s, o in ((here, local), (there, remote))}
    assert len(digests) == 1


def test_other_content_at_the_same_size_is_told_apart_in_a_store(folder, s3):
    settings = {**GENERIC, "path": uploaded(folder, s3.new_bucket())}
    before = content_digest(source_settings(settings), source(**settings))
    data = bytearray((folder / "a/depth/0.png").read_bytes())
    data[-5] ^= 1
    fsspec.filesystem("s3").pipe(f"{settings['path']}/a/depth/0.png", bytes(data))
    assert content_digest(source_settings(settings), source(**settings)) != before


def test_a_sequence_of_tum_lies_in_a_store(tmp_path, s3):
    for name, make in (("rgb", image), ("depth", codes)):
        write(tmp_path / f"{name}.txt", f"1.0 {name}/1.png\n")
        write(tmp_path / name / "1.png", png(make(0)))
    url = uploaded(tmp_path, s3.new_bucket())
    item = source(kind="folder", layout="tum", path=url)[0]
    np.testing.assert_array_equal(item.depth, (codes(0) / 5000).astype(np.float32))


def test_what_is_missing_in_a_store_is_one_line_without_secrets(folder, s3):
    bucket = s3.new_bucket()
    with one_line_error(f"^{bucket}: no files there; check the URL$"):
        source(**{**GENERIC, "path": bucket})
    opened = source(**{**GENERIC, "path": uploaded(folder, bucket)})
    fsspec.filesystem("s3").rm(f"{bucket}/a/depth/0.png")
    with pytest.raises(MfsynthError) as told:
        opened[0]
    assert re.match(rf"{bucket}/a/depth/0\.png: cannot be read \(FileNotFound", str(told.value))
    assert not any(secret in str(told.value) for secret in SECRETS.values())
    with one_line_error("chained URLs"):
        source(**{**GENERIC, "path": "simplecache::s3://bucket"})
