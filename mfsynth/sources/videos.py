"""Frames of video files, with depth in videos beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mfsynth.config.base import Count, NonEmpty, Positive, Unset
from mfsynth.errors import MfsynthError
from mfsynth.shards.labels import EPISODE, Moment
from mfsynth.sources.assembling import Files, assemble
from mfsynth.sources.base import Item
from mfsynth.sources.captions import CaptionSettings, read_captions
from mfsynth.sources.contents import Member, file_contents
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.folder_layouts import pair_by_wildcards
from mfsynth.sources.folders import InFolder, files_beside
from mfsynth.sources.local_files import as_text
from mfsynth.sources.settings import StoredDepthSettings, require_no_labels
from mfsynth.sources.timing import paired
from mfsynth.sources.tolerance import Skipped
from mfsynth.sources.trees import Tree, lone_file, open_tree
from mfsynth.sources.video_frames import Video
from mfsynth.storage.urls import where_sought

EXTENSIONS = ("mp4", "mov", "mkv", "avi", "webm", "m4v")
_THREE_BYTES = ("rgb24", "bgr24")


class VideoSettings(StoredDepthSettings):
    """Videos, each of whose frames is an item.

    Attributes:
        path: A file, or a folder of them, or the URL of either.
        videos: Wildcards of the videos in the folder. None where there is depth alone.
        depths: The same wildcards with other words about them, for videos of depth: one grey plane
            of codes (gray10le to gray16le), or three bytes by `encoding.packing`. A frame's depth
            is the one nearest in time.
        every: Of the frames, each n-th.
        max_seconds: Greatest difference in time of a frame and its depth; half of what is between
            two frames of depth unless given.
        captions: Where captions of the videos come from.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["video"]
    path: NonEmpty
    videos: NonEmpty | None = "**/*.{" + ",".join(EXTENSIONS) + "}"
    depths: NonEmpty | None = None
    every: Count = 1
    max_seconds: Unset[Positive] = None
    captions: CaptionSettings = CaptionSettings()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.videos is None and self.depths is None:
            raise ValueError("give videos, depths, or both: wildcards of the files")
        require_no_labels(self.labels, "frames of a video")
        if self.depths is not None:
            self.stored.require_complete()
        return self

    def open(self) -> VideoSource:
        """List the frames of the videos, without decoding them.

        Raises:
            MfsynthError: There is no video, one has no depth though it must, more can't be read or
                have no caption than may be left out, or PyAV isn't installed.
        """
        tree, pairs = self._pairs()
        captions = read_captions(self.captions, tree, [video for video, _ in pairs])
        recordings, skipped = [], []
        for (video, depth), caption in zip(pairs, captions, strict=True):
            if isinstance(caption, MfsynthError):
                skipped.append(Skipped(tree.told(video), str(caption)))
                continue
            try:
                recordings.append(self._recording(tree, video, depth, caption))
            except MfsynthError as error:
                skipped.append(Skipped(tree.told(video), str(error)))
        self.tolerance.require(skipped, len(pairs))
        counts = [len(recording.frames) for recording in recordings]
        if not sum(counts):
            raise MfsynthError(
                skipped[0].reason if skipped else f"{tree.told()}: no frame has depth; check depths"
            )
        return VideoSource(
            settings=self,
            encoding=self.stored,
            tree=tree,
            recordings=tuple(recordings),
            ends=np.cumsum(counts),
            skipped=tuple(skipped),
        )

    def _pairs(self) -> tuple[Tree, list[tuple[str, str | None]]]:
        if (lone := lone_file(self.path, EXTENSIONS)) is not None:
            tree, file = lone
            if tree.find(file) is None:
                where = where_sought(self.path)
                raise MfsynthError(f"{tree.told(file)}: no such video{where}; check the path")
            depth = self.depths
            if depth is not None and tree.find(depth) is None:
                raise MfsynthError(f"{tree.told(depth)}: no such video of depth; set depths")
            return tree, [(file, depth)]
        tree = open_tree(self.path)
        if self.videos is None:
            assert self.depths is not None
            pairs = [(name, name) for name, _ in pair_by_wildcards(tree, self.depths, None)]
            return tree, [*pairs]
        found = pair_by_wildcards(tree, self.videos, self.depths)
        maps = {depth for _, depth in found}
        found = [pair for pair in found if pair[0] not in maps]
        if not found:
            raise MfsynthError(f"{tree.told()}: no videos {self.videos}; check the path")
        lacking = [video for video, depth in found if depth is None]
        if self.depths is not None and lacking and self.depth == "required":
            raise MfsynthError(
                f"{tree.told(lacking[0])}: no video of depth beside it; set depth to optional to "
                "use it without, or to paired to leave it out"
            )
        return tree, found

    def _recording(self, tree: Tree, video: str, depth: str | None, caption: str) -> Recording:
        times = Video(tree, video).times()
        frames = np.arange(0, len(times), self.every)
        depth_times = np.full(len(frames), np.nan)
        if depth is not None:
            there = times if self.videos is None else Video(tree, depth).times()
            between = float(np.median(np.diff(there))) if len(there) > 1 else 1.0
            most = self.max_seconds or 0.5 * between
            for frame, other in paired(times[frames].tolist(), there.tolist(), most).items():
                depth_times[frame] = there[other]
        lacking = np.isnan(depth_times)
        if self.depths is not None and lacking.any():
            if self.depth == "required":
                raise MfsynthError(
                    f"{tree.told(video)}: {int(lacking.sum())} of {len(frames)} frames have no "
                    "depth; set max_seconds, or depth to optional or paired"
                )
            if self.depth == "paired":
                frames, depth_times = frames[~lacking], depth_times[~lacking]
        return Recording(video, depth, caption, frames, times[frames], depth_times)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A video, as far as its frames are items.

    Attributes:
        video: Its name.
        depth: That of the video of its depth.
        caption: Of it.
        frames: (N,) numbers of its frames.
        times: (N,) seconds.
        depth_times: (N,) seconds, NaN where a frame has no depth.
    """

    video: str
    depth: str | None
    caption: str
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    depth_times: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class VideoSource:
    """Implements `NamedSource`.

    Attributes:
        settings: What was opened.
        encoding: Of the depth.
        tree: The folder of the videos.
        recordings: The videos.
        ends: How many items there are up to the end of each.
        skipped: Videos that were left out.
    """

    settings: VideoSettings
    encoding: Encoding
    tree: Tree
    recordings: tuple[Recording, ...]
    ends: NDArray[np.int64]
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Item:
        recording, at = self._place(index)
        time, depth_time = recording.times[at], recording.depth_times[at]
        rgb, depth, highest = None, None, None
        if self.settings.videos is not None:
            video = Video(self.tree, recording.video)
            # A camera that is given is of the stored pixels, as it is of image files.
            alone = recording.depth is None and self.encoding.camera is None
            rgb = video.image(time, upright=alone)
        if recording.depth is not None and not np.isnan(depth_time):
            stored = Video(self.tree, recording.depth)
            if self.encoding.packing in _THREE_BYTES:
                depth = stored.image(depth_time, upright=False)
            else:
                depth, highest = stored.codes(depth_time)
        files = Files(
            rgb=rgb,
            rgb_name=self.tree.told(self.key(index)),
            text=recording.caption,
            beside=InFolder(self.tree, recording.video),
            depth=depth,
            depth_name=f"{self.tree.told(recording.depth or '')} at {depth_time:.4f} s",
            highest=highest,
            moment=self.moment(index),
        )
        needs_depth = self.settings.depths is not None and self.settings.depth != "optional"
        return assemble(files, self.encoding, needs_depth=needs_depth)

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return (one.caption for one in self.recordings for _ in one.frames)

    def key(self, index: int) -> str:
        """The video's name in the folder, and the number of the frame in it."""
        recording, at = self._place(index)
        return f"{as_text(recording.video)}/{recording.frames[at]:06d}"

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`: a video is an episode."""
        return (EPISODE,)

    def moment(self, index: int) -> Moment:
        """See `LabelledSource`."""
        recording, at = self._place(index)
        name = as_text(recording.video)
        return Moment(name, int(recording.frames[at]), float(recording.times[at]))

    def contents(self) -> Iterator[bytes]:
        """Name, size and last bytes of every file."""
        return file_contents(self._files())

    def _files(self) -> Iterator[Member]:
        shared: set[str] = set()
        for recording in self.recordings:
            yield self.tree, recording.video, recording.video
            if recording.depth is not None:
                yield self.tree, recording.depth, f"{recording.video}: depth"
            beside = InFolder(self.tree, recording.video)
            yield from files_beside(beside, self.encoding.files_beside, shared)

    def _place(self, index: int) -> tuple[Recording, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[number - 1]) if number else 0
        return self.recordings[number], index - before
