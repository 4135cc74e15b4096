"""TUM RGB-D sequences (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

from mfsynth.datasets.exports.base import Block, Exporter, Facts, described, reach_of, whole_codes
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import depth_png, rgb_png

_CODES_PER_METRE: Final = 5000.0


class Tum(Exporter):
    """A sequence a camera: rgb/, depth/, rgb.txt, depth.txt, associations.txt, calibration.txt.

    Pairs have no times; they are given one a second, so that no tool takes neighbours for a pair.
    """

    holds: ClassVar[str] = "8-bit PNG, 16-bit PNG of 5000 codes a metre, lists by time; K beside"
    loses: ClassVar[str] = "depth beyond 13.1 m and below .1 mm (becomes invalid)"
    reach: ClassVar[tuple[float, float] | None] = reach_of(_CODES_PER_METRE)
    has_pictures: ClassVar[bool] = True

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        files, lost, photographs = {}, 0, []
        for frame in frames:
            codes, beyond = whole_codes(frame.depth, _CODES_PER_METRE)
            lost += beyond
            folder, time = _place(frame.number, pairs)
            image = f"{folder}/rgb/{time}.png"
            files[image] = rgb_png(frame.sample.rgb, frame.row)
            photographs += frame.photograph(image)
            files[f"{folder}/depth/{time}.png"] = depth_png(codes, frame.row)
        return Block(files, lost, photographs=photographs)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        times: dict[str, list[str]] = {}
        for number in range(len(pairs)):
            folder, time = _place(number, pairs)
            times.setdefault(folder, []).append(time)
        documents = {}
        for (folder, of), camera in zip(times.items(), pairs.cameras, strict=True):
            for kind, what in (("rgb", "color images"), ("depth", "depth maps")):
                lines = [f"# {what}", "# timestamp filename"]
                lines += [f"{time} {kind}/{time}.png" for time in of]
                documents[f"{folder}/{kind}.txt"] = _text(lines)
            documents[f"{folder}/associations.txt"] = _text(
                [f"{time} rgb/{time}.png {time} depth/{time}.png" for time in of]
            )
            if (k := camera.intrinsics) is not None:
                documents[f"{folder}/calibration.txt"] = _text([f"{k.fx} {k.fy} {k.cx} {k.cy}"])
        documents["metadata.jsonl"] = described(
            pairs, lambda number: "{}/rgb/{}.png".format(*_place(number, pairs))
        )
        return documents


def _place(number: int, pairs: Pairs) -> tuple[str, str]:
    """The sequence of a pair, and its time there."""
    camera, place = pairs.group(number)
    return f"sequence_{camera:04d}", f"{place}.000000"


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
