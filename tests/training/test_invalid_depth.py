import numpy as np
import torch

from mfsynth.models.codecs import DepthCodec, unpatchify
from mfsynth.training.invalid_depth import fill_tokens_nearest


def test_invalid_pixels_take_the_value_of_the_nearest_valid_one_across_tokens():
    depth = torch.zeros(2, 16, 16)
    depth[0, :, 2], depth[0, :, 9] = 1.0, 3.0
    tokens = DepthCodec(8, 1.0, 0.4).encode(depth)
    filled = unpatchify(fill_tokens_nearest(tokens, 8, (2, 2)), 8, (2, 2))[:, 0].numpy()
    near, far = filled[0, 0, 2], filled[0, 0, 9]
    assert near < far
    # Columns 2 and 9 are equally far from neither 5 nor 6.
    np.testing.assert_array_equal(filled[0, :, :6], near)
    np.testing.assert_array_equal(filled[0, :, 6:], far)
    np.testing.assert_array_equal(filled[1], 0)


def test_valid_pixels_stay_as_they_are():
    rng = np.random.default_rng(0)
    depth = torch.from_numpy(rng.uniform(0.5, 2, (3, 16, 16)).astype(np.float32))
    depth[torch.from_numpy(rng.random((3, 16, 16)) < 0.9)] = 0
    tokens = DepthCodec(8, 1.0, 0.4).encode(depth)
    filled = fill_tokens_nearest(tokens, 8, (2, 2))
    assert torch.equal(filled[tokens.valid], tokens.values[tokens.valid])
    assert (filled != 0).all()
