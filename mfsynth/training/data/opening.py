"""From settings to sources and mixtures."""

from __future__ import annotations

from collections.abc import Sequence

from mfsynth.errors import MfsynthError
from mfsynth.sources.base import Source
from mfsynth.sources.folders import open_folder
from mfsynth.sources.runs import RunSource
from mfsynth.sources.simulated import CachedScenesSource, LiveScenesSource
from mfsynth.sources.webdatasets import open_webdataset
from mfsynth.training.data.mixture import Mixture, Part
from mfsynth.training.data.settings import (
    CachedScenesSettings,
    LiveScenesSettings,
    RunSettings,
    SourceSettings,
    WebDatasetSettings,
)


def open_source(settings: SourceSettings) -> Source:
    """Open one source; its images are read when they are asked for.

    Raises:
        MfsynthError: One line that names what is missing or wrong.
    """
    match settings:
        case RunSettings():
            return RunSource(settings.url)
        case WebDatasetSettings():
            return open_webdataset(settings)
        case CachedScenesSettings():
            return CachedScenesSource(settings.path)
        case LiveScenesSettings():
            return LiveScenesSource(settings.library, settings.scenes, settings.size, settings.seed)
        case _:
            return open_folder(settings)


def open_mixture(settings: Sequence[SourceSettings], height: int, width: int) -> Mixture:
    """Open all sources of a mixture.

    Args:
        settings: One for each part; at least one.
        height: Rows of the samples.
        width: Columns of the samples.

    Raises:
        MfsynthError: One line that names what is missing or wrong.
    """
    if not settings:
        raise MfsynthError("data: no source of training data; give at least one")
    parts = tuple(
        Part(open_source(part), part.weight, part.crop, part.mirror, part.sparsity)
        for part in settings
    )
    return Mixture(parts, height, width)
