"""Depth models of transformers: Depth Anything V2, ZoeDepth, Depth Pro, DPT.

Images reach each of them as its own image processor wants them. Where that would squeeze an image,
which Depth Pro alone was made for, the image is letterboxed instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.zoedepth.image_processing_pil_zoedepth import ZoeDepthImageProcessorPil

from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.estimators.base import (
    Cameras,
    Estimator,
    as_estimate,
    brought_back,
    cameras_or_none,
)
from mfsynth.models.estimators.catalogue import EstimatorFolder, architecture
from mfsynth.models.estimators.files import (
    DepthProPreprocessing,
    ZoeDepthPreprocessing,
    read_preprocessing,
)
from mfsynth.models.images import Letterbox
from mfsynth.models.weights import load_whole

_DEFAULTED = ("image_mean", "image_std", "rescale_factor", "ensure_multiple_of")
# What Depth Pro's own code takes for the nearest and farthest inverse depth, in 1/m.
_INVERSE_DEPTHS = (1e-4, 1e4)


def load_transformers_estimator(
    folder: EstimatorFolder, gives: EstimateKind, device: str, dtype: torch.dtype
) -> Estimator:
    """Load a depth model of transformers.

    Args:
        folder: Its files.
        gives: What its numbers are; see `EstimatorInfo`.
        device: `cpu` or `cuda`.
        dtype: Of weights and activations.

    Raises:
        MfsynthError: Weights are not those of the architecture, or the image processor's settings
            are not there or none.
    """
    name = architecture(folder)
    # Their weights would come from another place, in whatever form it has them.
    if folder.config.get("use_timm_backbone") or folder.config.get("use_pretrained_backbone"):
        raise MfsynthError(
            f"{folder.path}: its backbone is of another library; take a model that has its own"
        )
    settings, every = read_preprocessing(folder.path, name)
    model = load_whole(getattr(transformers, name), folder.path, dtype).to(device)
    if isinstance(settings, DepthProPreprocessing):
        return DepthPro(model, settings)
    if isinstance(settings, ZoeDepthPreprocessing):
        return ZoeDepth(model, ZoeDepthImageProcessorPil(**_known(every)))
    return DensePrediction(model, DPTImageProcessorPil(**_known(every)), gives)


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an image processor, without the names of classes, and nulls for defaults."""
    return {
        name: value
        for name, value in settings.items()
        if not name.endswith("processor_type") and not (value is None and name in _DEFAULTED)
    }


@dataclass(frozen=True, slots=True)
class DensePrediction:
    """Depth Anything and DPT: one number a pixel.

    Attributes:
        model: The network.
        processor: Brings an image to it.
        gives: What the numbers are.
    """

    model: Any
    processor: Any
    gives: EstimateKind

    @torch.inference_mode()
    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """See `Estimator`."""
        size = self.processor.size
        squeezes = not self.processor.keep_aspect_ratio and self.processor.do_resize
        frame = (size["height"], size["width"]) if squeezes else rgb.shape[1:3]
        box = Letterbox.fit(rgb.shape[1:3], frame, "rgb")
        pixels = _pixels(self.processor, box.frame_images(rgb), self.model)
        seen = brought_back(self.model(pixel_values=pixels).predicted_depth.float(), *frame)
        values = box.unframe(seen[:, None])[:, 0]
        return [as_estimate(one, self.gives) for one in values]


@dataclass(frozen=True, slots=True)
class ZoeDepth:
    """ZoeDepth: metres; a border, which its processor adds, is cut off again.

    Attributes:
        model: The network.
        processor: Brings an image to it.
    """

    model: Any
    processor: Any

    @torch.inference_mode()
    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """See `Estimator`."""
        # One by one: of several heads, a batch takes that of most of its images.
        return [self._of(image) for image in rgb]

    def _of(self, image: RgbImage) -> DepthEstimate:
        height, width = image.shape[:2]
        # As its processor pads: 3 · √(side / 2) pixels on either side.
        pads = [
            int(math.sqrt(side / 2) * 3) if self.processor.do_pad else 0 for side in image.shape
        ]
        pixels = _pixels(self.processor, image[None], self.model)
        padded = brought_back(
            self.model(pixel_values=pixels).predicted_depth.float(),
            height + 2 * pads[0],
            width + 2 * pads[1],
        )
        inside = padded[0, pads[0] : pads[0] + height, pads[1] : pads[1] + width]
        return as_estimate(inside, EstimateKind.METRIC_Z)


class DepthPro:
    """Depth Pro: inverse depth of a camera of focal length 1, and the angle that the image shows.

    It was made for images that are squeezed to its square. Of a camera that is known, depth is of
    that camera, of another of the one that it sees; without either it is right up to a scale.
    """

    def __init__(self, model: Any, settings: DepthProPreprocessing) -> None:
        self._model = model
        self._size = settings.size.height, settings.size.width
        self._mean, self._deviation = (
            torch.tensor(colour, device=model.device, dtype=torch.float32).view(3, 1, 1)
            for colour in (settings.image_mean, settings.image_std)
        )

    @torch.inference_mode()
    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """See `Estimator`."""
        height, width = rgb.shape[1:3]
        images = torch.from_numpy(np.moveaxis(rgb, -1, 1).copy()).to(self._model.device) / 255
        images = (images - self._mean) / self._deviation
        pixels = functional.interpolate(images, self._size, mode="bilinear")
        made = self._model(pixel_values=pixels.to(self._model.dtype))
        inverse = made.predicted_depth.float()
        angles = [None] * len(rgb) if made.field_of_view is None else made.field_of_view.tolist()
        return [
            self._estimate(one, angle, camera, height, width)
            for one, angle, camera in zip(
                inverse, angles, cameras_or_none(cameras, len(rgb)), strict=True
            )
        ]

    @staticmethod
    def _estimate(
        inverse: Tensor, angle: float | None, known: Intrinsics | None, height: int, width: int
    ) -> DepthEstimate:
        seen = None
        if angle is not None and 0 < angle < 180:
            focal = 0.5 * width / math.tan(math.radians(angle) / 2)
            seen = Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)
        camera = known or seen
        kind = EstimateKind.SCALE_INVARIANT_Z if camera is None else EstimateKind.METRIC_Z
        scaled = inverse * (1.0 if camera is None else width / camera.fx)
        depth = 1 / brought_back(scaled[None], height, width)[0].clamp(*_INVERSE_DEPTHS)
        return as_estimate(depth, kind, intrinsics=seen)


def _pixels(processor: Callable[..., Any], rgb: RgbImage, model: Any) -> Tensor:
    try:
        # Where the channels are is said, for in one pixel it can't be seen.
        said = processor(images=[*rgb], return_tensors="pt", input_data_format="channels_last")
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise MfsynthError(
            f"an image of {rgb.shape[2]}x{rgb.shape[1]} pixels can't be brought to the estimator "
            f"({reason}); cut it into parts"
        ) from error
    pixels: Tensor = said["pixel_values"]
    return pixels.to(model.device, model.dtype)
