from __future__ import annotations

import numpy as np

from mfsynth.models.estimators.embedded import estimate_depth, load_estimator


def test_the_embedded_estimator_comes_with_the_package():
    model = load_estimator()
    side = model.config.size
    rgb = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    depth = estimate_depth(model, rgb)
    assert depth.shape == (1, side, side)
    assert (depth > 0).all()
