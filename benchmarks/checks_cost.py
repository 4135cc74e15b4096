"""Cost of the checks: milliseconds a pair on one core, as a Markdown table.

Pairs are the middle squares of the measured frames of tests/data/real_rgbd, scaled to `--side`; the
estimate is the depth itself, as disparity, and nine squares stand in for the objects of a mask. All
checks run one after another on each pair, as in a worker; time is that of the thread, the median
over pairs and rounds. Of checks with a network, whose cost is the network's, there is the one that
comes with the package.

    python benchmarks/checks_cost.py [--side 512] [--rounds 5] [--only depth_error,prompt_objects]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mfsynth.checks import Check, CheckedPair, open_checks, run_checks
from mfsynth.checks.registry import BUILT_IN, load_checks
from mfsynth.config.loading import load_config
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics
from mfsynth.geometry.resizing import resize_image, resize_nearest
from mfsynth.shards.labels import InstanceMask

FRAMES = Path(__file__).parents[1] / "tests" / "data" / "real_rgbd"
NETWORKS = {"prompt_objects": {"model": "embedded", "things": ["{colour} {shape}"]}}
SLOTS = {"colour": ("red", "blue"), "shape": ("cube", "ball")}
DEFAULT = "local"
"""The configuration whose checks are the default set."""


def load_pair(frame: dict[str, Any], side: int) -> CheckedPair:
    bgr = cv2.imread(str(FRAMES / frame["rgb"]), cv2.IMREAD_COLOR)
    codes = cv2.imread(str(FRAMES / frame["depth"]), cv2.IMREAD_UNCHANGED)
    assert bgr is not None
    assert codes is not None
    height, width = codes.shape
    crop = min(height, width)
    metres = codes.astype(np.float32) * np.float32(frame["depth_unit_m_per_code"])
    top, left = (height - crop) // 2, (width - crop) // 2
    middle = np.s_[top : top + crop, left : left + crop]
    rgb = resize_image(np.ascontiguousarray(bgr[middle][..., ::-1]).astype(np.uint8), side, side)
    depth = np.ascontiguousarray(resize_nearest(metres[middle], side, side))
    valid = depth > 0
    disparity = np.divide(1, depth, out=np.zeros_like(depth), where=valid)
    return CheckedPair(
        rgb,
        depth,
        joint_depth=depth,
        estimate=DepthEstimate(disparity, valid, EstimateKind.AFFINE_INVARIANT_DISPARITY),
        intrinsics=Intrinsics.from_vertical_fov(side, side, 45.0),
        slots=SLOTS,
        mask=nine_objects(side),
    )


def nine_objects(side: int) -> InstanceMask:
    cell = side // 3
    cells, within = np.divmod(np.arange(side), cell)
    inside = np.abs(within - cell / 2) < cell / 4
    numbers = 1 + 3 * cells[:, None] + cells
    return np.where(inside[:, None] & inside, numbers, 0).astype(np.uint16)


def milliseconds(pair: CheckedPair, checks: Mapping[str, Check]) -> dict[str, float]:
    taken = {}
    for name, check in checks.items():
        start = time.thread_time()
        run_checks(pair, [check])
        taken[name] = 1000 * (time.thread_time() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="pixels of a pair's side")
    parser.add_argument("--rounds", type=int, default=5, help="times that each pair is checked")
    parser.add_argument("--only", default="", help="names of checks; without, all and the default")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    frames = json.loads((FRAMES / "frames.json").read_text(encoding="utf-8"))
    pairs = [load_pair(frame, given.side) for frame in frames]
    known: dict[str, dict[str, Any]] = {
        name: {} for name, kind in BUILT_IN.items() if kind.network is Check.network
    }
    known |= NETWORKS
    only = [*filter(None, given.only.split(","))] or [*known]
    every = load_checks({name: known[name] for name in only})
    default = open_checks(load_config(DEFAULT).checks)
    print(f"{len(pairs)} pairs of {given.side}² pixels, one core\n")
    print("| check | ms a pair |\n|---|---|")
    rounds = [milliseconds(pair, every) for _ in range(given.rounds) for pair in pairs]
    for name in every:
        print(f"| {name} | {statistics.median(taken[name] for taken in rounds):.1f} |")
    if given.only:
        return
    rounds = [milliseconds(pair, default) for _ in range(given.rounds) for pair in pairs]
    whole = statistics.median(sum(taken.values()) for taken in rounds)
    print(f"| the default set ({', '.join(default)}) | {whole:.1f} |")


if __name__ == "__main__":
    main()
