"""Samples side by side: batches of arrays or tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfsynth.datasets.samples import RGBDSample
from mfsynth.errors import MfsynthError

FIELDS = ("rgb", "depth", "valid", "intrinsics", "sample_id", "prompt")
"""Of `RGBDSample`, what a batch has unless others are named."""

LABELS = ("mask", "sensor")
"""Those that a batch has of all its samples or not at all."""

Batch = dict[str, Any]


def to_arrays(sample: RGBDSample, fields: Sequence[str] = FIELDS) -> Batch:
    """Some of what a sample has, by name; a camera that is not known is all NaN.

    Raises:
        MfsynthError: A mask or a sensor's depth is asked for, and it has none.
    """
    found = {name: getattr(sample, name) for name in fields}
    if found.get("intrinsics", ...) is None:
        found["intrinsics"] = np.full((3, 3), np.nan)
    if found.get("camera_to_world", ...) is None:
        found["camera_to_world"] = np.full((4, 4), np.nan)
    require_labels(sample, fields)
    return found


def require_labels(sample: RGBDSample, fields: Sequence[str]) -> None:
    """Refuses a sample that lacks one of the labels among some fields.

    Raises:
        MfsynthError: A mask or a sensor's depth is asked for, and it has none.
    """
    for name in LABELS:
        if name in fields and getattr(sample, name) is None:
            raise MfsynthError(
                f"{sample.sample_id}: no {name}; open the data set with labels=True, or leave "
                f"{name} out of fields"
            )


def to_tensors(sample: RGBDSample, fields: Sequence[str] = FIELDS) -> Batch:
    """As torch's `DataLoader` collates it: give it to a data set as its `transform`.

    `rgb` is float32 (3, H, W) in [0, 1], `depth` float32 and `valid` bool (1, H, W), `intrinsics`
    float32 (3, 3), all NaN where the camera is not known; so is `camera_to_world`, float64 (4, 4).
    `mask` is int32 (1, H, W), `sensor` as `depth`.
    """
    return _as_tensors(to_arrays(sample, fields))


def stacked(samples: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> Batch:
    """A batch: arrays and numbers are stacked where all samples have one, all else is a list.

    Args:
        samples: What each has, by name.
        whole: What lies in one array already, by name; of samples that have it.

    Raises:
        MfsynthError: Arrays differ in shape, or samples in what they have.
    """
    first = samples[0]
    if any(sample.keys() != first.keys() for sample in samples):
        raise MfsynthError("samples of a batch differ in what they have; let a transform equal it")
    batch: Batch = {}
    for name in first:
        if name in whole:
            batch[name] = whole[name]
            continue
        values = [sample[name] for sample in samples]
        # One that is missing, such as a frame's time, makes a list of all.
        if not all(isinstance(value, np.ndarray | np.generic | int | float) for value in values):
            batch[name] = values
            continue
        shapes = {np.shape(value) for value in values}
        if len(shapes) > 1:
            sizes = ", ".join(sorted(str(shape) for shape in shapes))
            raise MfsynthError(
                f"{name} has several shapes in a batch ({sizes}); make them equal: "
                "augment=[Resize(...)] or a RandomCrop, or batch_size=1"
            )
        batch[name] = np.stack(values)
    return batch


def tensors_of(batch: Batch, *, pin_memory: bool = False) -> Batch:
    """A batch of arrays as `to_tensors` has them, with B in front.

    Args:
        batch: Of arrays.
        pin_memory: Whether they lie in pinned memory, where there is a GPU that gains by it.
    """
    import torch

    tensors = _as_tensors(batch)
    if pin_memory and torch.cuda.is_available():
        return {
            name: value.pin_memory() if isinstance(value, torch.Tensor) else value
            for name, value in tensors.items()
        }
    return tensors


def _as_tensors(arrays: Batch) -> Batch:
    import torch

    def converted(name: str, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        tensor = torch.from_numpy(value)
        match name:
            case "rgb":
                return tensor.movedim(-1, -3).contiguous().float().div_(255)
            case "depth" | "valid" | "sensor":
                return tensor.unsqueeze(-3)
            case "mask":
                return tensor.int().unsqueeze(-3)
            case "intrinsics":
                return tensor.float()
        return tensor

    return {name: converted(name, value) for name, value in arrays.items()}
