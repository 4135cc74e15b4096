"""The models that a training starts with."""

from __future__ import annotations

import pytest
from tiny_training import SIZES

from mfsynth.training.build import build_transformer


@pytest.mark.parametrize(("depth_head", "values"), [("patches", 64), ("windows", 256)])
def test_the_depth_head_starts_at_zero(depth_head, values):
    transformer = build_transformer(SIZES.model_copy(update={"depth_head": depth_head}))
    assert transformer.config.depth_head == depth_head
    assert transformer.depth_proj_out.weight.shape == (values, 32)
    assert (transformer.depth_proj_out.weight == 0).all()
    assert transformer.depth_to_rgb_time_embed.gate.item() == 0
