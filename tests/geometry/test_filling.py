from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.geometry.filling import fill_nearest


@given(seed=st.integers(0, 200), share=st.floats(0.05, 0.95))
def test_every_hole_gets_the_depth_of_a_nearest_valid_pixel(seed, share):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 5, (12, 17)).astype(np.float32)
    valid = rng.random(depth.shape) < share
    valid[3, 4] = True
    filled = fill_nearest(np.where(valid, depth, 0), valid)
    assert np.array_equal(filled[valid], depth[valid])
    places = np.argwhere(valid)
    for row, column in np.argwhere(~valid):
        distances = np.hypot(*(places - (row, column)).T)
        # OpenCV's distances are exact to a few percent.
        near = places[distances <= distances.min() * 1.05 + 1e-9]
        assert filled[row, column] in depth[near[:, 0], near[:, 1]]
