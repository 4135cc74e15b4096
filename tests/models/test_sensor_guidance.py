"""Depth that a sensor leads: what no sensor saw is as it was, whatever lies beside it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from mfsynth.models.sensor_guidance import SensorGuidance
from mfsynth.models.token_codecs import DepthCodec


def test_images_without_a_sensor_and_pixels_without_depth_stay_as_they_are():
    codec = DepthCodec(8, 1.0, 0.4)
    config = SimpleNamespace(in_channels=3, depth_channels=64)
    pipeline = SimpleNamespace(depth_codec=codec, transformer=SimpleNamespace(config=config))
    depth = torch.full((2, 16, 16), 1.0)
    depth[:, 8:] = 1.5
    tokens = codec.encode(depth)
    # Beyond what the codec has a depth for: the sky.
    tokens[:, 1] = 2 * tokens.max() + 4
    sky = codec.decode(tokens, (2, 2))[0] == 0
    assert sky.any()
    sensor = np.zeros((2, 16, 16), np.float32)
    sensor[0, 2, 2] = 3.0
    sensor[0, 14, 2] = 8.0
    led = SensorGuidance(sensor, [0, 1])(pipeline, 0, (0.0, 0.0), {"depth": tokens})["depth"]
    assert torch.equal(led[1], tokens[1])
    assert torch.equal(codec.decode(led, (2, 2))[0] == 0, sky)
    assert not torch.equal(led[0], tokens[0])
    alone = SensorGuidance(sensor[:1], [0])(pipeline, 0, (0.0, 0.0), {"depth": tokens[:1]})
    assert torch.equal(alone["depth"][0], led[0])
