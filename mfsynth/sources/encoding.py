"""How depth is stored in somebody's files: one block of settings, the same for every source.

    encoding:
      preset: bop                  # settings of a known data set; what stands beside it wins
      scale: 0.001                 # metres a code
      invalid: [0, max]            # codes that are no depth
      clip: [0.2, 10]              # metres

Most of what goes wrong with depth of others is one of these settings that nobody gave, so nothing
that decides metres is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config.base import Count, Index, NonEmpty, Pair, Settings, Unset
from mfsynth.config.suggestions import did_you_mean
from mfsynth.sources.camera_settings import CameraSettings, ExtrinsicsSettings
from mfsynth.sources.presets import PRESETS

Container = Literal[
    "auto", "png", "tiff", "npy", "npz", "exr", "pfm", "pgm", "hdf5", "mat", "raw", "dpt", "colmap"
]
Dtype = Literal["uint8", "uint16", "uint32", "int16", "int32", "float16", "float32", "float64"]
Packing = Literal["none", "rgb24", "bgr24", "float16_bits", "rotate3", "kinect_raw"]
Quantity = Literal["depth", "disparity", "inverse_depth", "zbuffer", "log"]
Turn = Literal["stored", "exif", 90, 180, 270]
Box = Annotated[tuple[Index, Index, Count, Count], Field(strict=False)]

_UNITS = ("scale", "codes_per_unit")
# Numbers that a quantity needs, and those that it may have beside them.
_NEEDED = {"disparity": ("baseline",), "zbuffer": ("near", "far"), "log": ("near", "far")}
_ALLOWED = {
    "depth": ("near", "far"),
    "disparity": ("baseline", "doffs"),
    "inverse_depth": (),
    "zbuffer": ("near", "far"),
    "log": ("near", "far", "shift"),
}
_NUMBERS = ("near", "far", "shift", "baseline", "doffs")
# Settings that are not of a depth map's codes.
_NOT_OF_CODES = frozenset(
    {"rgb_key", "camera", "depth_camera", "registration", "crop", "extrinsics", "orientation"}
)


class FromMetadata(Settings):
    """A number of each frame.

    Attributes:
        metadata: Where in the frame's `metadata` it is: keys and indices with dots between them.
            `{name}` is the image's name without extension, `{number}` the number that it ends in.
        times: What it is multiplied by, as .001 where it is millimetres.
    """

    metadata: NonEmpty
    times: float = 1.0


Number = float | FromMetadata


class BesideRule(Settings):
    """Which pixels a file beside the image leaves.

    Attributes:
        file: See `Encoding`.
        at_least: Pixels of this value or above count.
        at_most: Pixels of this value or below count.
    """

    file: NonEmpty
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _is_a_rule(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most, which says what pixels count")
        return self


class Encoding(Settings):
    """How depth is stored, and with what camera.

    Files beside an image (`metadata`, `mask`, `confidence`, `camera.file`) are named relative to
    its folder, with `{name}` for its name without extension and `{number}` for the number that
    ends in; in WebDataset they are the extension in the image's sample.

    Attributes:
        preset: Settings by the name of a data set; what is given beside it wins. It is replaced by
            what it stands for.
        container: Format of the files; by their first bytes unless given.
        key: Name of the array in an .npz, of the data set in HDF5, of the variable in a .mat, of
            the channel in an EXR.
        rgb_key: The same of the image, where images are arrays.
        dtype: Of the numbers of a `raw` file.
        size: Width and height of a `raw` file.
        byte_order: Of the 16 bits of a PNG or PGM, where it is not as the format has it (big); of
            the numbers of a `raw` file (little unless given).
        rows: `bottom` where the lowest row comes first, as it does in PFM unless this says `top`.
        packing: What a code is made of: the bytes of three channels, red the highest (`rgb24`) or
            the lowest (`bgr24`); the bits of a half-precision number; 16 bits rotated by 3, as
            SUN3D's; a raw value of Kinect v1, which becomes metres by its own formula.
        quantity: What scaled codes are. `depth`; `disparity` in pixels (depth = focal length ·
            baseline / (d + doffs)); `inverse_depth` in 1/m; `zbuffer` of a projection of near and
            far; `log`: near to far in equal steps of ln(depth + shift).
        axis: `z`, or `ray` for distances along the rays of the depth's camera.
        scale: Metres (pixels, 1/m) a code; of a `zbuffer` or `log`, what makes its codes 0 to 1,
            unless given one over the highest code.
        codes_per_unit: The reciprocal of it, as 1000 for millimetres.
        offset: Added after scaling.
        near: Of a z-buffer or logarithm; with `far` and without a scale, codes from 0 to the
            highest are depths from near to far.
        far: See `near`.
        shift: Of a logarithm.
        baseline: Of a stereo pair, in metres.
        doffs: Added to disparities, in pixels.
        invalid: Codes that are no depth, before scaling; 0 unless given. `max` is the highest code
            there is.
        clip: Nearest and farthest; what is outside is invalid.
        mask: Pixels that count, by a file beside the image.
        confidence: Likewise.
        unit: `relative` where a scaled code is no metre; such depth never leaves as metres.
        metadata: The file with the numbers of a frame.
        camera: Of the image.
        depth_camera: Of the depth map, where it is known apart; without `camera` that of the image,
            too, unless it shows something else (`crop`, `to_colour`).
        registration: `same`: depth pixel for colour pixel; `same_view`: the same field of view in
            other numbers of pixels; `crop`: that of a part of the image, which `crop` says;
            `to_colour`: of another camera beside it, carried over by `camera`, `depth_camera` and
            `extrinsics`; `unknown`: refused until somebody knows.
        crop: Where in the image a depth map lies that shows a part of it: left, top, width and
            height in pixels of the image as it is stored, or `centre` for the largest part of the
            depth map's proportions in its middle. The rest of the image has no depth.
        extrinsics: From the depth camera to the colour camera.
        orientation: Turns image and depth clockwise, by degrees or as the image's EXIF says.
    """

    container: Unset[Container] = None
    key: Unset[NonEmpty] = None
    rgb_key: Unset[NonEmpty] = None
    dtype: Unset[Dtype] = None
    size: Unset[Pair[Count]] = None
    byte_order: Unset[Literal["little", "big"]] = None
    rows: Unset[Literal["top", "bottom"]] = None
    packing: Unset[Packing] = None
    quantity: Unset[Quantity] = None
    axis: Unset[Literal["z", "ray"]] = None
    scale: Unset[Number] = None
    codes_per_unit: Unset[Annotated[float, Field(gt=0)] | FromMetadata] = None
    offset: Unset[Number] = None
    near: Unset[Number] = None
    far: Unset[Number] = None
    shift: Unset[Number] = None
    baseline: Unset[Number] = None
    doffs: Unset[Number] = None
    invalid: Unset[
        Annotated[tuple[float | Literal["max", "nan", "inf", "-inf"], ...], Field(strict=False)]
    ] = None
    clip: Unset[Pair[Annotated[float, Field(ge=0)]]] = None
    mask: Unset[BesideRule] = None
    confidence: Unset[BesideRule] = None
    unit: Unset[Literal["metres", "relative"]] = None
    metadata: Unset[NonEmpty] = None
    camera: Unset[CameraSettings] = None
    depth_camera: Unset[CameraSettings] = None
    registration: Unset[Literal["same", "same_view", "crop", "to_colour", "unknown"]] = None
    crop: Unset[Literal["centre"] | Box] = None
    extrinsics: Unset[ExtrinsicsSettings] = None
    orientation: Unset[Turn] = None

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "preset" not in values:
            return values
        given = dict(values)
        name = given.pop("preset")
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; {did_you_mean(str(name), PRESETS)}")
        return with_defaults(given, PRESETS[name])

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.scale is not None and self.codes_per_unit is not None:
            raise ValueError("give one of scale and codes_per_unit, which is its reciprocal")
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        if self.packing == "kinect_raw":
            given = ("quantity", *_UNITS, "offset", *_NUMBERS)
            if more := [name for name in given if getattr(self, name) is not None]:
                raise ValueError(f"packing kinect_raw makes metres by itself; leave {more[0]} out")
        quantity = self.quantity or "depth"
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and name not in _ALLOWED[quantity]:
                raise ValueError(f"{name} is nothing of quantity {quantity}; leave it out")
            if value is None and name in _NEEDED.get(quantity, ()):
                raise ValueError(f"quantity {quantity} needs {name}; give it")
        if (self.near is None) != (self.far is None):
            raise ValueError("give both near and far, or neither")
        for name in self._of_metadata():
            if self.metadata is None:
                raise ValueError(f"{name} is in metadata; say in which file, as metadata: NAME")
        for name, value in (("dtype", self.dtype), ("size", self.size)):
            if (value is None) == (self.container == "raw"):
                told = "needs" if value is None else "alone has"
                raise ValueError(f"container raw {told} {name}")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError("clip is nearest, then farthest")
        if self.registration == "unknown":
            raise ValueError(
                "depth of these is of another camera than colour until somebody has aligned it; "
                "set registration to same if it is aligned, else to to_colour, with both cameras "
                "and extrinsics"
            )
        if self.extrinsics is not None and self.registration != "to_colour":
            raise ValueError("extrinsics are of registration to_colour; set that, too")
        if (self.crop is None) == (self.registration == "crop"):
            raise ValueError(
                "registration crop and crop go together: give both, crop as centre or as left, "
                "top, width and height"
            )
        return self

    def require_complete(self) -> None:
        """Refuse what leaves open what a code is.

        Raises:
            ValueError: There is no unit, or no camera where one is needed.
        """
        quantity = self.quantity or "depth"
        ranged = self.near is not None
        if (
            self.packing != "kinect_raw"
            and not ranged
            and self.scale is None
            and self.codes_per_unit is None
        ):
            raise ValueError(
                "codes_per_unit is missing; say how many codes of the depth maps make a unit, "
                "for example 1000 for millimetres; or give encoding.scale or encoding.preset"
            )
        if self.packing == "kinect_raw" and self.codes_per_unit is not None:
            raise ValueError("packing kinect_raw makes metres by itself; leave codes_per_unit out")
        if quantity == "depth" and ranged and (self.scale or self.codes_per_unit) is not None:
            raise ValueError("near and far say what the codes are; leave scale out")
        what = "axis ray" if self.axis == "ray" else None
        what = "quantity disparity" if quantity == "disparity" else what
        if what is not None and self.camera is None and self.depth_camera is None:
            raise ValueError(f"{what} needs the camera of the depth maps; give encoding.camera")
        if self.registration == "to_colour":
            for name in ("camera", "depth_camera", "extrinsics"):
                if getattr(self, name) is None:
                    raise ValueError(f"registration to_colour needs {name}; give it")

    def resolved(self, number: Mapping[str, float]) -> Encoding:
        """The same for one frame, whose numbers of metadata are known by their settings' names."""
        return self.model_copy(update=dict(number)) if number else self

    def _of_metadata(self) -> dict[str, FromMetadata]:
        names = (*_UNITS, "offset", *_NUMBERS)
        return {
            name: value for name in names if isinstance(value := getattr(self, name), FromMetadata)
        }

    @property
    def files_beside(self) -> frozenset[str]:
        """Files beside an image that are read with it."""
        cameras = (camera for camera in (self.camera, self.depth_camera) if camera is not None)
        rules = (rule for rule in (self.mask, self.confidence) if rule is not None)
        files = [self.metadata, *(c.file for c in cameras), *(rule.file for rule in rules)]
        if self.extrinsics is not None:
            files.append(self.extrinsics.file)
        return frozenset(file for file in files if file is not None)

    @property
    def of_codes(self) -> tuple[str, ...]:
        """Settings that were given of how a depth map is stored, not of whose it is."""
        names = (name for name in type(self).model_fields if name not in _NOT_OF_CODES)
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def of_metadata(self) -> Mapping[str, FromMetadata]:
        """Settings that are each frame's own."""
        return self._of_metadata()


def with_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were given over those of a preset.

    A unit that is given takes the preset's away.
    """
    kept = dict(defaults)
    if any(given.get(name) is not None for name in _UNITS):
        kept = {name: value for name, value in kept.items() if name not in _UNITS}
    return {**kept, **{name: value for name, value in given.items() if value is not None}}
