"""Labels beside images: which files they are, and what is read of them.

labels:
mask: ../mask/{name}.png             # in WebDataset an extension, as mask.png
poses: ../poses/{name}.json          # as docs/reference/format.md has KEY.poses.json
camera_to_world: {file: ../pose/{name}.txt}
others: {normals.png: ../normals/{name}.png}
episode: (?P<episode>.*)/rgb/(?P<frame>[0-9]+)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from pydantic import Field, model_validator

from mfsynth.config.base import NonEmpty, Settings, Unset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import CameraAxes
from mfsynth.shards.columns import INDEX, PREFIXES, REJECTS
from mfsynth.shards.labels import (
    BIT_DEPTH,
    CAMERA_TO_WORLD,
    EPISODE,
    MASK,
    NO_LABELS,
    OTHER,
    POSES,
    Labels,
    Matrix,
    Moment,
    encode_mask,
    is_mask,
    member_of,
    rigid,
    suffix_of,
)
from mfsynth.shards.layout import ADDED_MEMBERS, MEMBERS
from mfsynth.sources.beside import Beside, filled, place_of, pose_at
from mfsynth.sources.bop_labels import CAMERAS, MASKS, SEEN, TRUTH, read_bop
from mfsynth.sources.containers import container_of, is_array, open_picture, read_array
from mfsynth.sources.guards import decoding
from mfsynth.sources.plain_formats import read_pgm

_MEMBERS = MEMBERS | ADDED_MEMBERS
_OWN = _MEMBERS.keys() | {member.suffix for member in _MEMBERS.values()}
# Of a frame: it is stored as int64.
_DIGITS = 18
# Pillow's modes in which a pixel is one number.
_ONE_NUMBER = ("1", "L", "P", "I", "I;16", "I;16B")
# Those that keep numbers, as Pillow reads them.
_EXACT = ("PNG", "BMP", "GIF", "TIFF")
_LOSSLESS_TIFF = (
    *("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"),
    *("tiff_ccitt", "group3", "group4"),
)
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
# What Pillow multiplies grey of so many bits with.
_SPREAD = {2: 85, 4: 17}


class CameraPoseSettings(Settings):
    """Where the pose of each image's camera is; one that isn't finite in any number is none.

    Attributes:
        file: A file with a 4x4 or 3x4 matrix, named as in `Encoding`; metres.
        path: Where in the file it is, if that has more: see `FromMetadata`.
        inverse: Whether it takes the world to the camera.
        axes: Of the camera's frame.
    """

    file: NonEmpty
    path: Unset[NonEmpty] = None
    inverse: Unset[Literal[True]] = None
    axes: Annotated[CameraAxes, Field(strict=False)] = CameraAxes.OPENCV

    def pose(self, beside: Beside) -> Matrix | None:
        """`camera_to_world` in OpenCV's axes; None where the file says that nobody knows it.

        Raises:
            MfsynthError: The file isn't there, or has no pose.
        """
        data, name = beside.read(filled(self.file, beside.stem))
        place = None if self.path is None else place_of(self.path, beside.stem)
        given = pose_at(data, name, place)
        if given is None:
            return None
        try:
            matrix = np.array(rigid(given)).reshape(4, 4)
            matrix = np.linalg.inv(matrix) if self.inverse else matrix
            matrix[:3, :3] = matrix[:3, :3] @ self.axes.to_opencv().T
            return rigid(matrix)
        except ValueError as error:
            raise MfsynthError(f"{name}: {error}; mend labels.camera_to_world") from error


class LabelSettings(Settings):
    """Labels beside images, which runs hand on; files are named as in `Encoding`.

    An image may lack any of them.

    Attributes:
        preset: `bop`, in place of the next three: masks, poses and cameras as BOP's scenes have
            them, beside images in rgb/ or gray/.
        mask: Instances: a picture or array of one number a pixel, 0 = none, of the image's size.
        poses: Names and poses of these instances, as `KEY.poses.json` (docs/reference/format.md).
        camera_to_world: Pose of the camera.
        others: Other files, by the suffixes that they are to have in the run; never looked into.
        episode: Regular expression that matches what an item is called in the source, with the
            groups `episode` and `frame`, a number. Items come by episodes, then, in the order of
            their frames.
    """

    preset: Unset[Literal["bop"]] = None
    mask: Unset[NonEmpty] = None
    poses: Unset[NonEmpty] = None
    camera_to_world: Unset[CameraPoseSettings] = None
    others: Unset[dict[str, NonEmpty]] = None
    episode: Unset[NonEmpty] = None

    @model_validator(mode="after")
    def _is_of_use(self) -> Self:
        if self.preset and (self.mask or self.poses or self.camera_to_world):
            raise ValueError("give preset, or mask, poses and camera_to_world")
        for suffix in self.others or ():
            if not OTHER.fullmatch(suffix) or not _OWN.isdisjoint((suffix, member_of(suffix))):
                raise ValueError(
                    f"others: {suffix!r:.60} can't be a suffix in a run; take one as normals.png, "
                    "of small letters, digits and _, with one dot at most, that no member has"
                )
        members = [member_of(suffix) for suffix in self.others or ()]
        if taken := [name for name in members if not _may_be_member(name)]:
            raise ValueError(
                f"others: {suffix_of(taken[0])!r:.60} would be taken for a column of the index "
                "that is another's, as check_... and slot_... are; rename it"
            )
        if len({*members}) < len(members):
            raise ValueError("others: two suffixes differ in . and _ alone; rename one")
        if self.episode is not None:
            try:
                groups = re.compile(self.episode).groupindex
            except re.error as error:
                raise ValueError(f"episode: no regular expression ({error})") from error
            if not {"episode", "frame"} <= groups.keys():
                raise ValueError("episode: needs the groups (?P<episode>...) and (?P<frame>...)")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """As `mfsynth.sources.base.LabelledSource` has them."""
        given = {
            MASK: self.preset or self.mask,
            POSES: self.preset or self.poses,
            CAMERA_TO_WORLD: self.preset or self.camera_to_world,
            EPISODE: self.episode,
        }
        own = [name for name, setting in given.items() if setting is not None]
        return (*own, *(self.others or ()))

    @property
    def optional(self) -> frozenset[str]:
        """Those of the names that a source need not have, if it has one of them."""
        return frozenset() if self.preset is None else frozenset({MASK, POSES, CAMERA_TO_WORLD})

    @property
    def files(self) -> frozenset[str]:
        """Files beside an image, as they are named."""
        pose = None if self.camera_to_world is None else self.camera_to_world.file
        named = (self.mask, self.poses, pose, *(self.others or {}).values())
        preset = () if self.preset is None else (TRUTH, CAMERAS, SEEN)
        return frozenset(name for name in (*named, *preset) if name is not None)

    @property
    def folders(self) -> frozenset[str]:
        """Folders beside an image of which all files count."""
        return frozenset() if self.preset is None else frozenset({MASKS})

    def moment(self, key: str) -> Moment | None:
        """Where an item stands in an episode, by its key; None where nothing says so.

        Raises:
            MfsynthError: The key is not as `episode` has it.
        """
        if self.episode is None:
            return None
        match = re.fullmatch(self.episode, key)
        frame = "" if match is None else match["frame"] or ""
        number = frame.isascii() and frame.isdecimal() and len(frame.lstrip("0")) <= _DIGITS
        if match is None or not number:
            raise MfsynthError(
                f"{key}: labels.episode does not match it, or its frame is no number of at most "
                f"{_DIGITS} digits; mend it"
            )
        return Moment(match["episode"] or "", int(frame))

    def in_order(self, keys: Sequence[str]) -> list[int]:
        """Numbers of items: episodes as they are first met, each in the order of its frames.

        Raises:
            MfsynthError: A key is not as `episode` has it, or two are one frame.
        """
        if self.episode is None:
            return [*range(len(keys))]
        first: dict[str, int] = {}
        taken: dict[Moment, int] = {}
        places = []
        for number, key in enumerate(keys):
            moment = self.moment(key)
            assert moment is not None  # an expression is set
            if (other := taken.setdefault(moment, number)) != number:
                raise MfsynthError(
                    f"{keys[other]} and {key}: both are frame {moment.frame} of the episode "
                    f"{moment.episode!r:.60}; mend labels.episode"
                )
            places.append((first.setdefault(moment.episode, number), moment.frame, number))
        return [number for *_, number in sorted(places)]

    def read(self, beside: Beside, shape: tuple[int, int], moment: Moment | None) -> Labels:
        """Labels of an image.

        Args:
            beside: The files beside it.
            shape: Its rows and columns.
            moment: Where it stands in an episode.

        Raises:
            MfsynthError: A file of labels is not what it should be.
        """
        files: dict[str, bytes] = {}
        wanted = {MASK: self.mask, POSES: self.poses, **(self.others or {})}
        last = ""
        for suffix, template in wanted.items():
            file = None if template is None else filled(template, beside.stem)
            if file is None or not beside.has(file):
                continue
            data, last = beside.read(file)
            files[suffix] = _as_mask(data, last) if suffix == MASK else data
        camera: Matrix | None = None
        if self.preset is not None:
            found, camera = read_bop(beside, shape)
            files |= found
        pose = self.camera_to_world
        if pose is not None and beside.has(filled(pose.file, beside.stem)):
            camera = pose.pose(beside)
        try:
            return Labels.of(files, shape, camera, moment)
        except ValueError as error:
            where = last.rpartition("/")[0]
            raise MfsynthError(
                f"{f'{where}/' if where else ''}{beside.stem}: {error}; mend it, or leave it out "
                "of labels"
            ) from error


def labels_read(
    settings: LabelSettings | None,
    beside: Beside,
    shape: tuple[int, int],
    moment: Moment | None,
    *,
    turned: bool,
) -> Labels:
    """Labels of an image, if settings name any, and where it stands in an episode.

    Raises:
        MfsynthError: As `LabelSettings.read`; or the image was turned, which labels can't be.
    """
    if settings is None:
        return NO_LABELS if moment is None else Labels(moment=moment)
    if turned and settings.files:
        raise MfsynthError(
            f"{beside.stem}: is turned as its orientation says, and its labels can't be; store "
            "image and labels upright"
        )
    return settings.read(beside, shape, moment)


def _as_mask(data: bytes, name: str) -> bytes:
    """A mask as it is stored: itself if that is what readers of the format can read."""
    if is_mask(data):
        return data
    if is_array(data):
        values = read_array(data, name, None, "replace it")
    else:
        with decoding(name, "a picture", "replace it"):
            values = _numbers_of(data, name)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biu":
        raise MfsynthError(
            f"{name}: a mask is whole numbers in rows and columns, this is {values.dtype} "
            f"{values.shape}; replace it"
        )
    if not 0 <= int(values.min()) <= int(values.max()) <= np.iinfo(np.uint16).max:
        raise MfsynthError(f"{name}: numbers of instances are from 0 to 65535; mend it")
    return encode_mask(values.astype(np.uint16))


def _numbers_of(data: bytes, name: str) -> NDArray[Any]:
    """What a picture stores in its pixels; Pillow spreads numbers of few bits over all grey."""
    if container_of(data) == "pgm":
        return read_pgm(data, name)
    with open_picture(data, name) as picture:
        if picture.format not in _EXACT or _is_inexact_tiff(picture):
            raise MfsynthError(
                f"{name}: a {picture.format} of this kind does not keep numbers of instances as "
                "they are; store them as PNG"
            )
        if picture.mode not in _ONE_NUMBER:
            raise MfsynthError(
                f"{name}: a mask has one number a pixel, this picture has colours "
                f"({picture.mode}); store the numbers of instances"
            )
        values = np.asarray(picture)
    if picture.format == "PNG" and picture.mode == "L":
        return values // _SPREAD.get(data[BIT_DEPTH], 1)
    return values


def _is_inexact_tiff(picture: Image.Image) -> bool:
    if not isinstance(picture, TiffImageFile):
        return False
    bits, *_ = picture.tag_v2.get(_TIFF_BITS, (1,))
    white_is_zero = picture.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    lossless = picture.info.get("compression") in _LOSSLESS_TIFF
    return bits in _SPREAD or white_is_zero or not lossless


def _may_be_member(name: str) -> bool:
    """Whether a source's file can have columns of this name that are nobody else's."""
    own = {f"{name}_{part}" for part in ("offset", "size", "crc32")}
    taken = {column.name for column in INDEX} | {column.name for column in REJECTS}
    return not name.startswith(PREFIXES) and own.isdisjoint(taken)
