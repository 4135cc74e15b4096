from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.models.token_codecs import DepthCodec
from mfsynth.training.invalid_depth import fill_invalid


def test_invalid_pixels_take_the_depth_of_the_nearest_valid_one():
    depth = torch.zeros(2, 16, 16)
    depth[0, :, 2], depth[0, :, 9] = 1.0, 3.0
    filled = fill_invalid(depth).numpy()
    # Columns 2 and 9 are equally far from neither 5 nor 6.
    np.testing.assert_array_equal(filled[0, :, :6], 1)
    np.testing.assert_array_equal(filled[0, :, 6:], 3)
    np.testing.assert_array_equal(filled[1], 0)


def test_valid_pixels_stay_as_they_are():
    rng = np.random.default_rng(0)
    depth = torch.from_numpy(rng.uniform(0.5, 2, (3, 16, 16)).astype(np.float32))
    depth[torch.from_numpy(rng.random((3, 16, 16)) < 0.9)] = 0
    filled = fill_invalid(depth)
    assert torch.equal(filled[depth > 0], depth[depth > 0])
    assert (filled > 0).all()


@given(scale=st.floats(0.01, 100))
def test_a_constant_scale_of_depth_changes_nothing_in_training(scale):
    codec = DepthCodec(8, 1.0, 0.4)
    depth = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.5
    depth[:, ::2] = 0
    one, other = (codec.encode(fill_invalid(maps)) for maps in (depth, depth * scale))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
