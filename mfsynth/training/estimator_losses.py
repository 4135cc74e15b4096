"""What a plain depth network is trained to lessen: errors of ln depth, where depth is known."""

from __future__ import annotations

import torch
from torch import Tensor

from mfsynth.training.losses import MIN_VALID_PIXELS


def log_depth_loss(prediction: Tensor, depth: Tensor) -> Tensor:
    """Mean |e − ē| over valid pixels, e = prediction − ln depth; 0 where none is valid.

    A constant scale of an image's depth changes nothing.

    Args:
        prediction: (B, H, W) log depth.
        depth: (B, H, W) in any unit; 0 marks invalid pixels.

    Returns:
        (B,); divided by 64 pixels at least, so that a few don't weigh as much as many.
    """
    valid = depth > 0
    count = valid.sum(dim=(1, 2), keepdim=True)
    errors = torch.where(valid, prediction - torch.where(valid, depth, 1.0).log(), 0.0)
    mean = errors.sum(dim=(1, 2), keepdim=True) / count.clamp(min=1)
    deviations = torch.where(valid, (errors - mean).abs(), 0.0)
    return deviations.sum(dim=(1, 2)) / count[:, 0, 0].clamp(min=MIN_VALID_PIXELS)


def metric_log_depth_loss(prediction: Tensor, depth: Tensor, focals: Tensor) -> Tensor:
    """Mean |prediction − ln(depth · W / f)| over valid pixels; 0 where none is valid.

    Args:
        prediction: (B, H, W) log depth of a metric `DepthEstimator`.
        depth: (B, H, W) in metres; 0 marks invalid pixels.
        focals: (B,) f / W; images where it is nan teach nothing.

    Returns:
        (B,); divided by 64 pixels at least, so that a few don't weigh as much as many.
    """
    valid = (depth > 0) & focals.isfinite()[:, None, None]
    target = torch.where(valid, depth / focals[:, None, None], 1.0).log()
    errors = torch.where(valid, (prediction - target).abs(), 0.0)
    return errors.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=MIN_VALID_PIXELS)
