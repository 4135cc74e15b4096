"""TUM RGB-D sequences (https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

from mfsynth.datasets.exports.base import Block, Exporter, Facts, described, reach_of, whole_codes
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import depth_png, rgb_png
from mfsynth.geometry import quaternion

_CODES_PER_METRE: Final = 5000.0


class Tum(Exporter):
    """A sequence a recording and camera: rgb/, depth/, lists by time, calibration.txt, poses.

    rgb.txt, depth.txt and associations.txt are the lists; groundtruth.txt has poses of the camera
    in the world, of runs that have any. Pairs without times are given one a second, so that no tool
    takes neighbours for a pair.
    """

    holds: ClassVar[str] = (
        "8-bit PNG, 16-bit PNG of 5000 codes a metre, lists by time, poses of cameras; K beside"
    )
    cuts: ClassVar[str] = "depth beyond 13.1 m and below .1 mm (becomes invalid)"
    reach: ClassVar[tuple[float, float] | None] = reach_of(_CODES_PER_METRE)
    has_pictures: ClassVar[bool] = True

    def arranged(self, pairs: Pairs) -> Pairs:
        """See `Exporter`."""
        return pairs.by_frames

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
        poses: dict[str, list[str]] = {}
        cameras = {}
        for number, pose in enumerate(pairs.poses()):
            folder, time = _place(number, pairs)
            times.setdefault(folder, []).append(time)
            cameras[folder] = pairs.camera(number)
            if pose is not None:
                values = [*pose[:3, 3].tolist(), *quaternion(pose[:3, :3])]
                poses.setdefault(folder, []).append(" ".join(map(str, [time, *values])))
        documents = {
            f"{folder}/groundtruth.txt": _text(
                ["# ground truth trajectory", "# timestamp tx ty tz qx qy qz qw", *of]
            )
            for folder, of in poses.items()
        }
        for folder, of in times.items():
            for kind, what in (("rgb", "color images"), ("depth", "depth maps")):
                lines = [f"# {what}", "# timestamp filename"]
                lines += [f"{time} {kind}/{time}.png" for time in of]
                documents[f"{folder}/{kind}.txt"] = _text(lines)
            documents[f"{folder}/associations.txt"] = _text(
                [f"{time} rgb/{time}.png {time} depth/{time}.png" for time in of]
            )
            if (k := cameras[folder].intrinsics) is not None:
                documents[f"{folder}/calibration.txt"] = _text([f"{k.fx} {k.fy} {k.cx} {k.cy}"])
        documents["metadata.jsonl"] = described(
            pairs, lambda number: "{}/rgb/{}.png".format(*_place(number, pairs))
        )
        return documents


def _place(number: int, pairs: Pairs) -> tuple[str, str]:
    """The sequence of a pair, and its time there."""
    scenes = pairs.scenes_of_cameras
    return f"sequence_{scenes.numbers[number]:04d}", f"{scenes.seconds[number]:.6f}"


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
