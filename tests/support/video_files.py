"""Small videos without loss, of images and of depth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def write_video(
    path: Path,
    frames: list[NDArray[Any]],
    pixels: str = "bgr0",
    codec: str = "ffv1",
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """A video of ten frames a second, or at `times` in tenths of seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = Fraction(1, 10)
        for number, pixel in enumerate(frames):
            frame = _frame(pixel, pixels)
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _frame(pixel: NDArray[Any], pixels: str) -> Any:
    if pixel.ndim == 3:
        return av.VideoFrame.from_ndarray(pixel, format="rgb24").reformat(format=pixels)
    frame = av.VideoFrame(pixel.shape[1], pixel.shape[0], pixels)
    plane: Any = frame.planes[0]
    rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
    rows[:, : pixel.shape[1]] = pixel
    plane.update(rows.tobytes())
    return frame
