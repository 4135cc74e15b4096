"""Ground truth from where it is: published data sets, and sources whose depth can be it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mfsynth.evaluation.config import (
    EvaluatedRun,
    EvaluatedScenes,
    PublishedKitti,
    PublishedSet,
    SetSettings,
)
from mfsynth.evaluation.frames import EvaluationSet, SourceFrames
from mfsynth.evaluation.protocols import PLAIN
from mfsynth.evaluation.readers.published import open_published
from mfsynth.shards.run_manifest import RunManifest, read_run
from mfsynth.shards.words import is_of_two_models, mode_of
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.store import ObjectStore


def open_set(settings: SetSettings, on_scene: Callable[[int, int], None]) -> EvaluationSet:
    """Open a set; rendered scenes are rendered first, as far as they aren't there yet.

    Args:
        settings: Which set.
        on_scene: Called with scenes rendered and scenes in total.

    Raises:
        MfsynthError: One line that names what is missing or wrong.
    """
    match settings:
        case PublishedSet():
            return open_published(settings.kind, settings.path, settings.split)
        case PublishedKitti():
            return open_published(settings.kind, settings.path, settings.split, settings.depth_path)
        case EvaluatedScenes():
            if settings.render is not None:
                settings.render.render(settings.path, settings.render.size, on_scene)
            scenes = settings.open()
            rendered = scenes.rendered
            name = f"{rendered.library} scenes, seed {rendered.seed}"
            if rendered.style.name != "plain":
                name += f", {rendered.style.name}"
            return EvaluationSet(name, PLAIN, SourceFrames(scenes))
        case EvaluatedRun():
            name = without_credentials(settings.url)
            frames = SourceFrames(settings.open(), settings.limit)
            made_by = _made_by(read_run(ObjectStore.open(settings.url)))
            return EvaluationSet(name, PLAIN, frames, truth_model=made_by)


def _made_by(run: RunManifest) -> Mapping[str, str] | None:
    """The model that made the depth of a run's pairs; None where they began with it."""
    if mode_of(run.settings) == "d2i":
        return None
    return run.estimator if is_of_two_models(run.settings) else run.model
