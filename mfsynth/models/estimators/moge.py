"""MoGe-2, by its own package: metric depth, camera, normals and validity in one call.

Its publisher's checkpoint is a pickle; `convert` makes a folder of it that holds none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_model, save_file

from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics, pixel_rays
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.estimators.base import Cameras, Estimator, as_estimate, cameras_or_none
from mfsynth.models.estimators.catalogue import EstimatorFolder
from mfsynth.models.locations import CHECKPOINT, CONFIG
from mfsynth.models.weights import require_weights_of


def load_moge(
    folder: EstimatorFolder, gives: EstimateKind, device: str, dtype: torch.dtype
) -> Estimator:
    """Load a folder that `convert` made; arguments as in `load_transformers_estimator`.

    Raises:
        MfsynthError: The package isn't installed, or the weights are not those of the
            configuration.
    """
    try:
        from moge.model.v2 import MoGeModel
    except ImportError as error:
        raise MfsynthError(
            f"{folder.name} needs the package of MoGe ({error}): docs/how-to/estimators.md "
            "says how to install it"
        ) from error
    try:
        model = MoGeModel(**folder.config)
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise MfsynthError(f"{folder.path}: its {CONFIG} makes no MoGe ({reason})") from error
    require_weights_of(model, folder.path)
    load_model(model, folder.path / CHECKPOINT)
    return MoGe(model.eval().to(device, dtype), gives)


@dataclass(frozen=True, slots=True)
class MoGe:
    """MoGe-2.

    Attributes:
        model: The network.
        gives: What its depth is: metres, if it has a head for the scale.
    """

    model: Any
    gives: EstimateKind

    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """See `Estimator`."""
        known = cameras_or_none(cameras, len(rgb))
        # One by one: it takes an angle of all images or of none.
        return [self._of(image, camera) for image, camera in zip(rgb, known, strict=True)]

    def _of(self, rgb: RgbImage, known: Intrinsics | None) -> DepthEstimate:
        height, width = rgb.shape[:2]
        image = torch.from_numpy(np.moveaxis(rgb, -1, 0).copy()) / 255
        # In the precision of its weights, which is the one that the run records.
        with _computed_once(self.model):
            said = self.model.infer(image, use_fp16=False)
            matrix = said["intrinsics"].double().cpu().numpy()
            if known is not None:
                angle = float(np.rad2deg(2 * np.arctan(width / 2 / known.fx)))
                said = self.model.infer(image, fov_x=angle, use_fp16=False)
        # Of an image that is 1 wide and 1 high, whose first pixel begins at 0.
        seen = Intrinsics(
            float(matrix[0, 0]) * width,
            float(matrix[1, 1]) * height,
            float(matrix[0, 2]) * width - 0.5,
            float(matrix[1, 2]) * height - 0.5,
        )
        estimate = as_estimate(said["depth"], self.gives, valid=said.get("mask"), intrinsics=seen)
        normals = said.get("normal")
        if normals is None:
            return estimate
        towards = _towards_the_camera(normals.float().cpu().numpy(), estimate, seen)
        return as_estimate(
            said["depth"], self.gives, valid=said.get("mask"), intrinsics=seen, normals=towards
        )


@contextmanager
def _computed_once(model: Any) -> Iterator[None]:
    """Have the network compute once what is asked of it with its own camera and with another."""
    forward = model.forward
    known: dict[str, torch.Tensor] = {}

    def remembered(*args: Any, **settings: Any) -> dict[str, torch.Tensor]:
        if not known:
            known.update(forward(*args, **settings))
        # It works on what it is given.
        return {name: value.clone() for name, value in known.items()}

    model.forward = remembered
    try:
        yield
    finally:
        del model.forward


def _towards_the_camera(
    normals: NDArray[np.float32], estimate: DepthEstimate, camera: Intrinsics
) -> NDArray[np.float32]:
    height, width = estimate.valid.shape
    away = (normals * pixel_rays(height, width, camera)).sum(axis=-1, keepdims=True) > 0
    turned = np.where(away, -normals, normals)
    known = estimate.valid & np.isfinite(normals).all(axis=-1)
    return np.where(known[..., None], turned, 0).astype(np.float32)


def convert(checkpoint: Path, folder: Path) -> None:
    """Make a folder of safetensors of the publisher's `model.pt`.

    Only tensors and plain values are read of the pickle; nothing in it is run.
    """
    said = torch.load(checkpoint, map_location="cpu", weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(said["model_config"], indent=1) + "\n")
    weights = {name: value.contiguous().clone() for name, value in said["model"].items()}
    save_file(weights, folder / CHECKPOINT)
