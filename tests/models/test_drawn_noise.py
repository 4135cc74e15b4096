"""Noise is a function of all bits of a seed, which can be made again anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfsynth.errors import MfsynthError
from mfsynth.models.inputs import draw_noise

SEED = 517911576045571104  # of a candidate


def philox(seed: int, stream: int, counter: int) -> list[int]:
    """Philox-4×64-10 as Salmon et al. print it, with integers of Python only."""
    key, words, mask = [seed, stream], [counter, 0, 0, 0], 2**64 - 1
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [
            right >> 64 ^ words[1] ^ key[0],
            right & mask,
            left >> 64 ^ words[3] ^ key[1],
            left & mask,
        ]
        key = [key[0] + 0x9E3779B97F4A7C15 & mask, key[1] + 0xBB67AE8584CAA73B & mask]
    return words


def normal(seed: int, stream: int, count: int) -> list[float]:
    """The numbers as `docs/reference/format.md` describes them."""
    numbers: list[float] = []
    for block in range(1, math.ceil(count / 4) + 1):
        words = philox(seed, stream, block)
        for first, second in (words[:2], words[2:]):
            radius = math.sqrt(-2 * math.log(((first >> 11) + 1) * 2**-53))
            angle = 2 * math.pi * (second >> 11) * 2**-53
            numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return numbers[:count]


def drawn(*seeds: int, tokens: int = 5, channels=(3,)) -> list[np.ndarray]:
    return [noise.numpy() for noise in draw_noise(seeds, tokens, channels)]


def test_the_words_are_those_of_the_published_generator():
    # The known answer of its authors' library, for a key and a counter of zeros.
    published = "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"
    assert " ".join(f"{word:016x}" for word in philox(0, 0, 0)) == published


def test_noise_keeps_the_values_it_had_in_every_release():
    # Literals: other ones would silently change every resumed run.
    (noise,) = drawn(SEED, tokens=2, channels=(3,))
    assert noise.shape == (1, 2, 3)
    assert noise.dtype == np.float32
    pinned = [1.9811873, 0.90920013, -0.25633699, 0.064434089, 0.37459666, -0.60569072]
    np.testing.assert_allclose(noise.ravel(), pinned, rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, SEED, 2**63, 2**64 - 1])
def test_noise_is_what_the_format_says_in_every_stream(seed):
    streams = drawn(seed, tokens=5, channels=(3, 1, 4))
    for stream, (noise, channels) in enumerate(zip(streams, (3, 1, 4), strict=True)):
        assert noise.shape == (1, 5, channels)
        expected = normal(seed, stream, 5 * channels)
        np.testing.assert_allclose(noise.ravel(), expected, rtol=2e-7, atol=1e-9)


def test_every_bit_of_a_seed_counts():
    seeds = [SEED, *(SEED ^ 1 << bit for bit in range(64))]
    (noise,) = drawn(*seeds)
    assert len({sample.tobytes() for sample in noise}) == 65


def test_a_sample_has_its_own_noise_in_any_batch_and_beside_any_number_of_tokens():
    (both,) = drawn(SEED, 7)
    (alone,) = drawn(7)
    (longer,) = drawn(7, tokens=9)
    assert np.array_equal(both[1], alone[0])
    assert np.array_equal(longer[0, :5], alone[0])


def test_noise_is_standard_normal_and_independent_between_streams_and_seeds():
    first, second = drawn(SEED, SEED + 1, tokens=50_000, channels=(2, 2))
    for sample in (*first, *second):
        values = sample.ravel().astype(np.float64)
        # Four standard errors of each, and of the share beyond two.
        assert abs(values.mean()) < 4 / math.sqrt(values.size)
        assert abs(values.var() - 1) < 4 * math.sqrt(2 / values.size)
        beyond = 0.0455
        error = 4 * math.sqrt(beyond * (1 - beyond) / values.size)
        assert abs((np.abs(values) > 2).mean() - beyond) < error
    rows = np.stack([sample[:, column] for sample in (*first, *second) for column in (0, 1)])
    off_diagonal = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(rows.shape[1])


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, float("nan")])
def test_a_seed_that_would_have_to_be_narrowed_is_one_clear_line(seed):
    with pytest.raises(MfsynthError, match=r"seed .* integer in \[0, 2\*\*64\)") as info:
        draw_noise([seed], 2, (3,))
    assert "\n" not in str(info.value)


def test_integers_of_numpy_are_integers():
    assert np.array_equal(drawn(np.int64(7))[0], drawn(7)[0])
