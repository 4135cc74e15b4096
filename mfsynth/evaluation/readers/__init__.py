"""Ground truth from where it is: published data sets, and sources whose depth can be it."""

from __future__ import annotations

from collections.abc import Callable

from mfsynth.evaluation.config import (
    CachedScenesSettings,
    KittiSettings,
    PublishedSettings,
    RunSettings,
    SetSettings,
)
from mfsynth.evaluation.frames import EvaluationSet, SourceFrames
from mfsynth.evaluation.protocols import PLAIN
from mfsynth.evaluation.readers.published import open_published
from mfsynth.sources.runs import RunSource
from mfsynth.sources.simulated import CachedScenesSource
from mfsynth.storage.credentials import without_credentials

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
                settings.render.render(settings.path, settings.render.size, on_scene)
            return open_scenes(settings.path)
        case RunSettings():
            return open_run(settings.url, settings.limit)


def open_scenes(folder: str) -> EvaluationSet:
    """Rendered scenes of the simulator, everywhere with metric ground truth."""
    source = CachedScenesSource(folder)
    name = f"{source.rendered.library} scenes, seed {source.rendered.seed}"
    return EvaluationSet(name, PLAIN, SourceFrames(source))


def open_run(url: str, limit: int | None = None) -> EvaluationSet:
    """The pairs of an mfsynth run, or the first `limit` of them."""
    return EvaluationSet(without_credentials(url), PLAIN, SourceFrames(RunSource(url), limit))
