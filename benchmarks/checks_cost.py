"""Cost of the checks: milliseconds a pair on one core, as a Markdown table.

Pairs are the measured frames of tests/data/real_rgbd, cut into tiles and scaled to `--side`; the
estimate is the depth itself, as disparity. All checks run one after another on each pair, as in a
worker; time is that of the thread, the median over pairs and rounds. Checks with a network are left
out: theirs is the network's.

    python benchmarks/checks_cost.py [--side 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping

import cv2
import numpy as np
from checks_power import Tile, load_frames, make_tiles

from mfsynth.checks import Check, CheckedPair, open_checks, run_checks
from mfsynth.checks.registry import BUILT_IN
from mfsynth.config.loading import load_config
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics

DEFAULT = "local"
"""The configuration whose checks are the default set."""


def pair_of(tile: Tile) -> CheckedPair:
    depth = tile.depth
    valid = depth > 0
    disparity = np.divide(1, depth, out=np.zeros_like(depth), where=valid)
    return CheckedPair(
        tile.rgb,
        depth,
        joint_depth=tile.second_opinion,
        estimate=DepthEstimate(disparity, valid, EstimateKind.AFFINE_INVARIANT_DISPARITY),
        intrinsics=Intrinsics.from_vertical_fov(depth.shape[0], depth.shape[1], 45.0),
    )


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
    given = parser.parse_args()
    cv2.setNumThreads(1)
    pairs = [pair_of(tile) for tile in make_tiles(load_frames(), given.side)]
    every = open_checks(
        {name: {} for name, kind in BUILT_IN.items() if kind.network is Check.network}
    )
    default = open_checks(load_config(DEFAULT).checks)
    print(f"{len(pairs)} pairs of {given.side}² pixels, one core\n")
    print("| check | ms a pair |\n|---|---|")
    rounds = [milliseconds(pair, every) for _ in range(given.rounds) for pair in pairs]
    for name in every:
        print(f"| {name} | {statistics.median(taken[name] for taken in rounds):.1f} |")
    rounds = [milliseconds(pair, default) for _ in range(given.rounds) for pair in pairs]
    whole = statistics.median(sum(taken.values()) for taken in rounds)
    print(f"| the default set ({', '.join(default)}) | {whole:.1f} |")


if __name__ == "__main__":
    main()
