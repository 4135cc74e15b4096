"""Does sparse depth of a sensor help more than by its scale?

    python benchmarks/completion.py --scenes 16

Depth of simulator frames by a model, in mode i2d, made metric by sparse depth with noise: by the
scale alone (`metres_per_unit: source`), going through the measurements afterwards, or led by them
in every step (`completion: guided`). The error (AbsRel) is that of pixels that were not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from mfsynth.config import ModelConfig
from mfsynth.geometry import metric_scale
from mfsynth.geometry.completion import completed
from mfsynth.models import load_pipeline
from mfsynth.models.sensor_guidance import SensorGuidance
from mfsynth.runs.making import given
from mfsynth.simulation import STYLES
from mfsynth.sources.base import Item
from mfsynth.sources.simulated import LiveScenesSource

# Share that is measured, relative noise, and where.
SENSORS = (
    (0.005, 0.0, "scattered"),
    (0.02, 0.0, "scattered"),
    (0.02, 0.03, "scattered"),
    (0.05, 0.1, "scattered"),
    (0.6, 0.01, "blobs"),
)
METHODS = ("scale", "afterwards", "guided")
_LEAST_SHARE = 0.001
SEED = 1011
"""Of scenes, which is no training's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--library", default="tabletop_shapes")
    parser.add_argument("--style", default="close", choices=[*STYLES])
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    pipeline = load_pipeline(ModelConfig(id=options.model), options.device)
    pipeline.set_progress_bar_config(disable=True)
    size = pipeline.config.height
    source = LiveScenesSource(options.library, options.scenes, size, SEED, options.style)
    items = [source[number] for number in range(options.scenes)]
    print("| measured | noise | where | " + " | ".join(METHODS) + " |")
    print("|---" * (3 + len(METHODS)) + "|")
    for share, noise, where in SENSORS:
        found = np.mean([*errors(pipeline, items, options.steps, share, noise, where)], axis=0)
        told = " | ".join(f"{value:.4f}" for value in found)
        print(f"| {share:.1%} | {noise:.0%} | {where} | {told} |", flush=True)


def errors(
    pipeline: Any, items: list[Item], steps: int, share: float, noise: float, where: str
) -> Iterator[list[float]]:
    """Of each frame, by each method."""
    truth = np.stack([given(item.depth) for item in items])
    rng = np.random.default_rng(0)
    sensor = measured(truth, share, noise, where, rng)
    seeds = [*range(len(items))]
    arguments = {
        "prompt_embeds": pipeline.encode_prompts([item.text for item in items], len(items)),
        "seeds": seeds,
        "mode": "i2d",
        "image": np.stack([given(item.rgb) for item in items]),
        "num_inference_steps": steps,
        "guidance_scale": 1.0,
    }
    plain = pipeline(**arguments).depth
    led = pipeline(**arguments, callback_on_step_end=SensorGuidance(sensor, seeds)).depth
    for alone, guided, known, wanted in zip(plain, led, sensor, truth, strict=True):
        scale = metric_scale(alone, known, known > 0, least_share=_LEAST_SHARE)
        assert scale is not None
        maps = [alone * scale.metres_per_unit]
        for depth in (alone, guided):
            dense, unit = completed(depth, known)
            maps.append(dense * unit)
        held_out = known == 0
        yield [float((np.abs(one - wanted) / wanted)[held_out].mean()) for one in maps]


def measured(
    truth: np.ndarray, share: float, noise: float, where: str, rng: np.random.Generator
) -> np.ndarray:
    """What a sensor sees of depth maps: some of their pixels, with noise."""
    chance = rng.random(truth.shape)
    if where == "blobs":
        smooth = [cv2.GaussianBlur(rng.normal(size=one.shape), (0, 0), 6) for one in truth]
        chance = np.stack([one.argsort(axis=None).argsort().reshape(one.shape) for one in smooth])
        chance = chance / chance[0].size
    noisy = truth * np.exp(noise * rng.normal(size=truth.shape))
    return np.where(chance < share, noisy, 0).astype(np.float32)


if __name__ == "__main__":
    main()
