"""A plain supervised depth network: the second opinion that shares nothing with the joint model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import Tensor, nn

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.estimators.base import Cameras, as_estimate, cameras_or_none
from mfsynth.models.estimators.catalogue import EMBEDDED_ESTIMATOR, find_estimator
from mfsynth.models.images import Given, Letterbox, read_images
from mfsynth.models.weights import require_weights

_GROUPS = 8
# The first level has half of the image's rows and columns: the cheapest place to begin.
_PATCH = 2


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity, each after a group norm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(_GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        update = self.conv1(nn.functional.silu(self.norm1(features)))
        return features + self.conv2(nn.functional.silu(self.norm2(update)))


class DepthEstimator(ModelMixin, ConfigMixin):
    """A convolutional U-Net from an image to the logarithm of its depth.

    Up to a constant, or, if it was trained metric, of the depth z · W / f in metres, where f is the
    focal length in pixels and W the image's width: what an image shows of a thing's size depends on
    nothing else, so one network knows metres behind lenses of all angles.

    Args:
        widths: Channels of each level, multiples of 8; a level has half of the last one's rows and
            columns, the first half of the image's.
        blocks: Residual blocks of a level, on the way down and again on the way up.
        size: Rows and columns of the images that it was trained on.
        focal: Of a metric one, f / W of a camera that isn't known: the middle one of its training.
            None for depth up to a constant.
    """

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (48, 96, 160),
        blocks: int = 2,
        size: int = 64,
        focal: float | None = None,
    ):
        super().__init__()
        self.stem = nn.Conv2d(3 * _PATCH**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(width, blocks) for width in widths)
        self.reduce = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.enlarge = nn.ModuleList(
            nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.norm_out = nn.GroupNorm(_GROUPS, widths[0])
        self.head = nn.Conv2d(widths[0], _PATCH**2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Estimate log depth.

        Args:
            images: (B, 3, H, W) in [−1, 1]; H and W multiples of 2 to the number of levels.

        Returns:
            (B, H, W) natural logarithm of z-depth, up to a constant of each image's own; of a
            metric one, that of z · W / f in metres.
        """
        features = self.stem(nn.functional.pixel_unshuffle(images, _PATCH))
        skipped = []
        for level, blocks in enumerate(self.down):
            if level:
                skipped.append(features)
                features = self.reduce[level - 1](features)
            features = blocks(features)
        for level in reversed(range(len(self.up))):
            features = nn.functional.interpolate(self.enlarge[level](features), scale_factor=2)
            features = self.up[level](features + skipped[level])
        out = self.head(nn.functional.silu(self.norm_out(features)))
        return nn.functional.pixel_shuffle(out, _PATCH)[:, 0]


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def load_estimator(name: str = EMBEDDED_ESTIMATOR) -> DepthEstimator:
    """Load an estimator on the CPU, in float32.

    Args:
        name: `embedded`, or a folder that `mfsynth train` wrote.

    Raises:
        MfsynthError: There is no such estimator, or its weights are not whole.
    """
    folder = find_estimator(DepthEstimatorConfig(id=name, kind="embedded")).path
    require_weights(DepthEstimator, folder)
    model = DepthEstimator.from_pretrained(folder, local_files_only=True)
    return model.float().eval()


@torch.no_grad()
def estimate_depth(
    model: DepthEstimator, rgb: Given, cameras: Cameras | None = None
) -> NDArray[np.float32]:
    """Depth of images, in metres if the model is metric, up to a scale of each otherwise.

    Args:
        model: From `load_estimator`.
        rgb: B images of any one size: PIL, (B, H, W, 3) arrays or (B, 3, H, W) tensors, of uint8
            or of floats in [0, 1]; see `mfsynth.models.images.read_images`. Those of another size
            than the model's are letterboxed to it, not squeezed, and their depth brought back.
        cameras: Of the images, for a metric model; one that isn't known is taken for that of its
            training.

    Returns:
        float32 (B, H, W) z-depth, positive everywhere; its geometric mean over an image is 1 if the
        model isn't metric.

    Raises:
        MfsynthError: It is something else; says what was given and what to give.
    """
    given = read_images(rgb, "rgb")
    box = Letterbox.fit(given.shape[1:3], (model.config.size, model.config.size), "rgb")
    frames = torch.tensor(box.frame_images(given), device=model.device)
    images = frames.permute(0, 3, 1, 2) / 127.5 - 1
    logs = box.unframe(model(images.to(model.dtype)).float()[:, None])[:, 0]
    offsets = logs.mean(dim=(1, 2), keepdim=True)
    if model.config.focal is not None:
        focals = [_focal(model, box, each) for each in cameras_or_none(cameras, len(given))]
        offsets = -torch.tensor(focals, device=logs.device).log()[:, None, None]
    depth: NDArray[np.float32] = (logs - offsets).exp().cpu().numpy()
    return depth


def _focal(model: DepthEstimator, box: Letterbox, camera: Intrinsics | None) -> float:
    """Focal length of what the network sees, in units of its width."""
    if camera is None:
        return float(model.config.focal)
    columns = box.window[1]
    return camera.fx / box.size[1] * (columns.stop - columns.start) / box.frame[1]


@dataclass(frozen=True, slots=True)
class EmbeddedEstimator:
    """What `mfsynth train estimator` trained, as every other estimator.

    Attributes:
        model: From `load_estimator`.
    """

    model: DepthEstimator

    def __call__(self, rgb: RgbImage, cameras: Cameras | None = None) -> list[DepthEstimate]:
        """See `Estimator`."""
        depth = torch.from_numpy(estimate_depth(self.model, rgb, cameras))
        metric = self.model.config.focal is not None
        kind = EstimateKind.METRIC_Z if metric else EstimateKind.SCALE_INVARIANT_Z
        return [as_estimate(one, kind) for one in depth]
