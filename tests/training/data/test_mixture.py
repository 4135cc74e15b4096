"""A mixture is a pure function of seed and index, and its batches of seed, step and row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_files import (
    assert_same_samples,
    codes,
    image,
    one_line_error,
    png,
    write,
    write_tar,
)

from mfsynth.datasets.shuffling import shuffled
from mfsynth.sources.base import Item
from mfsynth.training.data import Mixture, PartSettings, open_mixture
from mfsynth.training.data.batches import batches
from mfsynth.training.data.mixture import Part
from mfsynth.training.data.sparsity import AtMostPattern
from mfsynth.training.invalid_depth import fill_invalid


class Numbered:
    """A source whose texts are its indices."""

    def __init__(self, name, count, depth=1.0):
        self.name, self.count, self.depth = name, count, depth

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        depth = None if self.depth is None else np.full((8, 8), self.depth, np.float32)
        return Item(image(index, 8, 8), depth, f"{self.name}{index}")

    def texts(self):
        return (f"{self.name}{index}" for index in range(self.count))


@pytest.fixture
def mixture(tmp_path):
    """Of a folder and tar files, with everything on."""
    for number in range(5):
        write(tmp_path / "rgb" / f"{number}.png", png(image(number, 20, 30)))
        if number != 3:
            write(tmp_path / "depth" / f"{number}.png", png(codes(number, 20, 30)))
    members = [
        member
        for number in range(7)
        for member in (
            (f"{number}.png", png(image(100 + number, 24, 16))),
            (f"{number}.txt", f"tar {number}".encode()),
        )
    ]
    write_tar(tmp_path / "a.tar", members)
    settings = [
        {
            "kind": "folder",
            "layout": "generic",
            "path": str(tmp_path),
            "images": "rgb/*.png",
            "depths": "depth/*.png",
            "codes_per_unit": 1000,
            "depth": "optional",
            "captions": {"constant": "a folder"},
            "weight": 2.0,
            "mirror": True,
            "sparsity": [{"kind": "sensor_holes"}, {"kind": "at_most", "share": 0.25}],
        },
        {"kind": "webdataset", "shards": str(tmp_path / "a.tar"), "image_key": "png"},
    ]
    return open_mixture([PartSettings.model_validate(part) for part in settings], 12, 12)


@given(st.integers(1, 300), st.integers(0, 2**40))
def test_a_shuffled_range_is_a_permutation(count, key):
    order = [shuffled(position, count, (key, 0)) for position in range(count)]
    assert sorted(order) == list(range(count))


def test_shuffled_ranges_have_no_favourites_and_no_common_order():
    first = Counter(shuffled(0, 10, (seed,)) for seed in range(2000))
    assert set(first) == set(range(10))
    assert max(first.values()) < 1.4 * min(first.values())
    a, b = ([shuffled(i, 1000, (seed,)) for i in range(1000)] for seed in (1, 2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    assert abs(np.corrcoef(a, range(1000))[0, 1]) < 0.1
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.1


def test_a_sample_is_a_function_of_seed_and_index(mixture):
    for index in (0, 17, 10**9):
        assert_same_samples(mixture.sample(5, index), mixture.sample(5, index))
    captions = [[mixture.sample(seed, i).caption for i in range(20)] for seed in (5, 6)]
    assert captions[0] != captions[1]


def test_every_sample_has_the_size_and_at_most_the_share_of_depth(mixture):
    with_depth = 0
    for index in range(60):
        sample = mixture.sample(0, index)
        assert sample.rgb.shape == (12, 12, 3)
        if sample.depth is not None:
            with_depth += 1
            assert sample.caption == "a folder"
            assert 0 < np.count_nonzero(sample.depth) <= 36
    assert 10 < with_depth < 50


def test_parts_come_in_the_shares_of_their_weights_not_of_their_sizes():
    parts = (Part(Numbered("a", 1000), 1.0), Part(Numbered("b", 3), 3.0))
    mixture = Mixture(parts, 8, 8)
    names = Counter(mixture.sample(1, index).caption[0] for index in range(1000))
    assert names["a"] / 1000 == pytest.approx(0.25, abs=0.04)


def test_images_alone_are_learnt_without_the_parts_that_wait(mixture):
    first, *others = mixture.parts
    waiting = replace(mixture, parts=(first, *(replace(one, joint_only=True) for one in others)))
    assert waiting.images_alone().parts == (first,)
    assert mixture.images_alone() == mixture


def test_one_part_shows_each_sample_once_an_epoch_in_another_order_each():
    mixture = Mixture((Part(Numbered("a", 20)),), 8, 8)
    epochs = [
        [mixture.sample(7, index).caption for index in range(start, start + 20)]
        for start in (0, 20, 40)
    ]
    for epoch in epochs:
        assert sorted(epoch) == sorted(f"a{index}" for index in range(20))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_depth_of_which_nothing_is_left_is_none():
    cap = AtMostPattern(share=0.0)
    assert Mixture((Part(Numbered("a", 2), sparsity=(cap,)),), 8, 8).sample(0, 0).depth is None
    assert Mixture((Part(Numbered("a", 2, depth=0.0)),), 8, 8).sample(0, 0).depth is None
    assert Mixture((Part(Numbered("a", 2, depth=None)),), 8, 8).sample(0, 0).depth is None


def test_a_mixture_knows_all_captions(mixture):
    assert list(mixture.captions()) == ["a folder"] * 5 + [f"tar {i}" for i in range(7)]


def assert_same_batches(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.depth, other.depth)
        assert one.captions == other.captions


def test_two_workers_load_the_same_batches_as_none(mixture):
    alone = list(batches(mixture, 3, 4, range(6)))
    assert_same_batches(list(batches(mixture, 3, 4, range(6), workers=2)), alone)
    assert alone[0].rgb.shape == (4, 12, 12, 3)
    assert alone[0].depth.shape == (4, 12, 12)


@pytest.mark.slow
def test_workers_that_are_spawned_load_the_same_batches(mixture):
    spawned = list(batches(mixture, 3, 4, range(4), workers=2, start_method="spawn", filled=True))
    for batch in spawned:
        assert torch.equal(batch.filled, fill_invalid(batch.depth))
    assert_same_batches(spawned, list(batches(mixture, 3, 4, range(4))))


def test_rows_of_a_batch_are_the_samples_of_the_stream(mixture):
    (batch,) = batches(mixture, 3, 4, [5])
    for row in range(4):
        sample = mixture.sample(3, 5 * 4 + row)
        np.testing.assert_array_equal(batch.rgb[row], sample.rgb)
        assert batch.captions[row] == sample.caption
        assert bool(batch.has_depth[row]) == (sample.depth is not None)
        if sample.depth is not None:
            np.testing.assert_array_equal(batch.depth[row], sample.depth)


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(mixture):
    whole = list(batches(mixture, 3, 4, range(6)))
    assert_same_batches(list(batches(mixture, 3, 4, range(4, 6), workers=1)), whole[4:])


def test_two_ranks_share_the_batch_of_one(mixture):
    (whole,) = batches(mixture, 3, 6, [2])
    halves = [next(batches(mixture, 3, 3, [2], rank=rank, ranks=2)) for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate([half.rgb for half in halves]), whole.rgb)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_file_is_one_line_also_from_a_worker(mixture, tmp_path, workers):
    for path in (tmp_path / "rgb").iterdir():
        path.write_bytes(b"no image")
    with one_line_error(r"^\S*rgb/\d\.png: corrupt or not an image \(no known format\)"):
        list(batches(mixture, 3, 4, range(6), workers=workers))


def test_a_mixture_of_nothing_is_told():
    with one_line_error("data: no source of training data"):
        open_mixture([], 8, 8)


def test_an_image_keeps_its_sparsity_pattern_in_all_epochs():
    part = Part(Numbered("a", 3), sparsity=(AtMostPattern(share=0.25),))
    mixture = Mixture((part,), 8, 8)
    masks: dict[str, list[bytes]] = {}
    for index in range(4 * 3):
        sample = mixture.sample(0, index)
        masks.setdefault(sample.caption, []).append((sample.depth > 0).tobytes())
    assert [len(of_image) for of_image in masks.values()] == [4, 4, 4]
    assert all(len(set(of_image)) == 1 for of_image in masks.values())
    assert len({of_image[0] for of_image in masks.values()}) == 3
