"""Images and depth maps as callers have them, and their way to a network's own size and back.

What is given is told apart by type and dtype. Values are only checked, never guessed from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from torch import Tensor
from torch.nn import functional

from mfsynth.errors import MfsynthError
from mfsynth.geometry.resizing import resize_depth, resize_image, resize_nearest

GivenOne = PIL.Image.Image | NDArray[Any] | Tensor
Given = GivenOne | Sequence[GivenOne]
"""Images or depth maps: one or several; see `read_images` and `read_depth`."""

# Modes of more than 8 bits, which Pillow would clip, not scale.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# The code that cameras and tools write where a 16-bit map has no depth, if not 0.
_TOP_CODE = 65535
# An image of other proportions than the network's must fill that share of what it sees.
_LEAST_FILLED = 1 / 8

_IMAGE_FORMS = (
    "give PIL images, arrays (B, H, W, 3) or tensors (B, 3, H, W), of uint8 or of floats in [0, 1]"
)
_DEPTH_FORMS = (
    "give floats (B, H, W) in any unit, or 16-bit codes as uint16 arrays or PIL images; 0 and NaN "
    "mark no depth"
)


def read_images(given: Given, name: str) -> NDArray[np.uint8]:
    """Images of one size, in 8 bits.

    Args:
        given: One of these, or a list of them. A PIL image of up to 8 bits a channel without
            transparent pixels, turned as its EXIF orientation says. An array (H, W, 3) or
            (B, H, W, 3), or a tensor (3, H, W) or (B, 3, H, W), of uint8, or of floats in [0, 1],
            which are rounded to 8 bits.
        name: What the caller knows it by, for errors.

    Returns:
        (B, H, W, 3), sRGB.

    Raises:
        MfsynthError: It is something else, is empty, or its images have several sizes; says what
            was given and what to give.
    """
    return _joined([_images(one, name) for one in _listed(given, name, _IMAGE_FORMS)], name)


def read_depth(given: Given, name: str) -> NDArray[np.float32]:
    """Depth maps of one size, in the unit that they were given in.

    Args:
        given: One of these, or a list of them. A PIL image of mode I;16, I or F. An array or tensor
            (H, W) or (B, H, W), a tensor also (B, 1, H, W), of floats, uint16 or int32; 0 and NaN
            mark pixels without depth.
        name: What the caller knows it by, for errors.

    Returns:
        (B, H, W) z-depth; 0 marks pixels without.

    Raises:
        MfsynthError: It is something else, is empty, has depths that are negative or infinite or
            the 16-bit code 65535, or its maps have several sizes; says what was given and what to
            give.
    """
    return _joined([_maps(one, name) for one in _listed(given, name, _DEPTH_FORMS)], name)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies in a frame of other proportions: whole, unsqueezed, in the middle.

    An image of the frame's size goes through as it is.

    Attributes:
        size: Rows and columns of the image.
        frame: Rows and columns of what the network sees.
    """

    size: tuple[int, int]
    frame: tuple[int, int]

    @classmethod
    def fit(cls, size: tuple[int, int], frame: tuple[int, int], name: str) -> Letterbox:
        """Place an image.

        Raises:
            MfsynthError: It is so long or so high that little of the frame would show it.
        """
        ratio = (size[1] * frame[0]) / (size[0] * frame[1])
        if min(ratio, 1 / ratio) < _LEAST_FILLED:
            raise MfsynthError(
                f"`{name}` has {size[1]}x{size[0]} pixels and would fill less than "
                f"{_LEAST_FILLED:.1%} of the {frame[1]}x{frame[0]} that the model sees; cut it "
                "into parts"
            )
        return cls(size, frame)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the image fills."""
        scale = min(new / old for new, old in zip(self.frame, self.size, strict=True))
        sides = []
        for new, old in zip(self.frame, self.size, strict=True):
            side = min(new, max(1, round(old * scale)))
            start = (new - side) // 2
            sides.append(slice(start, start + side))
        return sides[0], sides[1]

    def frame_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put (B, H, W, 3) images into frames, whose rest repeats the image's border."""
        if self.size == self.frame:
            return images
        height, width = self._filled
        inside = np.stack([resize_image(image, height, width) for image in images])
        # No grey border, which is unlike all training images: depth gets much worse with one.
        return np.pad(inside, [(0, 0), *self._margins, (0, 0)], mode="edge")

    def frame_depth(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put (B, H, W) maps into frames, nearest pixels; the rest is 0, without depth."""
        if self.size == self.frame:
            return maps
        inside = np.stack([resize_nearest(one, *self._filled) for one in maps])
        return np.pad(inside, [(0, 0), *self._margins])

    def unframe(self, frames: Tensor) -> Tensor:
        """Bring what a network made, (B, C, *frame), back to (B, C, *size)."""
        if self.size == self.frame:
            return frames
        return functional.interpolate(
            frames[:, :, *self.window], self.size, mode="bilinear", antialias=True
        )

    def unframe_depth(self, frames: Tensor) -> Tensor:
        """Bring depth, (B, *frame), back to (B, *size); what was without, 0, is without again."""
        if self.size == self.frame:
            return frames
        inside = frames[:, *self.window].cpu().numpy()
        maps = np.stack([resize_depth(one, *self.size) for one in inside])
        return torch.from_numpy(maps).to(frames.device)

    @property
    def _filled(self) -> tuple[int, int]:
        rows, columns = self.window
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def _margins(self) -> list[tuple[int, int]]:
        return [
            (side.start, whole - side.stop)
            for side, whole in zip(self.window, self.frame, strict=True)
        ]


def _listed(given: Any, name: str, forms: str) -> Sequence[Any]:
    if not isinstance(given, list | tuple):
        return [given]
    if not given:
        raise MfsynthError(f"`{name}` is an empty list; {forms}")
    return given


def _joined(parts: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    sizes = sorted({part.shape[1:3] for part in parts})
    if len(sizes) > 1:
        shown = " and ".join(f"{width}x{height}" for height, width in sizes[:2])
        raise MfsynthError(
            f"`{name}` holds maps of {shown} pixels; give those of one size in a call"
        )
    if 0 in (*sizes[0], sum(map(len, parts))):
        raise MfsynthError(f"`{name}` is empty: {sizes[0][1]}x{sizes[0][0]} pixels; leave it out")
    # torch takes no strides that go back, as those of a mirrored array or of swapped channels.
    return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def _images(given: Any, name: str) -> NDArray[np.uint8]:
    """One of a list, as (b, H, W, 3)."""
    if isinstance(given, PIL.Image.Image):
        return np.asarray(_upright_rgb(given, name))[None]
    if isinstance(given, Tensor):
        values, channels = _array(given), -3
    elif isinstance(given, np.ndarray):
        values, channels = given, -1
    else:
        _refuse(given, name, _IMAGE_FORMS)
    if values.dtype != np.uint8 and not np.issubdtype(values.dtype, np.floating):
        deep = "divide it by 65535 for floats in [0, 1]" if values.dtype == np.uint16 else None
        _refuse(given, name, deep or _IMAGE_FORMS)
    if values.ndim not in (3, 4) or values.shape[channels] != 3:
        _refuse(given, name, _channels_remedy(values.shape, channels))
    values = np.moveaxis(values, channels, -1)
    return _eight_bits(values if values.ndim == 4 else values[None], given, name)


def _channels_remedy(shape: tuple[int, ...], channels: int) -> str:
    wanted = "(B, H, W, 3)" if channels == -1 else "(B, 3, H, W)"
    if len(shape) in (3, 4):
        if shape[-4 - channels] == 3:
            return f"its channels stand where others have them: move them, for {wanted}"
        if shape[channels] == 4:
            return f"put it on a background first, for three channels: {wanted}"
    return f"give it three channels (a grey image: three times the same): {wanted}"


def _eight_bits(values: NDArray[Any], given: Any, name: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8, copy=False)
    if not np.isfinite(values).all():
        _refuse(given, name, "it holds values that are not finite: replace them")
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        _refuse(
            given, name, f"it holds values from {low:.4g} to {high:.4g}: bring floats to [0, 1]"
        )
    return np.rint(values.astype(np.float32, copy=False) * 255).astype(np.uint8)


def _upright_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if image.mode in _DEEP_MODES:
        _refuse(image, name, "convert it to 8 bits a channel")
    upright = _upright(image, name)
    if upright.has_transparency_data:
        alpha = upright.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            _refuse(
                image,
                name,
                "it has transparent pixels: put it on a background, with PIL.Image.alpha_composite",
            )
    return upright.convert("RGB")


def _upright(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    try:
        # Files are read only now, and decoders fail with whatever they trip over.
        return ImageOps.exif_transpose(image)
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise MfsynthError(
            f"`{name}` is {_described(image)} that PIL can't read ({problem}); replace the file"
        ) from error


def _maps(given: Any, name: str) -> NDArray[np.float32]:
    """One of a list, as (b, H, W)."""
    if isinstance(given, PIL.Image.Image):
        if given.mode not in _DEEP_MODES:
            _refuse(given, name, f"a picture of depth can't be used: {_DEPTH_FORMS}")
        values = np.asarray(_upright(given, name))
    elif isinstance(given, Tensor):
        values = _array(given)
        if values.ndim == 4 and values.shape[1] == 1:
            values = values[:, 0]
    elif isinstance(given, np.ndarray):
        values = given
    else:
        _refuse(given, name, _DEPTH_FORMS)
    is_code = values.dtype.kind in "iu" and values.dtype.itemsize in (2, 4)
    is_float = np.issubdtype(values.dtype, np.floating)
    if values.ndim not in (2, 3) or not (is_code or is_float):
        _refuse(given, name, _DEPTH_FORMS)
    if is_code and (values == _TOP_CODE).any():
        _refuse(given, name, f"it holds the code {_TOP_CODE}, which marks no depth: make it 0")
    with np.errstate(over="ignore"):  # to infinity, which is refused
        values = values.astype(np.float32)
    values = np.where(np.isnan(values), np.float32(0), values)
    if values.size and (values.min() < 0 or np.isinf(values).any()):
        _refuse(given, name, "it holds depths that are negative or infinite: make them 0")
    return values if values.ndim == 3 else values[None]


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16, and float32 has all of it.
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _refuse(given: Any, name: str, remedy: str) -> NoReturn:
    raise MfsynthError(f"`{name}` is {_described(given)}; {remedy}")


def _described(given: Any) -> str:
    match given:
        case PIL.Image.Image():
            return f"a PIL image of mode {given.mode}, {given.width}x{given.height}"
        case Tensor():
            dtype = str(given.dtype).removeprefix("torch.")
            return f"a {dtype} tensor of shape {tuple(given.shape)}"
        case np.ndarray():
            return f"an array of {given.dtype} of shape {given.shape}"
        case _:
            return f"of type {type(given).__name__}"
