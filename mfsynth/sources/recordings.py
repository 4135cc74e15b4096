"""Recordings of robots: images of one topic, depth of another, cameras as they were published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mfsynth.config.base import Count, NonEmpty, Positive, Unset
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.shards.labels import EPISODE, Moment
from mfsynth.sources import ros_images
from mfsynth.sources.assembling import Files, assemble
from mfsynth.sources.base import Item
from mfsynth.sources.camera_settings import CameraSettings, ExtrinsicsSettings
from mfsynth.sources.contents import Member, file_contents
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.folders import InFolder, files_beside
from mfsynth.sources.message_logs import MessageLog, message_log, require_one_path
from mfsynth.sources.ros_cameras import bend_of, camera_of, is_rectified
from mfsynth.sources.settings import StoredDepthSettings, require_no_labels
from mfsynth.sources.timing import paired
from mfsynth.sources.tolerance import Skipped
from mfsynth.sources.trees import LocalTree

_PICTURES = ("Image", "CompressedImage")
_NANO = 1e-9
# Pixels, from which on it is told.
_BENT = 0.5
Lenses = Mapping[int, CameraSettings]
"""Cameras by the recorder's times of their messages."""


class RecordingSettings(StoredDepthSettings):
    """A ROS bag of either version, or MCAP: every image of a topic is an item, or every depth map.

    Images and depth are paired by the times of their sensors. Units are those of ROS (`16UC1`
    millimetres, `32FC1` metres), or what librealsense recorded of them; cameras those of the
    CameraInfo topic in the namespace of the image's and the depth's: of rectified topics
    (`image_rect…`, `aligned_depth…`) P, of others K, with region of interest and binning.

    Attributes:
        path: A .bag or .mcap file, a .db3, or a folder with metadata.yaml.
        image_key: The topic of the images; the only one unless given, if there is any.
        depth_key: That of the depth maps; the only one unless given, if there is any.
        camera_key: That of the images' camera.
        depth_camera_key: That of the depth maps' camera.
        depth_alone: Whether every depth map is an item, in its own camera, and images are left out.
        max_seconds: Greatest difference in time of an image and its depth.
        every: Of the images, each n-th.
        caption: Of all of them.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["recording"]
    path: NonEmpty
    image_key: NonEmpty | None = None
    depth_key: NonEmpty | None = None
    camera_key: NonEmpty | None = None
    depth_camera_key: NonEmpty | None = None
    depth_alone: Unset[Literal[True]] = None
    max_seconds: Positive = 0.02
    every: Count = 1
    caption: str = ""

    @model_validator(mode="after")
    def _has_no_files(self) -> Self:
        require_no_labels(self.labels, "images of a recording")
        return self

    def open(self) -> RecordingSource:
        """List the images, and the depth of each.

        Raises:
            MfsynthError: It can't be read, it isn't clear which topics are meant, depth is of
                another camera, or images have no depth though they must.
        """
        path = require_one_path(self.path)
        with message_log(path) as log:
            topics = self._topics(log, str(path))
            lenses, bend = self._lenses(log, topics, str(path))
            encoding = self._encoding(log, topics, lenses, str(path))
            moments = _moments(log, topics)
            kind = ""
            if "depth" in topics:
                kind = ros_images.encoding_of(log.message(topics["depth"]))
        images, depths = moments["image"], moments["depth"]
        if "image" not in topics:
            images = depths
        chosen = np.arange(0, len(images), self.every)
        depth_of = np.full(len(images), -1)
        for image, depth in paired(
            images[:, 1].tolist(), depths[:, 1].tolist(), round(self.max_seconds / _NANO)
        ).items():
            depth_of[image] = depth
        lacking = depth_of[chosen] < 0
        if topics.get("depth") is not None and lacking.any():
            if self.depth == "required" or (self.depth == "paired" and lacking.all()):
                raise MfsynthError(
                    f"{path}: {lacking.sum()} of {len(chosen)} images have no depth within "
                    f"{self.max_seconds:g} s, {_closest(images, depths)}; set max_seconds, or "
                    "depth to optional or paired"
                )
            chosen = chosen[~lacking] if self.depth == "paired" else chosen
        return RecordingSource(
            settings=self,
            encoding=encoding,
            path=path,
            topics=topics,
            depth_kind=kind,
            frames=chosen,
            times=images[chosen, 0],
            sensed=images[chosen, 1],
            lenses=lenses if len(set(lenses.values())) > 1 else {},
            depth_times=np.where(depth_of >= 0, np.append(depths[:, 0], 0)[depth_of], -1)[chosen],
            bend=bend,
            ordinals=np.stack([images[:, 2], np.append(depths[:, 2], 0)[depth_of]], 1)[chosen],
        )

    def _lenses(
        self, log: MessageLog, topics: Mapping[str, str], name: str
    ) -> tuple[Lenses, float]:
        """Cameras of the images, and how far their lens bends them, unless the settings have one.

        Of a camera that stays the same the first.
        """
        if "camera" not in topics or self.stored.camera is not None:
            return {}, 0.0
        of, bend = topics.get("image") or topics["depth"], 0.0
        cameras: dict[int, CameraSettings] = {}
        for time, info in log.messages(topics["camera"]):
            if (camera := camera_of(info, of, name)) is not None:
                bend = bend if cameras else bend_of(info, of)
                cameras[time] = camera
        first = next(iter(cameras), None)
        if first is None or len(set(cameras.values())) > 1:
            return cameras, bend
        return {first: cameras[first]}, bend

    def _topics(self, log: MessageLog, name: str) -> dict[str, str]:
        """Topics by what they are: image, depth, camera and depth_camera, as far as there are."""
        named = [topic for topic, kind in log.topics.items() if kind in _PICTURES]
        # A topic may be there without a message.
        pictures = {topic: one for topic in named if (one := _first(log, topic)) is not None}
        maps = [topic for topic, one in pictures.items() if ros_images.is_depth(one)]
        images = [topic for topic in pictures if topic not in maps and not self.depth_alone]
        infos = [topic for topic, kind in log.topics.items() if kind == "CameraInfo"]
        found = {
            "image": _chosen(self.image_key, images, "image_key", name),
            "depth": _chosen(self.depth_key, maps, "depth_key", name) if maps else None,
        }
        if self.depth_key is not None and not maps:
            raise MfsynthError(f"{name}: no topic of depth, so none is {self.depth_key}")
        if not pictures:
            raise MfsynthError(f"{name}: no topic of images; topics: {', '.join(log.topics)}")
        for what, key in (("camera", self.camera_key), ("depth_camera", self.depth_camera_key)):
            of = found["depth" if what == "depth_camera" else "image"] or found["depth"]
            if key is not None:
                found[what] = _chosen(key, infos, f"{what}_key", name)
            elif of is not None:
                found[what] = _beside(of, infos, alone=len(images) < 2)
        return {what: topic for what, topic in found.items() if topic is not None}

    def _encoding(
        self, log: MessageLog, topics: Mapping[str, str], lenses: Lenses, name: str
    ) -> Encoding:
        """With what the recording says of cameras and units, where the settings don't."""
        stored, found = self.stored, dict[str, Any]()
        if stored.camera is None and lenses:
            found["camera"] = next(iter(lenses.values()))
        own, of = topics.get("depth_camera"), topics.get("depth", "")
        apart = own != topics.get("camera")
        if "image" in topics and is_rectified(of) != is_rectified(topics["image"]):
            apart = True
        if stored.depth_camera is None and own is not None and apart:
            info = _first(log, own)
            found["depth_camera"] = None if info is None else camera_of(info, of, name)
        if stored.registration == "to_colour" and stored.extrinsics is None:
            found["extrinsics"] = _extrinsics(log, topics, name)
        encoding = stored.model_copy(update={k: v for k, v in found.items() if v is not None})
        if "depth" not in topics:
            return encoding
        if encoding.scale is None and encoding.codes_per_unit is None and encoding.near is None:
            unit = ros_images.UNITS.get(ros_images.encoding_of(log.message(topics["depth"])))
            unit = unit or _recorded_unit(log, topics["depth"])
            if unit is not None:
                encoding = encoding.model_copy(update={"scale": unit})
        try:
            encoding.require_complete()
        except ValueError as error:
            raise MfsynthError(f"{name}: {error}") from error
        return encoding


@dataclass(frozen=True, slots=True, eq=False)
class RecordingSource:
    """Implements `NamedSource`.

    Attributes:
        settings: What was opened.
        encoding: Of the depth, with cameras and unit of the recording.
        path: Of the recording.
        topics: By what they are.
        depth_kind: What the first message of depth is, as `16UC1`; "" where there is none.
        frames: (N,) numbers of the images in their topic.
        times: (N,) nanoseconds, by which images are found: the recorder's.
        sensed: (N,) nanoseconds, when images were taken: the sensors', unless one doesn't say.
        lenses: Cameras of the images by their own times, if that changes.
        depth_times: (N,) those of depth; -1 where there is none.
        ordinals: (N, 2) of image and depth their numbers among the messages of one time.
        bend: By how many pixels the lens bends the images' corners.
        skipped: Nothing: an image that can't be read is told when it is.
    """

    settings: RecordingSettings
    encoding: Encoding
    path: Path
    topics: Mapping[str, str]
    depth_kind: str
    frames: NDArray[np.int64]
    times: NDArray[np.int64]
    sensed: NDArray[np.int64]
    lenses: Lenses
    depth_times: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    bend: float = 0.0
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> Item:
        time, depth_time = int(self.times[index]), int(self.depth_times[index])
        ordinal, depth_ordinal = self.ordinals[index].tolist()
        depth_name = f"{self.path}, {self.topics.get('depth')} at {depth_time} ns"
        with message_log(self.path) as log:
            rgb, depth = None, None
            if "image" in self.topics:
                rgb = ros_images.image_of(log.message(self.topics["image"], time, ordinal))
            if depth_time >= 0:
                message = log.message(self.topics["depth"], depth_time, depth_ordinal)
                found = ros_images.encoding_of(message)
                if found != self.depth_kind:
                    raise MfsynthError(
                        f"{depth_name}: {found} among {self.depth_kind}, of another unit perhaps; "
                        "leave it out of the recording"
                    )
                depth = ros_images.depth_of(message, depth_name)
        files = Files(
            rgb=rgb,
            rgb_name=f"{self.path}, {self.topics.get('image', 'depth')} at {time} ns",
            text=self.settings.caption,
            beside=self._beside,
            depth=depth,
            depth_name=depth_name,
            moment=self.moment(index),
        )
        encoding = self.encoding
        if self.lenses:
            nearest = min(self.lenses, key=lambda moment: abs(moment - time))
            encoding = encoding.model_copy(update={"camera": self.lenses[nearest]})
        needs_depth = "depth" in self.topics and self.settings.depth != "optional"
        item = assemble(files, encoding, needs_depth=needs_depth)
        if self.bend < _BENT:
            return item
        told = f"{item.camera_from}, and its lens bends the corners by {self.bend:.1f} pixels"
        return replace(item, camera_from=f"{told}, which stays; a rectified topic has none of it")

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return (self.settings.caption for _ in self.times)

    def key(self, index: int) -> str:
        """The recording's name, the time in it, nanoseconds, and a number if that isn't its own."""
        ordinal = int(self.ordinals[index, 0])
        return f"{self.path.name}/{self.times[index]}" + (f".{ordinal}" if ordinal else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`: a recording is an episode."""
        return (EPISODE,)

    def moment(self, index: int) -> Moment:
        """See `LabelledSource`; seconds from the first image on, by the sensor's clock."""
        time = float(self.sensed[index] - self.sensed.min()) * _NANO
        return Moment(self.path.name, int(self.frames[index]), time)

    def contents(self) -> Iterator[bytes]:
        """Name, size and last bytes of the file, or of all in the folder, and of those beside."""
        tree = LocalTree(self.path if self.path.is_dir() else self.path.parent)
        names = sorted(tree.glob("**/*")) if self.path.is_dir() else [self.path.name]
        members: list[Member] = [(tree, name, name) for name in names]
        beside = files_beside(self._beside, self.encoding.files_beside, set())
        return file_contents([*members, *beside])

    @property
    def _beside(self) -> InFolder:
        return InFolder(LocalTree(self.path.parent), self.path.name)


def _moments(log: MessageLog, topics: Mapping[str, str]) -> dict[str, NDArray[np.int64]]:
    """Of images and depth (N, 3), in the order of the sensor's times.

    The recorder's time, the sensor's (the recorder's again if a message has none), and the number
    among the topic's messages of the recorder's.
    """
    wanted = {topics[what]: what for what in ("image", "depth") if what in topics}
    met = Counter[tuple[str, int]]()
    found: dict[str, list[tuple[int, int, int]]] = {"image": [], "depth": []}
    for topic, moment in log.moments(wanted):
        place = topic, moment.logged
        found[wanted[topic]].append((moment.logged, moment.stamped, met[place]))
        met[place] += 1
    arrays = {what: np.array(ms, np.int64).reshape(-1, 3) for what, ms in found.items()}
    if not all((ms[:, 1] > 0).all() for ms in arrays.values()):
        # A sensor without a clock.
        arrays = {what: ms[:, [0, 0, 2]] for what, ms in arrays.items()}
    return {what: ms[np.argsort(ms[:, 1], kind="stable")] for what, ms in arrays.items()}


def _closest(images: NDArray[np.int64], depths: NDArray[np.int64]) -> str:
    if not len(depths) or not len(images):
        return "for there is none"
    least = min(int(np.abs(depths[:, 1] - time).min()) for time in images[:, 1].tolist())
    return f"the closest is {least * _NANO:.3g} s away"


def _first(log: MessageLog, topic: str) -> Any:
    """The first message of a topic; None where there is none."""
    return next((message for _, message in log.messages(topic)), None)


def _chosen(key: str | None, known: list[str], setting: str, name: str) -> str | None:
    if key is None and len(known) <= 1:
        return known[0] if known else None
    if key in known:
        return key
    if key is None:
        raise MfsynthError(f"{name}: set {setting} to one of {', '.join(sorted(known))}")
    raise MfsynthError(f"{name}: no such topic {key!r} for {setting}; {did_you_mean(key, known)}")


def _beside(topic: str, infos: list[str], *, alone: bool) -> str | None:
    """The topic of the camera of images: in their namespace, or the only one of a recording."""
    found: dict[str, int] = {}
    for info in infos:
        # librealsense has it a step further down.
        space = info.rpartition("/")[0].removesuffix("/info")
        if topic.startswith(f"{space}/") and (space or (alone and len(infos) == 1)):
            found[info] = len(space)
    return max(found, key=lambda info: found[info]) if found else None


def _recorded_unit(log: MessageLog, depth: str) -> float | None:
    """Metres a code, as librealsense records it beside the depth of a sensor."""
    sensor = "/".join(depth.split("/")[:3])
    topic = f"{sensor}/option/Depth Units/value"
    return float(log.message(topic).data) if topic in log.topics else None


def _extrinsics(log: MessageLog, topics: Mapping[str, str], name: str) -> ExtrinsicsSettings | None:
    """From the depth camera to the colour camera, as librealsense records both."""
    poses = {}
    for what in ("image", "depth"):
        stream = "/".join(topics.get(what, "").split("/")[:4])
        if f"{stream}/tf/0" not in log.topics:
            return None
        poses[what] = _matrix(log.message(f"{stream}/tf/0"))
    # Each takes coordinates of its camera to those of a third one.
    pose = np.linalg.inv(poses["image"]) @ poses["depth"]
    return ExtrinsicsSettings(matrix=tuple(pose.ravel().tolist()))


def _matrix(transform: Any) -> NDArray[np.float64]:
    turn, move = transform.rotation, transform.translation
    q = np.array([turn.x, turn.y, turn.z, turn.w], np.float64)
    x, y, z, w = (q / np.linalg.norm(q)).tolist()
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = move.x, move.y, move.z
    return pose
