"""The models that a training starts with."""

from __future__ import annotations

from tiny_training import SIZES

from mfsynth.training.build import build_transformer


def test_the_depth_head_starts_at_zero():
    transformer = build_transformer(SIZES)
    assert (transformer.depth_proj_out.weight == 0).all()
    assert transformer.depth_to_rgb_time_embed.gate.item() == 0
