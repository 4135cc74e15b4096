"""Names of networks to loaded ones, each loaded once in a process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mfsynth.models.recognition.catalogue import DETECTORS, JUDGE, TEXT_IMAGE, find_recogniser

if TYPE_CHECKING:
    from mfsynth.models.recognition.detectors import ThingFinder
    from mfsynth.models.recognition.text_image import TextImageModel


@lru_cache(maxsize=2)
def open_text_image(name: str, revision: str | None) -> TextImageModel:
    """Load a model of `TEXT_IMAGE`, on the process' GPU if it has one.

    Raises:
        MfsynthError: There is no such model, or its files are not what they should be.
    """
    from mfsynth.models.recognition.text_image import TextImageModel

    return TextImageModel.load(find_recogniser(name, revision, TEXT_IMAGE), _device())


@lru_cache(maxsize=2)
def open_detector(name: str, revision: str | None) -> ThingFinder:
    """Load a model of `DETECTORS`, on the process' GPU if it has one.

    Raises:
        MfsynthError: There is no such model, or its files are not what they should be.
    """
    folder = find_recogniser(name, revision, DETECTORS)
    if folder.kind == JUDGE:
        from mfsynth.models.recognition.judge import load_judge

        return load_judge(folder.path).to(_device())
    from mfsynth.models.recognition.detectors import Detector

    return Detector.load(folder, _device())


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
