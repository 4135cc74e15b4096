"""Power of the checks: ROC-AUC of each score for each corruption, as a Markdown table.

Clean pairs are the measured frames of tests/data/real_rgbd, cut into overlapping tiles of 448
pixels that are scaled to `--side`. Each is compared with corrupted copies. The second opinion of
self agreement is no model here but the clean depth with a smooth error of about 5 %. The tiles
are few and correlated, and the neighbourhoods of the registration check were chosen on these
frames among others: a direction, not a held-out verdict.

    python benchmarks/checks_power.py [--side 224]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.corruptions import CORRUPTIONS, other_depth
from mfsynth.checks.flying_pixels import flying_pixels
from mfsynth.checks.registration import registration
from mfsynth.checks.self_agreement import self_agreement
from mfsynth.checks.validity import dynamic_range, far_fraction, valid_fraction

FRAMES = Path(__file__).parents[1] / "tests" / "data" / "real_rgbd"
TILE = 448
STRIDE = 96
MIN_VALID = 0.5
OTHER = "other image's depth"

Depth = NDArray[np.float32]
Frame = tuple[NDArray[np.uint8], Depth]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    rgb: NDArray[np.uint8]
    depth: Depth
    second_opinion: Depth


@dataclass(frozen=True, slots=True)
class Score:
    compute: Callable[[Tile, Depth], float]
    good: int
    """+1 where a good pair scores high, -1 where it scores low."""


SCORES = {
    "valid_fraction": Score(lambda t, d: valid_fraction(d), +1),
    "far_fraction": Score(lambda t, d: far_fraction(d), -1),
    "dynamic_range": Score(lambda t, d: dynamic_range(d), +1),
    "registration": Score(lambda t, d: registration(t.rgb, d), +1),
    "flying_pixels": Score(lambda t, d: flying_pixels(d), -1),
    "self_agreement": Score(lambda t, d: self_agreement(d, t.second_opinion), -1),
}


def load_frames(folder: Path = FRAMES) -> list[Frame]:
    """Frames as (RGB uint8 (H, W, 3), z-depth float32 (H, W) in metres with 0 = invalid)."""
    frames = []
    for frame in json.loads((folder / "frames.json").read_text(encoding="utf-8")):
        bgr = cv2.imread(str(folder / frame["rgb"]), cv2.IMREAD_COLOR)
        code = cv2.imread(str(folder / frame["depth"]), cv2.IMREAD_UNCHANGED)
        depth = code.astype(np.float32) * np.float32(frame["depth_unit_m_per_code"])
        frames.append((cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), depth))
    return frames


def make_tiles(frames: Sequence[Frame], side: int) -> list[Tile]:
    """Cuts frames into overlapping squares of `side` pixels; mostly invalid ones are dropped."""
    tiles = []
    for rgb, depth in frames:
        top = (depth.shape[0] - TILE) // 2
        for left in range(0, depth.shape[1] - TILE + 1, STRIDE):
            box = np.s_[top : top + TILE, left : left + TILE]
            small_depth = cv2.resize(depth[box], (side, side), interpolation=cv2.INTER_NEAREST)
            if valid_fraction(small_depth) < MIN_VALID:
                continue
            small_rgb = cv2.resize(rgb[box], (side, side), interpolation=cv2.INTER_AREA)
            error = smooth_error(side, np.random.default_rng(len(tiles)))
            tiles.append(Tile(small_rgb, small_depth, small_depth * error))
    return tiles


def smooth_error(side: int, rng: np.random.Generator) -> Depth:
    """Factors (side, side) around 1, smooth, off by 5 % on average."""
    coarse = rng.standard_normal((4, 4)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.exp(0.05 * smooth / np.abs(smooth).mean()).astype(np.float32)


def scores(tiles: Sequence[Tile], score: Score) -> dict[str, NDArray[np.float64]]:
    """Score of every tile, clean ("clean") and under each corruption; nan = the check abstains."""
    depths = [tile.depth for tile in tiles]
    spoilt = {"clean": depths, OTHER: [other_depth(depths, i) for i in range(len(depths))]}
    for name, corrupt in CORRUPTIONS.items():
        spoilt[name] = [corrupt(d, np.random.default_rng(i)) for i, d in enumerate(depths)]
    return {
        name: np.array([score.compute(t, d) for t, d in zip(tiles, maps, strict=True)])
        for name, maps in spoilt.items()
    }


def auc(clean: NDArray[np.float64], spoilt: NDArray[np.float64], good: int) -> float:
    """Probability that a clean pair scores better than a spoilt one; ties count half.

    Pairs on which the check abstains are left out; nan if none is left.
    """
    clean, spoilt = (good * values[~np.isnan(values)] for values in (clean, spoilt))
    if not clean.size or not spoilt.size:
        return float("nan")
    difference = clean[:, None] - spoilt[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=224, help="pixels of a tile's side")
    tiles = make_tiles(load_frames(), parser.parse_args().side)
    corruptions = [OTHER, *CORRUPTIONS]
    print(f"{len(tiles)} tiles of {tiles[0].depth.shape[0]} pixels\n")
    print(f"| check | clean: median [10 %, 90 %] | {' | '.join(corruptions)} |")
    print("|---" * (len(corruptions) + 2) + "|")
    for name, score in SCORES.items():
        table = scores(tiles, score)
        low, middle, high = np.nanpercentile(table["clean"], (10, 50, 90))
        cells = [f"{auc(table['clean'], table[c], score.good):.2f}" for c in corruptions]
        clean = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        print(f"| {name} | {clean} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
