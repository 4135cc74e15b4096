"""Scalars and pictures of a training, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfsynth.training.progress import Log


def is_installed(log: Log) -> bool:
    """Whether there is a TensorBoard to write for; says so where there is none."""
    if find_spec("tensorboard") is not None:
        return True
    log("no TensorBoard scalars and samples: install mfsynth[train] to have them")
    return False


class Board:
    """Writes event files into a folder.

    Args:
        folder: Of the event files; it is made.
        step: That training goes on from: what an interrupted one wrote beyond it is hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by their tags."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def images(self, step: int, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write pictures (H, W, 3) by their tags."""
        for tag, image in images.items():
            self._writer.add_image(tag, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
