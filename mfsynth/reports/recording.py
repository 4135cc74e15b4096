"""Pairs in Rerun (https://rerun.io): a recording file, or its viewer.

    /camera           pinhole, where there is one
    /camera/rgb       the stored JPEG
    /camera/depth     the stored 16-bit PNG; where its codes are logarithms, depth itself
    /points           every second pixel of every second row, in its colour
    /scores/NAME      of the checks
    /prompt           text

The timeline `pair` counts pairs from 0.
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mfsynth.datasets.exports.pairs import Frame
from mfsynth.errors import MfsynthError
from mfsynth.geometry import backproject
from mfsynth.shards.quantisation import DepthScale
from mfsynth.storage import atomic

_NAME = "mfsynth"
_STRIDE = 2


def record(frames: Iterable[Frame], path: Path) -> int:
    """Write a recording. Visible: when it returns, whole; returns how many pairs it has.

    Raises:
        MfsynthError: Rerun isn't installed, a pair is damaged, or the file can't be written.
    """
    stream = _new_stream()
    with tempfile.TemporaryDirectory(prefix="mfsynth-view-") as folder:
        part = Path(folder) / "pairs.rrd"
        stream.save(part)
        shown = _log_all(stream, frames)
        stream.disconnect()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.copy(part, path)
        except OSError as error:
            raise MfsynthError(f"{path}: can't be written ({error.strerror or error})") from error
    return shown


def show(frames: Iterable[Frame]) -> int:
    """Open Rerun's viewer with pairs; returns how many.

    Raises:
        MfsynthError: Rerun isn't installed, its viewer can't be opened, or a pair is damaged.
    """
    stream = _new_stream()
    try:
        stream.spawn()
    except (OSError, RuntimeError) as error:
        raise MfsynthError(
            f"Rerun's viewer can't be opened here ({error}); write a recording with --save FILE.rrd"
        ) from error
    shown = _log_all(stream, frames)
    stream.flush()
    return shown


def _new_stream() -> Any:
    if importlib.util.find_spec("rerun") is None:
        raise MfsynthError(
            "pairs are shown by rerun-sdk, which isn't here; pip install 'mfsynth[view]'"
        )
    import rerun

    return rerun.RecordingStream(_NAME)


def _log_all(stream: Any, frames: Iterable[Frame]) -> int:
    shown = 0
    for frame in frames:
        stream.set_time("pair", sequence=frame.number)
        _log(stream, frame)
        shown += 1
    return shown


def _log(stream: Any, frame: Frame) -> None:
    import rerun

    sample, camera = frame.sample, frame.camera
    # What the pair before had and this one hasn't would stay.
    stream.log("/", rerun.Clear(recursive=True))
    stream.log("/prompt", rerun.TextDocument(_text(frame), media_type="text/markdown"))
    stream.log(
        "/camera/rgb", rerun.EncodedImage(contents=frame.files["rgb"], media_type="image/jpeg")
    )
    stream.log("/camera/depth", _depth(frame))
    if (k := camera.intrinsics) is not None:
        pinhole = rerun.Pinhole(
            # Rerun's pixels have their centres at halves.
            image_from_camera=[[k.fx, 0, k.cx + 0.5], [0, k.fy, k.cy + 0.5], [0, 0, 1]],
            resolution=[camera.width, camera.height],
            camera_xyz=rerun.ViewCoordinates.RDF,
        )
        stream.log("/camera", pinhole)
        points = backproject(frame.depth, k)[::_STRIDE, ::_STRIDE]
        seen = np.isfinite(points[..., 2])
        colours = sample.rgb[::_STRIDE, ::_STRIDE][seen]
        stream.log("/points", rerun.Points3D(points[seen], colors=colours))
    for name, score in sample.scores.items():
        if not math.isnan(score):
            stream.log(f"/scores/{name}", rerun.Scalars(score))


def _depth(frame: Frame) -> Any:
    import rerun

    if frame.row["depth_encoding"] != DepthScale.LINEAR or not frame.sample.valid.any():
        return rerun.DepthImage(frame.depth, meter=1.0)
    factor = frame.depth.max() / frame.sample.depth.max()
    per_unit = 1 / (frame.row["depth_unit_per_code"] * float(factor))
    return rerun.EncodedDepthImage(frame.files["depth"], media_type="image/png", meter=per_unit)


def _text(frame: Frame) -> str:
    unit = "metres" if frame.unit == "metres" else "relative, a unit is shown as a metre"
    source = frame.camera.source or "unknown"
    lines = [frame.sample.prompt, f"`{frame.sample.sample_id}`", f"depth: {unit}; camera: {source}"]
    return "\n\n".join(lines)
