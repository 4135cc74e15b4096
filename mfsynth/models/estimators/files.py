"""What is read of the files beside an estimator's weights, and must be as it is read; no torch.

Such files are others': they may have more keys than are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, field_validator

from mfsynth.config.base import Count, Items, Positive, Settings
from mfsynth.config.explain import explain
from mfsynth.errors import MfsynthError
from mfsynth.models.locations import CONFIG, read_json

PREPROCESSOR = "preprocessor_config.json"

_Colour = Annotated[Items[float], Field(min_length=3, max_length=3)]
_Deviation = Annotated[Items[Positive], Field(min_length=3, max_length=3)]


class _File(Settings):
    model_config = ConfigDict(extra="ignore")


class ModelFile(_File):
    """`config.json`, as far as it says whose files these are and what their numbers are."""

    architectures: Items[str] | None = None
    model_type: str | None = None
    model_name: str | None = None
    backbone_config: dict[str, Any] | None = None
    focal: Positive | None = None


class Size(_File):
    """Rows and columns of the images that a network wants."""

    height: Count
    width: Count


class Preprocessing(_File):
    """`preprocessor_config.json` of Depth Anything and DPT: settings of their image processor.

    None, as what isn't given, is the default of the processor's class.
    """

    size: Size = Size(height=384, width=384)
    image_mean: _Colour | None = None
    image_std: _Deviation | None = None
    rescale_factor: Positive | None = None
    ensure_multiple_of: Positive | None = None
    resample: Literal[0, 1, 2, 3, 4, 5] = 3
    keep_aspect_ratio: bool | None = None
    do_resize: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    do_pad: bool | None = None

    @field_validator("size", mode="before")
    @classmethod
    def _of_a_square(cls, value: Any) -> Any:
        return {"height": value, "width": value} if isinstance(value, int) else value


class ZoeDepthPreprocessing(Preprocessing):
    """Of ZoeDepth, which knows two ways to resize."""

    resample: Literal[2, 3] = 2


class DepthProPreprocessing(Preprocessing):
    """Of Depth Pro, whose images are brought to it here: nothing is left to a default."""

    size: Size
    image_mean: _Colour
    image_std: _Deviation


_PREPROCESSING: Mapping[str, type[Preprocessing]] = {
    "DepthProForDepthEstimation": DepthProPreprocessing,
    "ZoeDepthForDepthEstimation": ZoeDepthPreprocessing,
}

_Kind = TypeVar("_Kind", bound=_File)


def read_model_file(folder: Path) -> dict[str, Any]:
    """All of a folder's `config.json`.

    Raises:
        MfsynthError: It is not there, or a key has a value that is none; names file and key.
    """
    return _read(folder / CONFIG, ModelFile)[1]


def read_preprocessing(folder: Path, architecture: str) -> tuple[Preprocessing, dict[str, Any]]:
    """A folder's `preprocessor_config.json`, of a model of transformers: typed, and all of it.

    Raises:
        MfsynthError: As `read_model_file`.
    """
    return _read(folder / PREPROCESSOR, _PREPROCESSING.get(architecture, Preprocessing))


def _read(path: Path, kind: type[_Kind]) -> tuple[_Kind, dict[str, Any]]:
    values = read_json(path)
    try:
        return kind.model_validate(values), values
    except ValidationError as error:
        key, problem = explain(error, kind)
        raise MfsynthError(
            f"{path}: {key}: {problem}; take the file that came with the weights"
        ) from error
