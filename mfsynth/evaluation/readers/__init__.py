"""Ground truth from where it is: published data sets, rendered scenes, mfsynth runs."""

from __future__ import annotations

from collections.abc import Callable

from mfsynth.evaluation.config import (
    CachedScenesSettings,
    KittiSettings,
    PublishedSettings,
    RunSettings,
    SetSettings,
)
from mfsynth.evaluation.frames import EvaluationSet
from mfsynth.evaluation.readers.published import open_published
from mfsynth.evaluation.readers.runs import open_run
from mfsynth.evaluation.readers.scenes import open_scenes
from mfsynth.simulation import render_dataset

__all__ = ["open_published", "open_run", "open_scenes", "open_set"]


def open_set(settings: SetSettings, on_scene: Callable[[int, int], None]) -> EvaluationSet:
    """Open a set; rendered scenes are rendered first, as far as they aren't there yet.

    Args:
        settings: Which set.
        on_scene: Called with scenes rendered and scenes in total.

    Raises:
        MfsynthError: One line that names what is missing or wrong.
    """
    match settings:
        case PublishedSettings():
            return open_published(settings.kind, settings.path, settings.split)
        case KittiSettings():
            return open_published(settings.kind, settings.path, settings.split, settings.depth_path)
        case CachedScenesSettings():
            if settings.render is not None:
                render_dataset(
                    settings.path,
                    **settings.render.model_dump(),
                    workers=2,
                    progress=on_scene,
                )
            return open_scenes(settings.path)
        case RunSettings():
            return open_run(settings.url, settings.limit)
