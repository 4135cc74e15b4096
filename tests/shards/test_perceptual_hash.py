from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_run

from mfsynth.shards import codecs
from mfsynth.shards.commits import read_commits
from mfsynth.shards.perceptual_hash import perceptual_hash
from mfsynth.shards.writer import encode_sample


def picture(seed: int, side: int = 256):
    """Coloured blobs, which no other seed has at the same places."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def bits_between(first, second) -> int:
    return ((perceptual_hash(first) ^ perceptual_hash(second)) & (2**64 - 1)).bit_count()


CHANGES = {
    "half the size": lambda image: cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA),
    "another shape": lambda image: cv2.resize(image, (256, 200), interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "compressed": lambda image: codecs.decode_jpeg(codecs.encode_jpeg(image)),
    "noisy": lambda image: np.clip(
        image + np.random.default_rng(1).normal(0, 8, image.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_keeps_its_hash_when_it_changes_a_little(change):
    for seed in range(5):
        assert bits_between(picture(seed), CHANGES[change](picture(seed))) <= 6


def test_hashes_of_other_images_and_of_a_mirrored_one_differ_in_many_bits():
    images = [*map(picture, range(12))]
    distances = [bits_between(a, b) for i, a in enumerate(images) for b in images[:i]]
    assert min(distances) > 12
    assert 28 < np.mean(distances) < 36
    assert bits_between(images[0], np.ascontiguousarray(images[0][:, ::-1])) > 12


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (16, 16), (33, 21), (64, 512)])
def test_every_image_has_one_of_64_bits_and_one_colour_has_none(shape):
    assert perceptual_hash(np.full((*shape, 3), 77, np.uint8)) == 0
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert -(2**63) <= perceptual_hash(noise) < 2**63


def test_it_is_the_formula_of_the_format():
    """By direct sums, on an image of 32x32, whose areas are its pixels."""
    rgb = picture(3, 32)
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    at = np.arange(32) + 0.5
    found = [
        np.rint(
            1000
            * sum(
                grey[i, j] * np.cos(np.pi / 32 * y * at[i]) * np.cos(np.pi / 32 * x * at[j])
                for i in range(32)
                for j in range(32)
            )
            / 32**2
        )
        for y in range(1, 9)
        for x in range(1, 9)
    ]
    bits = "".join("1" if value > np.median(found) else "0" for value in found)
    assert perceptual_hash(rgb) & (2**64 - 1) == int(bits, 2)


def test_index_and_description_have_it(run_store):
    row = pq.read_table(
        run_store.local_root / read_commits(run_store)[0].objects["index"].key, partitioning=None
    ).to_pylist()[2]
    sample = tiny_run.make_sample(2)
    assert row["phash"] == perceptual_hash(sample.rgb)
    assert json.loads(encode_sample(sample, tiny_run.DECLARED).json)["phash"] == row["phash"]
