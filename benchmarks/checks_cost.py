"""Cost of the checks: milliseconds a pair on one core, as a Markdown table.

Pairs are the measured frames of tests/data/real_rgbd, cut into tiles and scaled to `--side`; the
estimate is the depth itself, as disparity. Time is that of the thread, the median over tiles and
rounds. Checks with a network are left out: theirs is the network's.

    python benchmarks/checks_cost.py [--side 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

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
        intrinsics=Intrinsics.from_vertical_fov(*depth.shape, 45.0),
    )


def milliseconds(pair: CheckedPair, checks: list[Check]) -> float:
    start = time.thread_time()
    run_checks(pair, checks)
    return 1000 * (time.thread_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="pixels of a pair's side")
    parser.add_argument("--rounds", type=int, default=5, help="times that each pair is checked")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    pairs = [pair_of(tile) for tile in make_tiles(load_frames(), given.side)]
    checks = open_checks(
        {name: {} for name, kind in BUILT_IN.items() if not issubclass(kind, NetworkCheck)}
    )
    rows = {name: [check] for name, check in checks.items()}
    default = [*open_checks(load_config(DEFAULT).checks).values()]
    rows[f"the default set ({DEFAULT}.yaml)"] = default
    print(f"{len(pairs)} pairs of {given.side}² pixels, one core\n")
    print("| check | ms a pair |\n|---|---|")
    for name, some in rows.items():
        taken = [milliseconds(pair, some) for _ in range(given.rounds) for pair in pairs]
        print(f"| {name} | {statistics.median(taken):.1f} |", flush=True)


if __name__ == "__main__":
    main()
