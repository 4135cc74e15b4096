"""One item of the files that it lies in: image, depth map, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.registration import depth_in_camera
from mfsynth.geometry.resizing import resize_nearest
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage
from mfsynth.shards.labels import Moment
from mfsynth.shards.marks import JPEG_START, source_type
from mfsynth.sources.base import DepthFacts, Item, Origin
from mfsynth.sources.beside import Beside, filled, kept_by, matrix_at, number_at, place_of
from mfsynth.sources.camera_settings import CameraSettings, ExtrinsicsSettings, differ
from mfsynth.sources.containers import exif_orientation, is_array, read_codes
from mfsynth.sources.decoding import (
    EncodingError,
    Shape,
    decode_depth,
    decode_rgb,
    require_same_view,
)
from mfsynth.sources.depth_codes import facts_of
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.labels import LabelSettings, labels_read
from mfsynth.sources.own_shards import OwnDepth, require_foreign

_Value = TypeVar("_Value", bound=np.generic)

# Clockwise, that bring a stored picture upright; the other orientations are mirrored.
_EXIF_QUARTERS = {1: 0, 3: 2, 6: 1, 8: 3}


@dataclass(frozen=True, slots=True)
class Files:
    """What an item is made of.

    Attributes:
        rgb: The image's file, or its pixels; None where there is none.
        rgb_name: Its name, for messages.
        text: The caption.
        beside: Other files beside it.
        depth: The depth map's file, or its codes; None where there is none.
        depth_name: Its name, for messages.
        highest: Of its codes, if they were read before; see `decode_codes`.
        own: How it is stored, where it is mfsynth's own.
        named_as_own: Whether it is named as mfsynth's own are.
        moment: Where the image stands in an episode; None for nowhere.
    """

    rgb: bytes | RgbImage | None
    rgb_name: str
    text: str
    beside: Beside
    depth: bytes | NDArray[Any] | None = None
    depth_name: str = ""
    highest: int | None = None
    own: OwnDepth | None = None
    named_as_own: bool = False
    moment: Moment | None = None


def assemble(
    files: Files,
    encoding: Encoding,
    labels: LabelSettings | None = None,
    *,
    needs_depth: bool = False,
) -> Item:
    """An item of its files.

    A depth map of another size is brought to the image's by taking the nearest pixel, as depth
    sensors often have fewer pixels than the colour camera beside them.

    Args:
        files: Of the item.
        encoding: Of its depth.
        labels: Which files of labels lie beside it.
        needs_depth: Whether depth without a valid pixel is an error.

    Raises:
        EncodingError: The files are not what the encoding says.
        MfsynthError: A file is broken or missing, or the depth map is of another view.
    """
    cameras = _Cameras(files, encoding)
    alone = files.depth is None and encoding.camera is None
    upright = alone and encoding.orientation in (None, "exif")
    rgb, shape = None, None
    if files.rgb is not None:
        rgb = decode_rgb(files.rgb, files.rgb_name, upright=upright, key=encoding.rgb_key)
        shape = (rgb.shape[0], rgb.shape[1])
    depth, facts, stored = None, DepthFacts(), None
    if files.depth is not None:
        depth, facts = _depth(files, files.depth, encoding, cameras, shape)
        if needs_depth and not depth.any():
            raise MfsynthError(
                f"{files.depth_name}: no pixel has valid depth; check encoding (scale, invalid, "
                "clip), or set depth: optional to use such images without"
            )
        stored = depth.shape[0], depth.shape[1]
        shape = shape or stored
        depth = _of_the_image(depth, files, encoding, cameras, shape)
    if shape is None:
        raise MfsynthError(f"{files.rgb_name}: neither an image nor depth; leave it out")
    camera = cameras.of_image(shape)
    told = encoding.camera.told if encoding.camera is not None else ""
    if camera is None and files.own is not None:
        camera, told = files.own.camera, files.own.camera_from
    if camera is None and stored is not None and encoding.depth_camera is not None:
        camera, told = cameras.as_of_depth(shape, stored), encoding.depth_camera.told
    turned = upright and _exif_orientation(files) != 1
    if not upright and encoding.orientation not in (None, "stored"):
        quarters = _quarters(files, encoding)
        turned = quarters != 0
        rgb = None if rgb is None else _turned(rgb, quarters)
        depth = None if depth is None else _turned(depth, quarters)
        camera = None if camera is None else camera.turned(quarters, *shape)
    image = files.rgb if isinstance(files.rgb, bytes) else b""
    origin = Origin(
        jpeg=image if _stays(image, files, turned=turned) else None,
        digital_source_type=(source_type(image) if image else None) or "",
    )
    name = files.rgb_name or files.depth_name
    found = labels_read(labels, files.beside, shape, files.moment, turned=turned)
    return Item(rgb, depth, files.text, camera, name, told, facts, origin=origin, labels=found)


@dataclass(frozen=True, slots=True)
class _Cameras:
    """Cameras of one item, whose files are read when they are asked for."""

    files: Files
    encoding: Encoding

    def of_image(self, shape: Shape) -> Intrinsics | None:
        return self._read(self.encoding.camera, shape)

    def as_of_depth(self, shape: Shape, depth: Shape) -> Intrinsics | None:
        """That of the depth map, in pixels of an image that shows the same."""
        if self.encoding.registration in ("to_colour", "crop"):
            return None
        own = self._read(self.encoding.depth_camera, depth)
        return None if own is None else own.resized(shape[0] / depth[0], shape[1] / depth[1])

    def of_depth(self, shape: Shape, image: Shape) -> Intrinsics | None:
        """That of the depth map's own pixels, if it is no other than the image's."""
        given, camera = self._read(self.encoding.depth_camera, shape), self.of_image(image)
        if camera is None or self.encoding.registration == "to_colour":
            return given
        if self.encoding.registration == "crop":
            rows, columns = self.part_of(shape, image)
            camera = camera.cropped(rows.start, columns.start)
            image = rows.stop - rows.start, columns.stop - columns.start
        if given is not None and differ(camera, image, given, shape):
            raise EncodingError(
                f"{self.files.depth_name}: depth of another camera than the image's (focal lengths "
                f"{given.fx:.0f} of {shape[1]} pixels and {camera.fx:.0f} of {image[1]}), so its "
                "pixels are not the image's; align depth to colour first, or set registration: "
                "to_colour with extrinsics"
            )
        return given or camera.resized(shape[0] / image[0], shape[1] / image[1])

    def part_of(self, depth: Shape, image: Shape) -> tuple[slice, slice]:
        """Rows and columns of the image that a depth map of a part of it shows."""
        crop = self.encoding.crop
        if crop == "centre":
            scale = min(whole / part for whole, part in zip(image, depth, strict=True))
            height, width = (round(side * scale) for side in depth)
            left, top = (image[1] - width) // 2, (image[0] - height) // 2
        else:
            assert crop is not None
            left, top, width, height = crop
        if left + width > image[1] or top + height > image[0]:
            raise EncodingError(
                f"{self.files.depth_name}: encoding.crop ends at column {left + width}, row "
                f"{top + height} of an image of {image[1]}x{image[0]} pixels; mend it"
            )
        return slice(top, top + height), slice(left, left + width)

    def carried(self, depth: DepthMap, image: Shape) -> DepthMap:
        """The depth map as the camera of the image sees it, beside that of the depth."""
        settings = self.encoding.extrinsics
        own, camera = self.of_depth(depth.shape, image), self.of_image(image)
        assert settings is not None
        assert own is not None
        assert camera is not None
        matrix, name = self._matrix(settings)
        try:
            return depth_in_camera(depth, own, camera, settings.pose(matrix), image)
        except ValueError as error:
            raise EncodingError(f"{name}: {error}") from error

    def _read(self, settings: CameraSettings | None, shape: Shape) -> Intrinsics | None:
        if settings is None:
            return None
        matrix, name = self._matrix(settings)
        try:
            return settings.intrinsics(shape, matrix)
        except ValueError as error:
            raise EncodingError(f"{name}: {error}") from error

    def _matrix(
        self, settings: CameraSettings | ExtrinsicsSettings
    ) -> tuple[NDArray[np.float64] | None, str]:
        """What a file beside the image has, and its name; None where there is no file."""
        if settings.file is None:
            return None, self.files.rgb_name
        stem = self.files.beside.stem
        data, name = self.files.beside.read(filled(settings.file, stem))
        place = None if settings.path is None else place_of(settings.path, stem)
        return matrix_at(data, name, place), name


def _depth(
    files: Files,
    data: bytes | NDArray[Any],
    encoding: Encoding,
    cameras: _Cameras,
    image: Shape | None,
) -> tuple[DepthMap, DepthFacts]:
    if files.own is not None and isinstance(data, bytes):
        return files.own.decode(data, files.depth_name)
    if files.named_as_own and isinstance(data, bytes):
        stored = read_codes(data, files.depth_name, encoding, "replace or remove it")
        try:
            require_foreign(encoding, facts_of(stored))
        except ValueError as error:
            raise EncodingError(f"{files.depth_name}: {error}") from error
    depth, codes = decode_depth(
        data,
        files.depth_name,
        encoding.resolved(_numbers(files.beside, encoding)),
        lambda shape: cameras.of_depth(shape, image or shape),
        _keep(files.beside, encoding),
        highest=files.highest,
    )
    return depth, DepthFacts(encoding.unit or "metres", codes)


def _numbers(beside: Beside, encoding: Encoding) -> Mapping[str, float]:
    """The numbers that are the frame's own, by the names of their settings."""
    if not encoding.of_metadata:
        return {}
    assert encoding.metadata is not None
    data, name = beside.read(filled(encoding.metadata, beside.stem))
    found = {
        setting: place.times * number_at(data, name, place_of(place.metadata, beside.stem))
        for setting, place in encoding.of_metadata.items()
    }
    for setting in ("scale", "codes_per_unit"):
        if found.get(setting) == 0:
            raise MfsynthError(f"{name}: {encoding.of_metadata[setting].metadata} is 0; mend it")
    return found


def _keep(beside: Beside, encoding: Encoding) -> Mask | None:
    keep = None
    for rule in (encoding.mask, encoding.confidence):
        if rule is None:
            continue
        data, name = beside.read(filled(rule.file, beside.stem))
        more = kept_by(data, name, rule)
        if keep is not None and keep.shape != more.shape:
            raise MfsynthError(f"{name}: of another size than the mask beside it; replace one")
        keep = more if keep is None else keep & more
    return keep


def _of_the_image(
    depth: DepthMap, files: Files, encoding: Encoding, cameras: _Cameras, shape: Shape
) -> DepthMap:
    if encoding.registration == "to_colour":
        return cameras.carried(depth, shape)
    image = f"the image {files.rgb_name}"
    if encoding.registration == "crop":
        rows, columns = cameras.part_of(depth.shape, shape)
        whole = np.zeros(shape, np.float32)
        part = whole[rows, columns]
        require_same_view(
            depth, files.depth_name, part.shape, f"a part of {image}", "mend encoding.crop"
        )
        part[:] = resize_nearest(depth, *part.shape)
        return whole
    if depth.shape == shape:
        return depth
    remedy = "register depth to the image's pixels first; of a part of them, set registration: crop"
    if encoding.registration == "same":
        raise EncodingError(
            f"{files.depth_name}: depth of {depth.shape[1]}x{depth.shape[0]} pixels for {image} of "
            f"{shape[1]}x{shape[0]}, but encoding.registration is same; set same_view if both show "
            "the same field of view"
        )
    require_same_view(depth, files.depth_name, shape, image, remedy)
    return resize_nearest(depth, *shape)


def _quarters(files: Files, encoding: Encoding) -> int:
    if encoding.orientation != "exif":
        return int(encoding.orientation or 0) // 90
    found = _exif_orientation(files)
    if found not in _EXIF_QUARTERS:
        raise EncodingError(
            f"{files.rgb_name}: its EXIF orientation {found} is mirrored, which depth can't "
            "follow; set encoding.orientation to stored"
        )
    return _EXIF_QUARTERS[found]


def _stays(image: bytes, files: Files, *, turned: bool) -> bool:
    """Whether a file is the image's as it is: readers that heed EXIF would turn it, not depth."""
    return image.startswith(JPEG_START) and not turned and _exif_orientation(files) == 1


def _exif_orientation(files: Files) -> int:
    if not isinstance(files.rgb, bytes) or is_array(files.rgb):
        return 1
    return exif_orientation(files.rgb, files.rgb_name)


def _turned(image: NDArray[_Value], quarters: int) -> NDArray[_Value]:
    return np.ascontiguousarray(np.rot90(image, -quarters))
