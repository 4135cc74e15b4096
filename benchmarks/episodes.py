"""How far the images of an episode's frames agree over time.

    python benchmarks/episodes.py --scenes 8 --frames 6

A camera moves sideways past simulator scenes; `retexture` makes an image for the depth of each
frame. Each image is compared with its successor, brought into its view by the true depth and poses,
where both see the same surface: mean difference of colours, of 255. One seed and prompt an episode
is what runs do. Beside it: other seeds a frame, and the rendered frames, which show what resampling
alone costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models import load_pipeline
from mfsynth.prompts import derive_seed, load_library
from mfsynth.runs.making import depth_to_images, given
from mfsynth.runs.plan import Candidate
from mfsynth.runs.settings import load_run_config
from mfsynth.shards.labels import Labels, as_matrix
from mfsynth.simulation import STYLES, SceneRenderer, scenes
from mfsynth.simulation.physics import settle
from mfsynth.simulation.views import choose_cameras
from mfsynth.sources.base import DepthFacts, Item

_SAME_SURFACE = 0.015


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="retexture")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--step", type=float, default=0.01, help="Metres between frames.")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1012, help="Of scenes; no training's.")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    config = load_run_config(options.config)
    pipeline = load_pipeline(config.model, options.device)
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": pipeline.config.height, "width": pipeline.config.width}
    sampler = config.sampler.model_copy(update=size)
    found: dict[str, list[float]] = {"rendered": [], "one seed": [], "a seed a frame": []}
    for number, frames in enumerate(episodes(options)):
        shared = [derive_seed(options.seed, "episode", number)] * len(frames)
        apart = [derive_seed(options.seed, number, frame) for frame in range(len(frames))]
        found["rendered"] += differences([given(frame.rgb) for frame in frames], frames)
        for name, seeds in (("one seed", shared), ("a seed a frame", apart)):
            images = made(pipeline, sampler, frames, seeds)
            found[name] += differences(images, frames)
    print(
        "| images of a frame and the next | mean difference of colours, of 255 | 90th percentile |"
    )
    print("|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {np.mean(values):.1f} | {np.quantile(values, 0.9):.1f} |", flush=True)


def episodes(options: argparse.Namespace) -> Iterator[list[Item]]:
    """Frames of each scene, with their camera's poses."""
    library = load_library("tabletop_shapes", options.seed)
    numbers = range(options.scenes)
    for _, scene in scenes(library, options.seed, numbers, STYLES["close"]):
        settled = settle(scene)
        (camera,) = choose_cameras(settled, 1, options.size, options.size)
        frames = []
        with SceneRenderer(settled, options.size, options.size) as renderer:
            for frame in range(options.frames):
                pose = camera.pose.moved((frame - options.frames / 2) * options.step, 0.0, 0.0)
                rgb, depth = renderer.render(pose, camera.intrinsics)
                at = tuple(pose.camera_to_world().ravel().tolist())
                frames.append(
                    Item(
                        rgb,
                        depth,
                        scene.caption,
                        camera.intrinsics,
                        facts=DepthFacts("metres"),
                        labels=Labels(camera_to_world=at),
                    )
                )
        yield frames


def made(
    pipeline: Any, sampler: Any, frames: Sequence[Item], seeds: Sequence[int]
) -> Sequence[RgbImage]:
    """Images for the frames' depth, as a run makes them."""
    embeds = pipeline.encode_prompts([frame.text for frame in frames], len(frames))
    candidates = [
        Candidate(number, f"frame-{number}", replace(frame, rgb=None), seed)
        for number, (frame, seed) in enumerate(zip(frames, seeds, strict=True))
    ]
    return [*depth_to_images(pipeline, sampler, candidates, embeds).rgb]


def differences(images: Sequence[RgbImage], frames: Sequence[Item]) -> list[float]:
    """Of each image to the next one, where both see the same surface."""
    found = []
    for number in range(len(frames) - 1):
        seen, both = brought(images[number + 1], frames[number + 1], frames[number])
        found.append(float(np.abs(images[number].astype(np.float32) - seen)[both].mean()))
    return found


def brought(image: RgbImage, of: Item, to: Item) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """An image in another frame's view, and where both see the same surface."""
    camera, depth, other = given_camera(to), given(to.depth), given(of.depth)
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float64)
    rays = np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    points = np.linalg.inv(camera) @ rays * depth.ravel()
    motion = np.linalg.inv(pose_of(of)) @ pose_of(to)
    x, y, far = camera @ (motion[:3, :3] @ points + motion[:3, 3:])
    u, v, z = (one.reshape(depth.shape).astype(np.float32) for one in (x / far, y / far, far))
    seen = cv2.remap(image.astype(np.float32), u, v, cv2.INTER_LINEAR)
    there = cv2.remap(other, u, v, cv2.INTER_NEAREST)
    return np.asarray(seen, np.float32), np.abs(there - z) < _SAME_SURFACE * z


def given_camera(item: Item) -> NDArray[np.float64]:
    assert item.intrinsics is not None
    return item.intrinsics.matrix()


def pose_of(item: Item) -> NDArray[np.float64]:
    assert item.labels.camera_to_world is not None
    return as_matrix(item.labels.camera_to_world)


if __name__ == "__main__":
    main()
