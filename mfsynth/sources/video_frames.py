"""Frames of video files, by their times, read one after another where they are asked for so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.sources.guards import decoding, library, require_few
from mfsynth.sources.kept_open import KeptOpen
from mfsynth.sources.trees import Tree

# Of decoders that stay open in a process: two cameras of four recordings.
_OPEN = 8
_REMEDY = "restore it, or leave it out"
# How far ahead a frame may be for decoding what is between instead of looking for a key frame.
_STEP = 1.0
# Times of frames are whole ticks of a clock that has fewer a second.
_TICK = 1e-6
# Of an AVI's frames, more than any depends on.
_LOOKED_AT = 32
# Formats of pixels that are one plane of numbers, with the highest if they have fewer bits.
_GREY = {
    **{"gray": None, "gray10le": 2**10 - 1, "gray12le": 2**12 - 1, "gray14le": 2**14 - 1},
    **dict.fromkeys(("gray16le", "gray16be", "grayf32le")),
}


@dataclass(frozen=True, slots=True)
class Video:
    """A video file.

    Attributes:
        tree: The folder that it lies in.
        name: Of it there.
    """

    tree: Tree
    name: str

    @property
    def told(self) -> str:
        """Its full name, for messages."""
        return self.tree.told(self.name)

    def times(self) -> NDArray[np.float64]:
        """When each of its frames is shown, in seconds and in order; without decoding them.

        Raises:
            MfsynthError: It can't be read, or has no frame.
        """
        with _decoder(self) as decoder:
            return decoder.times()

    def image(self, time: float, slack: float = _TICK, *, upright: bool = True) -> RgbImage:
        """A frame, uint8 (H, W, 3).

        Args:
            time: When it is shown, in seconds.
            slack: How far it may be from there.
            upright: Whether to turn it as the file says, as those of telephones do.

        Raises:
            MfsynthError: It can't be read, or there is no such frame.
        """
        with _decoder(self) as decoder:
            frame = decoder.frame(time, slack)
            image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            # Anticlockwise, as FFmpeg has it.
            quarters = round(getattr(frame, "rotation", 0) / 90) if upright else 0
        return np.ascontiguousarray(np.rot90(image, quarters)) if quarters % 4 else image

    def codes(self, time: float, slack: float = _TICK) -> tuple[NDArray[Any], int | None]:
        """The numbers (H, W) of a frame as they are stored, see `image`; and the highest.

        That is None where it is the highest of its kind of numbers.

        Raises:
            MfsynthError: Likewise, or it is in colours.
        """
        with _decoder(self) as decoder:
            frame = decoder.frame(time, slack)
            if frame.format.name not in _GREY:
                raise MfsynthError(
                    f"{self.told}: a video of {frame.format.name}; depth is in one grey plane of "
                    "10 to 16 bits, as gray12le or gray16le"
                )
            return np.asarray(frame.to_ndarray()), _GREY[frame.format.name]


class _Decoder:
    """Goes on from where it is, as long as that is near."""

    def __init__(self, video: Video) -> None:
        av = library("av", "PyAV", "video", video.told)
        self._container = av.open(video.tree.open(video.name), mode="r")
        if not self._container.streams.video:
            raise ValueError("no pictures in it")
        self._stream = self._container.streams.video[0]
        # A process that is forked would wait for threads that it doesn't have.
        self._stream.codec_context.thread_count = 1
        require_few((self._stream.height, self._stream.width), video.told)
        self._told = video.told
        self._frames: Any = iter(())
        self._last: Any = None

    def close(self) -> None:
        self._container.close()

    def times(self) -> NDArray[np.float64]:
        self._last = None
        self._container.seek(0, stream=self._stream)
        found = sorted(
            packet.pts
            for packet in self._container.demux(self._stream)
            if packet.pts is not None and packet.size and not packet.is_discard
        )
        if not found:
            raise ValueError("no frames in it")
        self._require_order()
        return np.array(found, np.float64) * float(self._stream.time_base)

    def _require_order(self) -> None:
        """Refuse frames whose times are not theirs.

        AVI has none: they are guessed by the order in which frames are stored, which is not that in
        which they are shown where some are made of later ones.
        """
        if self._container.format.name != "avi":
            return
        self._container.seek(0, stream=self._stream)
        first = islice(self._container.decode(self._stream), _LOOKED_AT)
        times = [frame.pts for frame in first if frame.pts is not None]
        if times != sorted(times):
            raise MfsynthError(
                f"{self._told}: its frames are stored in another order than they are shown in, and "
                "AVI has no times by which to tell; convert it to MP4 or MKV"
            )

    def frame(self, time: float, slack: float) -> Any:
        base = float(self._stream.time_base)
        last = self._last
        if last is not None and abs(last.pts * base - time) <= slack:
            return last
        starts = [time - slack, 0.0]
        if last is not None and 0 < time - last.pts * base <= _STEP:
            # It may come next.
            starts.insert(0, math.nan)
        for start in starts:
            if not math.isnan(start):
                at = max(0, math.floor(start / base))
                self._container.seek(at, stream=self._stream, backward=True)
                self._frames = self._container.decode(self._stream)
            for frame in self._frames:
                if frame.pts is not None and frame.pts * base >= time - slack:
                    self._last = frame
                    break
            else:
                self._last = None
                continue
            if frame.pts * base <= time + slack:
                return frame
        raise ValueError(f"no frame at {time:.4f} s")


_KEPT = KeptOpen(_Decoder, _OPEN)


@contextmanager
def _decoder(video: Video) -> Iterator[_Decoder]:
    """The decoder of a video, for one thread at a time."""
    with decoding(video.told, "a video", _REMEDY), _KEPT.of(video) as decoder:
        yield decoder
