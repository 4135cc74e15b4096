"""LeRobot data sets of format v3 (github.com/huggingface/lerobot): frames of episodes with tasks.

meta/info.json says what there is; data/ has a row for every frame, with its pictures or without;
videos/ has those of several episodes one after another, and meta/episodes/ where each begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import ValidationError, model_validator

from mfsynth.config.base import Count, NonEmpty
from mfsynth.config.explain import explain
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.shards.frame_columns import FRAME, FrameColumn
from mfsynth.shards.labels import EPISODE, Moment
from mfsynth.sources.assembling import Files, assemble
from mfsynth.sources.base import Item
from mfsynth.sources.camera_settings import CameraSettings
from mfsynth.sources.contents import file_contents
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.folders import InFolder, files_beside
from mfsynth.sources.guards import decoding
from mfsynth.sources.lerobot_tables import (
    INFO,
    Frames,
    columns_of,
    frame_file,
    number_in,
    read_info,
    read_tasks,
    videos_of,
)
from mfsynth.sources.settings import StoredDepthSettings, require_no_labels
from mfsynth.sources.table_files import cell_of
from mfsynth.sources.tolerance import Skipped
from mfsynth.sources.trees import Tree, open_tree
from mfsynth.sources.video_frames import Video

_CODES = 4095.0
_UNITS = {"m": 1.0, "mm": 0.001}
_K = ["fx", "fy", "cx", "cy"]


class LeRobotSettings(StoredDepthSettings):
    """A LeRobot data set: a frame is an item, its task the caption.

    Its other plain values (actions, states, rewards) are a file of the item, `KEY.lerobot.json`.
    How depth is stored is taken from `meta/info.json` where `encoding` doesn't say it. Its videos
    have no code for holes: the nearest and the farthest code are taken to be none.

    Attributes:
        path: The folder, or its URL.
        image_key: The feature of the images, as `observation.images.front`; the only one unless
            given.
        depth_key: That of the depth maps; the only one unless given, if there is any.
        intrinsics_key: That of fx, fy, cx and cy; the only one with these names unless given.
        every: Of the frames of an episode, each n-th.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["lerobot"]
    path: NonEmpty
    image_key: NonEmpty | None = None
    depth_key: NonEmpty | None = None
    intrinsics_key: NonEmpty | None = None
    every: Count = 1

    @model_validator(mode="after")
    def _has_no_files(self) -> Self:
        require_no_labels(self.labels, "frames of a LeRobot data set")
        return self

    def open(self) -> LeRobotSource:
        """List the frames.

        Raises:
            MfsynthError: It is no LeRobot data set of v3, what says so can't be read, more of its
                tables or episodes can't be than may be left out, or it isn't clear which features
                are meant.
        """
        tree = open_tree(self.path)
        info, told = read_info(tree), tree.told(INFO)
        features = info["features"]
        pictures = [key for key, one in features.items() if one.get("dtype") in ("image", "video")]
        for key in pictures:
            if not isinstance(features[key].get("info") or {}, dict):
                raise MfsynthError(f"{told}: info of {key} is no object of names; mend it")
        maps = [key for key in pictures if _is_depth(features[key])]
        images = [key for key in pictures if key not in maps]
        image = _chosen(self.image_key, images, "image_key", tree)
        depth = _chosen(self.depth_key, maps, "depth_key", tree) if maps or self.depth_key else None
        lenses = [key for key, one in features.items() if one.get("names") == _K]
        camera = _chosen(self.intrinsics_key, lenses, "intrinsics_key", tree) if lenses else None
        if image is None:
            raise MfsynthError(f"{told}: no feature of images; choose another data set")
        fps = number_in(info, "fps", 30.0, told)
        if fps <= 0:
            raise MfsynthError(f"{told}: fps is {fps:g}; mend it")
        encoding = self.stored
        if depth is not None:
            encoding = self._encoding(features[depth], f"{told}: {depth}")
        cells = [
            key
            for key in (image, depth, camera)
            if key is not None and features[key].get("dtype") != "video"
        ]
        columns = columns_of(features, (*pictures, camera), told)
        frames, skipped = Frames.of(tree, self.every, [*cells, *columns], self.tolerance)
        videos = {}
        for key in (image, depth):
            if key is not None and key not in cells:
                videos[key], broken = videos_of(tree, info, key, self.tolerance)
                frames, lacking = frames.within(videos[key].keys(), tree, self.tolerance)
                skipped += [*broken, *lacking]
        return LeRobotSource(
            settings=self,
            encoding=encoding,
            tree=tree,
            image=_Feature(image, videos.get(image)),
            depth=None if depth is None else _Feature(depth, videos.get(depth)),
            intrinsics=camera,
            columns=columns,
            frames=frames,
            tasks=read_tasks(tree),
            slack=0.5 / fps,
            skipped=tuple(skipped),
        )

    def _encoding(self, feature: Mapping[str, Any], told: str) -> Encoding:
        """As the settings say, or else as lerobot's depth_utils.py has it.

        Raises:
            MfsynthError: Neither says what a code is, or they contradict each other.
        """
        stored, about = self.stored, feature.get("info") or {}
        if stored.scale is not None or stored.codes_per_unit is not None:
            return stored
        given = {name: getattr(stored, name) for name in stored.model_fields_set}
        if feature["dtype"] == "image":
            scale = _UNITS.get(str(about.get("depth_unit")))
            lacking = "depth_unit, m or mm," if scale is None else ""
            found: dict[str, Any] = {"scale": scale}
        else:
            lacking = "" if "video.depth_max" in about else "video.depth_max"
            found = _of_video(about, told)
        try:
            if lacking:
                stored.require_complete()
            return Encoding(**{**found, **given})
        except ValidationError as error:
            raise MfsynthError(f"{told}: encoding: {explain(error, Encoding)[1]}") from error
        except ValueError as error:
            raise MfsynthError(f"{told}: its info has no {lacking} and {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Feature:
    """A feature of pictures.

    Attributes:
        key: Of it.
        videos: By episode its video and when it begins there; None where pictures are in the rows.
    """

    key: str
    videos: Mapping[int, tuple[str, float]] | None


@dataclass(frozen=True, slots=True, eq=False)
class LeRobotSource:
    """Implements `NamedSource`.

    Attributes:
        settings: What was opened.
        encoding: Of the depth.
        tree: The folder.
        image: The feature of the images.
        depth: That of the depth maps.
        intrinsics: That of cameras.
        columns: Those of plain values that items hand on.
        frames: The items.
        tasks: Words by number.
        slack: How far a frame of a video may be from its time, in seconds.
        skipped: Tables and episodes that were left out; a frame that can't be read is told when it
            is.
    """

    settings: LeRobotSettings
    encoding: Encoding
    tree: Tree
    image: _Feature
    depth: _Feature | None
    intrinsics: str | None
    columns: Mapping[str, FrameColumn]
    frames: Frames
    tasks: Mapping[int, str]
    slack: float
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.frames.rows)

    def __getitem__(self, index: int) -> Item:
        name = self.tree.told(self.key(index))
        rgb = self._picture(index, self.image, name)
        depth, highest = None, None
        if self.depth is not None:
            depth, highest = self._codes(index, self.depth, name)
        encoding = self.encoding
        wanted = self.intrinsics if encoding.camera is None else None
        # Together: each set of columns is a part in memory.
        keys = (*self.columns, *(() if wanted is None else (wanted,)))
        cells = self.frames.cells(index, keys) if keys else {}
        if wanted is not None:
            values = np.asarray(cell_of(cells[wanted], f"{name}: {wanted}"), np.float64)
            if np.isfinite(values).all():
                with decoding(f"{name}: {wanted}", "a camera", "leave the frame out"):
                    Intrinsics(*values.tolist())
                camera = CameraSettings(**dict(zip(_K, values.tolist(), strict=True)))
                encoding = encoding.model_copy(update={"camera": camera})
        files = Files(
            rgb=rgb,
            rgb_name=name,
            text=self._task(index),
            beside=InFolder(self.tree, INFO),
            depth=depth,
            depth_name=f"{name}: {'' if self.depth is None else self.depth.key}",
            highest=highest,
            moment=self.moment(index),
        )
        needs_depth = self.depth is not None and self.settings.depth != "optional"
        item = assemble(files, encoding, needs_depth=needs_depth)
        if not self.columns:
            return item
        file = {FRAME: frame_file(self.columns, cells, name)}
        return replace(item, labels=replace(item.labels, files=file))

    def texts(self) -> Iterator[str]:
        """The task of every frame."""
        return (self._task(index) for index in range(len(self)))

    def key(self, index: int) -> str:
        """Numbers of the episode and of the frame in it."""
        return f"episode_{self.frames.episodes[index]:06d}/{self.frames.numbers[index]:06d}"

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        return (EPISODE, *([FRAME] if self.columns else []))

    def moment(self, index: int) -> Moment:
        """See `LabelledSource`."""
        frames = self.frames
        number, time = int(frames.numbers[index]), float(frames.times[index])
        return Moment(str(frames.episodes[index]), number, time)

    def contents(self) -> Iterator[bytes]:
        """The description, where episodes are in videos, and what files of frames end with."""
        yield self.tree.read(INFO, "a LeRobot data set has it")
        if self.columns:
            # Runs from before they were handed on have no place for them.
            yield json.dumps([FRAME, *self.columns]).encode()
        names = {file.name for file in self.frames.files}
        for feature in (self.image, self.depth):
            if feature is not None and feature.videos is not None:
                names |= {name for name, _ in feature.videos.values()}
                yield json.dumps([feature.key, sorted(feature.videos.items())]).encode()
        yield from file_contents((self.tree, name, name) for name in sorted(names))
        beside = InFolder(self.tree, INFO)
        yield from file_contents(files_beside(beside, self.encoding.files_beside, set()))

    def _picture(self, index: int, feature: _Feature, name: str) -> Any:
        if feature.videos is None:
            found = self.frames.cell(index, feature.key, name)
            if found is None:
                raise MfsynthError(f"{name}: no {feature.key}; leave the frame out")
            return found
        video, time = self._moment(index, feature)
        return video.image(time, self.slack, upright=False)

    def _codes(self, index: int, feature: _Feature, name: str) -> tuple[Any, int | None]:
        if feature.videos is None:
            return self._picture(index, feature, name), None
        video, time = self._moment(index, feature)
        return video.codes(time, self.slack)

    def _moment(self, index: int, feature: _Feature) -> tuple[Video, float]:
        assert feature.videos is not None
        video, begin = feature.videos[int(self.frames.episodes[index])]
        return Video(self.tree, video), begin + float(self.frames.times[index])

    def _task(self, index: int) -> str:
        return self.tasks.get(int(self.frames.tasks[index]), "")


def _is_depth(feature: Mapping[str, Any]) -> bool:
    about = feature.get("info") or {}
    return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))


def _of_video(about: Mapping[str, Any], told: str) -> dict[str, Any]:
    """Settings of an encoding, by what is said of a video."""
    near, far, shift = (
        number_in(about, f"video.{name}", default, told)
        for name, default in (("depth_min", 0.01), ("depth_max", 10.0), ("shift", 3.5))
    )
    is_log = about.get("video.use_log", True)
    if not isinstance(is_log, bool):
        raise MfsynthError(
            f"{told}: video.use_log is {is_log!r:.40}, neither true nor false; mend it"
        )
    if near >= far or (is_log and near + shift <= 0):
        raise MfsynthError(
            f"{told}: video.depth_min {near:g}, video.depth_max {far:g} and video.shift {shift:g} "
            "are no range; mend them"
        )
    found: dict[str, Any] = {"scale": (far - near) / _CODES, "offset": near}
    if is_log:
        found = {"quantity": "log", "near": near, "far": far, "shift": shift, "scale": 1 / _CODES}
    return {"invalid": (0.0, _CODES), **found}


def _chosen(key: str | None, known: list[str], setting: str, tree: Tree) -> str | None:
    if key is None and len(known) <= 1:
        return known[0] if known else None
    if key in known:
        return key
    if key is None:
        raise MfsynthError(f"{tree.told(INFO)}: set {setting} to one of {', '.join(known)}")
    raise MfsynthError(
        f"{tree.told(INFO)}: no feature {key!r} for {setting}; {did_you_mean(key, known)}"
    )
