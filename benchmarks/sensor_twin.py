"""What sensors of presets return beside what real ones returned.

    python benchmarks/sensor_twin.py FOLDER [--markdown docs/sensors.md]

FOLDER has frames of real cameras and `frames.json`, a list of them: `id`, `rgb`, `depth` (16-bit
PNG), `depth_unit_m_per_code`, `intrinsics` and `sensor`, a text. A real frame gives what a sensor
is shown: its image, and its depth with holes filled by what is next to them and noise taken out by
a median over 5x5 pixels. What was lost with the holes is lost, so that only the kind of holes can
agree, not each of them.

- **holes**: share of the pixels, a tenth of the image cut off at each side.
- **at edges**: share of the holes within five pixels of a jump of depth of 5 %, and of all pixels.
- **left**: of pixels within ten pixels of a jump to something nearer, how many of those to its left
  are holes, over how many of those to its right are.
- **noise**: RMS in millimetres about planes, in windows of 17x17 pixels on the largest planes that
  `find_planes` sees; that of the sensor on exact planes, tilted by 30 degrees. A plane is taken out
  of each window.
- **alike**: correlation of that noise with that two and four pixels beside it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics
from mfsynth.geometry.filling import fill_nearest
from mfsynth.geometry.planes import find_planes
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage
from mfsynth.geometry.sensors.presets import SENSORS
from mfsynth.geometry.sensors.sensing import sense

# Presets by what frames.json says of the camera; frames of others are left out.
CAMERAS = {"Kinect v1": "kinect_v1", "Xtion": "asus_xtion", "Intel RealSense (model": "d435"}
Window = tuple[float, NDArray[np.float64]]
BINS = ((0.5, 0.75), (0.75, 1.0), (1.0, 1.5), (1.5, 2.0), (2.0, 3.0))
WINDOW = 17
LAGS = (2, 4)
JUMP, NEAR_EDGE, BESIDE = 0.05, 5, 10
BEGIN, END = "<!-- benchmarks/sensor_twin.py -->\n", "<!-- end -->"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A real frame."""

    rgb: RgbImage
    depth: DepthMap
    intrinsics: Intrinsics
    preset: str


def frames(folder: Path) -> Iterator[Frame]:
    """Those of cameras that there is a model for."""
    for one in json.loads((folder / "frames.json").read_text(encoding="utf-8")):
        presets = [preset for name, preset in CAMERAS.items() if name in one["sensor"]]
        if not presets:
            continue
        bgr = cv2.imread(str(folder / one["rgb"]), cv2.IMREAD_COLOR)
        codes = cv2.imread(str(folder / one["depth"]), cv2.IMREAD_UNCHANGED)
        assert bgr is not None, one["rgb"]
        assert codes is not None, one["depth"]
        k = one["intrinsics"]
        yield Frame(
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8),
            (codes * one["depth_unit_m_per_code"]).astype(np.float32),
            Intrinsics(k["fx"], k["fy"], k["cx"], k["cy"]),
            presets[0],
        )


def clean(depth: DepthMap) -> DepthMap:
    """Filled, and without noise."""
    filled = fill_nearest(depth, depth > 0)
    return np.asarray(cv2.medianBlur(filled, 5), np.float32)


def holes(measured: DepthMap, shown: DepthMap) -> tuple[float, float, float, float]:
    """Share of holes; of these at edges; of all pixels at edges; left over right of near things."""
    height, width = shown.shape
    inner = np.zeros(shown.shape, np.bool_)
    inner[height // 10 : -(height // 10), width // 10 : -(width // 10)] = True
    empty = (measured == 0) & inner
    jumps = np.zeros(shown.shape, np.bool_)
    step = np.diff(np.log(shown), axis=1)
    jumps[:, :-1] |= np.abs(step) > JUMP
    jumps[:-1] |= np.abs(np.diff(np.log(shown), axis=0)) > JUMP
    size = 2 * NEAR_EDGE + 1
    edges = cv2.dilate(jumps.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    left, right = np.zeros(shown.shape, np.uint8), np.zeros(shown.shape, np.uint8)
    left[:, :-1] = step < -JUMP  # the right neighbour is nearer
    right[:, 1:] = step > JUMP
    beside = np.ones((1, BESIDE), np.uint8)
    to_left = (cv2.dilate(left, beside, anchor=(0, 0)) > 0) & inner
    to_right = (cv2.dilate(right, beside, anchor=(BESIDE - 1, 0)) > 0) & inner
    on_left, on_right = (float(empty[part].mean()) for part in (to_left, to_right))
    return (
        float(empty.sum() / inner.sum()),
        float(edges[empty].mean()) if empty.any() else float("nan"),
        float(edges[inner].mean()),
        on_left / max(on_right, 1e-9),
    )


def noise(depth: DepthMap, planes: Sequence[Mask]) -> Iterator[Window]:
    """Distance of each window on a plane, and residuals in it, metres."""
    rows, columns = np.mgrid[:WINDOW, :WINDOW].astype(np.float64)
    terms = np.stack([np.ones(WINDOW**2), rows.ravel(), columns.ravel()], axis=1)
    for mask in planes:
        for top in range(0, depth.shape[0] - WINDOW + 1, WINDOW):
            for start in range(0, depth.shape[1] - WINDOW + 1, WINDOW):
                window = np.s_[top : top + WINDOW, start : start + WINDOW]
                part = depth[window].astype(np.float64)
                if not (mask[window].mean() > 0.98 and (part > 0).all()):
                    continue
                inverse = 1 / part.ravel()
                fit, *_ = np.linalg.lstsq(terms, inverse, rcond=None)
                z = float(np.median(part))
                yield z, ((inverse - terms @ fit) * -(z**2)).reshape(WINDOW, WINDOW)


def planes_of(depth: DepthMap, intrinsics: Intrinsics) -> list[Mask]:
    """The largest planes, without their edges."""
    inside = np.ones((9, 9), np.uint8)
    found = find_planes(clean(depth), intrinsics, count=3)
    return [cv2.erode(one.pixels.astype(np.uint8), inside) > 0 for one in found]


def exact_plane(z: float, intrinsics: Intrinsics, shape: tuple[int, int]) -> DepthMap:
    """A plane whose middle is at a distance, tilted by 30 degrees."""
    slope = np.tan(np.radians(30))
    y = (np.arange(shape[0]) - intrinsics.cy) / intrinsics.fy
    column = z / (1 + slope * y)
    return np.repeat(column[:, None], shape[1], axis=1).astype(np.float32)


def summary(windows: Sequence[Window]) -> dict[str, Any]:
    """RMS in millimetres by bin of distance, and correlations."""
    by_bin = {each: [r for z, r in windows if each[0] <= z < each[1]] for each in BINS}
    rms = {
        each: 1000 * float(np.median([np.sqrt((r**2).mean()) for r in found]))
        for each, found in by_bin.items()
        if len(found) >= 5
    }
    alike = {
        lag: float(
            np.median([(r[:, lag:] * r[:, :-lag]).mean() / (r**2).mean() for _, r in windows])
        )
        for lag in LAGS
    }
    return {"rms": rms, "alike": alike}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--markdown", type=click.Path(path_type=Path), help="Page that gets the tables.")
def main(folder: Path, markdown: Path | None) -> None:
    """Print tables of real frames in a FOLDER and of the sensors that would have taken them."""
    by_preset: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames(folder):
        by_preset[frame.preset].append(frame)
    first = [
        "| frames | | holes | at edges (all pixels) | left : right |",
        "|---|---|---|---|---|",
    ]
    spans = " | ".join(f"{low:g} to {high:g} m" for low, high in BINS)
    second = [
        f"| | | {spans} | alike 2, 4 px |",
        "|---|---|" + "---|" * (len(BINS) + 1),
    ]
    for preset, taken in by_preset.items():
        real, twin = [], []
        windows: list[Window] = []
        twin_windows: list[Window] = []
        for number, frame in enumerate(taken):
            shown = clean(frame.depth)
            sensor, rng = SENSORS[preset], np.random.default_rng(number)
            measured = sense(shown, frame.rgb, frame.intrinsics, sensor, rng)
            real.append(holes(frame.depth, shown))
            twin.append(holes(measured, shown))
            windows += noise(frame.depth, planes_of(frame.depth, frame.intrinsics))
        frame = taken[0]
        everywhere = [np.ones(frame.depth.shape, np.bool_)]
        paper = np.random.default_rng(0).integers(150, 256, (*frame.depth.shape, 1), np.uint8)
        for number, (low, high) in enumerate(BINS):
            plane = exact_plane((low + high) / 2, frame.intrinsics, frame.depth.shape[:2])
            rng = np.random.default_rng(number)
            measured = sense(plane, paper.repeat(3, axis=2), frame.intrinsics, SENSORS[preset], rng)
            twin_windows += noise(measured, everywhere)
        for name, found, seen in (("real", real, windows), (preset, twin, twin_windows)):
            share, at_edges, of_all, left = np.nanmean(found, axis=0)
            first.append(
                f"| {len(taken)} of {preset} | {'real' if name == 'real' else 'sensor twin'} | "
                f"{share:.1%} | {at_edges:.0%} ({of_all:.0%}) | {left:.1f} |"
            )
            said = summary(seen)
            cells = [f"{said['rms'][b]:.1f}" if b in said["rms"] else "" for b in BINS]
            alike = ", ".join(f"{said['alike'][lag]:.2f}" for lag in LAGS)
            kind = "real" if name == "real" else "sensor twin"
            second.append(f"| {preset} | {kind} | {' | '.join(cells)} | {alike} |")
    text = "\n".join([*first, "", "Noise on planes, RMS in millimetres:", "", *second, ""])
    click.echo(text)
    if markdown is not None:
        page = markdown.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END, 1)[1]
        markdown.write_text(before + BEGIN + text + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
