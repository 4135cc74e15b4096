"""Memory of batches comes back when nobody looks at it any more, and never before."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import torch

from mfsynth.datasets.frames import BufferPool, Frames


def address(array) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_lent_again_after_the_last_view_of_it_is_gone():
    pool = BufferPool()
    first = pool.empty((3, 4), np.float32)
    place, views = address(first), [first[1], first.T, torch.from_numpy(first)[2:]]
    del first
    while views:
        gc.collect()
        assert address(pool.empty((4, 3), np.int32)) != place
        views.pop()
    gc.collect()
    again = [pool.empty((2, 6), np.uint32) for _ in range(3)]
    assert place in {address(array) for array in again}
    assert len({address(array) for array in again}) == 3


def test_memory_of_many_batches_or_of_sizes_of_the_past_goes_back_to_the_system():
    pool = BufferPool()
    many = [pool.empty((1000,), np.uint8) for _ in range(100)]
    del many
    sizes = [pool.empty((1001 + size,), np.uint8) for size in range(100)]
    del sizes
    gc.collect()
    assert 0 < sum(len(free) for free in pool._free.values()) < 25


def test_arrays_of_a_batch_that_is_kept_are_not_written_by_the_next():
    pool = BufferPool()
    kept = []
    for value in range(5):
        frames = Frames(2, pool)
        for place in range(2):
            pixels = frames.part(place, (4, 6))
            for array in pixels:
                array[...] = value % 2 if array.dtype == np.bool_ else value
        kept.append(frames.whole)
        del frames, pixels, array
    for value, batch in enumerate(kept):
        assert (batch.depth == value).all()
        assert (batch.rgb == value).all()


def test_samples_of_another_size_are_not_in_the_frames():
    frames = Frames(2, pickle.loads(pickle.dumps(BufferPool())))
    assert frames.part(0, (4, 6)).rgb.shape == (4, 6, 3)
    assert frames.part(1, (6, 4)) is None
    assert frames.whole is None
    assert Frames(1, BufferPool()).part(0, (-1, 4)) is None
    assert Frames(1, BufferPool()).part(0, (2**20, 2**20)) is None
