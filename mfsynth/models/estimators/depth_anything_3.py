"""Depth Anything 3, by its own package: depth, and for some of its models a camera or metres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

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
from mfsynth.models.estimators.catalogue import EstimatorFolder
from mfsynth.models.locations import CHECKPOINT
from mfsynth.models.weights import require_weights_of

# As its own code: the longer side, the patch, the mean and deviation of ImageNet's colours, the
# focal length in pixels at which the metric model's output is metres, and the share of sky from
# which on a pixel is sky.
_LONGEST, _PATCH = 504, 14
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_METRIC_FOCAL = 300.0
_SKY = 0.3


def load_depth_anything_3(
    folder: EstimatorFolder, gives: EstimateKind, device: str, dtype: torch.dtype
) -> Estimator:
    """Load a folder or repository of Depth Anything 3; arguments as of transformers' models.

    Raises:
        MfsynthError: The package isn't installed or has no such model, or the weights are not those
            of the model.
    """
    name = str(folder.config["model_name"])
    try:
        from depth_anything_3.cfg import create_object, load_config
        from depth_anything_3.registry import MODEL_REGISTRY
    except ImportError as error:
        raise MfsynthError(
            f"{folder.name} needs the package of Depth Anything 3 ({error}): docs/how-to/"
            "estimators.md says how to install it"
        ) from error
    if name not in MODEL_REGISTRY:
        raise MfsynthError(
            f"{folder.path}: the package of Depth Anything 3 has no {name}, only "
            f"{', '.join(MODEL_REGISTRY)}"
        )
    held = _Held(create_object(load_config(MODEL_REGISTRY[name])))
    require_weights_of(held, folder.path)
    state = load_file(folder.path / CHECKPOINT)
    for other, kept in held.all_tied_weights_keys.items():
        state.setdefault(other, state[kept])
    held.load_state_dict(state)
    return DepthAnything3(held.model.eval().to(device, dtype), gives, name.startswith("da3metric"))


@dataclass(frozen=True, slots=True)
class DepthAnything3:
    """Depth Anything 3.

    Attributes:
        model: The network.
        gives: What its depth is without a camera.
        metric_with_camera: Whether a camera makes it metres.
    """

    model: Any
    gives: EstimateKind
    metric_with_camera: bool

    @torch.inference_mode()
    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """See `Estimator`."""
        known = cameras_or_none(cameras, len(rgb))
        # One by one: it takes images together for views of one scene.
        return [self._of(image, camera) for image, camera in zip(rgb, known, strict=True)]

    def _of(self, rgb: RgbImage, known: Intrinsics | None) -> DepthEstimate:
        height, width = rgb.shape[:2]
        pixels = _pixels(rgb, next(self.model.parameters()))
        rows, columns = pixels.shape[-2:]
        with torch.random.fork_rng():
            # It draws pixels to take a quantile of.
            torch.manual_seed(0)
            said = self.model(pixels[None, None])
        depth = said["depth"].reshape(1, rows, columns).float()
        is_sky = said["sky"].reshape(1, rows, columns) >= _SKY if "sky" in said else None
        kind = self.gives
        if self.metric_with_camera and known is not None:
            kind = EstimateKind.METRIC_Z
            focal = (known.fx * columns / width + known.fy * rows / height) / 2
            depth = depth * focal / _METRIC_FOCAL
        seen = None
        if "intrinsics" in said:
            matrix = said["intrinsics"].reshape(3, 3).double().cpu().numpy()
            # Its principal point counts from the corner of the first pixel.
            small = Intrinsics.from_matrix(matrix).from_half_centres()
            seen = small.resized(height / rows, width / columns)
        valid = None
        if is_sky is not None:
            valid = brought_back(1 - is_sky.float(), height, width)[0] > 0.5
        return as_estimate(
            brought_back(depth, height, width)[0], kind, valid=valid, intrinsics=seen
        )


class _Held(nn.Module):
    """The network where its own program keeps it, which its files name it by."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.all_tied_weights_keys = _shared(self)


def _shared(model: nn.Module) -> dict[str, str]:
    """Other names of tensors, to the one that safetensors keeps them under: the first."""
    kept: dict[tuple[int, tuple[int, ...]], str] = {}
    state = model.state_dict()
    for name in sorted(state):
        kept.setdefault((state[name].data_ptr(), tuple(state[name].shape)), name)
    firsts = {name: kept[value.data_ptr(), tuple(value.shape)] for name, value in state.items()}
    return {name: first for name, first in firsts.items() if name != first}


def _pixels(rgb: RgbImage, like: Tensor) -> Tensor:
    """(3, h, w): the longer side as the model wants it, both multiples of a patch."""
    scale = _LONGEST / max(rgb.shape[:2])
    size = [max(1, math.floor(side * scale / _PATCH + 0.5)) * _PATCH for side in rgb.shape[:2]]
    image = torch.from_numpy(np.moveaxis(rgb, -1, 0).copy())[None].to(like.device) / 255
    image = functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)[0]
    mean, deviation = (
        torch.tensor(c, device=like.device).view(3, 1, 1) for c in (_MEAN, _DEVIATION)
    )
    return ((image - mean) / deviation).to(like.dtype)
