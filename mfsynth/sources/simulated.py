"""Simulator images as training data, rendered before or on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mfsynth.errors import MfsynthError
from mfsynth.simulation import CachedScenes, render_dataset, render_scene, scene_prompts, scenes
from mfsynth.simulation.gl import gl_context
from mfsynth.sources.base import TrainingSample
from mfsynth.training.data.settings import CachedScenesSettings, SourceSettings
from mfsynth.training.progress import Log


def render_scenes(settings: Sequence[SourceSettings], size: int, log: Log) -> None:
    """Render what training needs, as far as it isn't there yet.

    Args:
        settings: All parts of a training set.
        size: Rows and columns of the images.
        log: Takes a line for each part that is rendered.
    """
    for part in settings:
        if isinstance(part, CachedScenesSettings) and part.render is not None:
            images = render_dataset(
                part.path,
                library=part.render.library,
                scenes=part.render.scenes,
                views=part.render.views,
                size=size,
                seed=part.render.seed,
                workers=2,
            )
            log(f"{len(images)} images in {part.path}")


class CachedScenesSource:
    """Implements `Source`.

    Args:
        folder: What `mfsynth.simulation.render_dataset` wrote.

    Raises:
        MfsynthError: The folder holds no rendered scenes, or rendering hasn't finished.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._scenes = CachedScenes.open(folder)

    def __reduce__(self) -> tuple[type[CachedScenesSource], tuple[str]]:
        # A mapped array would be pickled with all its content.
        return CachedScenesSource, (self._folder,)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> TrainingSample:
        images = self._scenes
        return TrainingSample(images.rgb[index], images.depth[index], images.captions[index])

    def captions(self) -> Iterator[str]:
        """See `Source`."""
        return iter(self._scenes.captions)


class LiveScenesSource:
    """Implements `Source`: scene i, from one side, as `render_dataset` with one view shows it.

    Args:
        library: Name or path of the prompt library.
        count: How many scenes.
        size: Rows and columns of the images.
        seed: Of prompts and scenes.

    Raises:
        MfsynthError: There is no such library.
    """

    def __init__(self, library: str, count: int, size: int, seed: int) -> None:
        self._arguments = (library, count, size, seed)
        self._library = scene_prompts(library, seed)
        self._count, self._size, self._seed = count, size, seed

    def __reduce__(self) -> tuple[type[LiveScenesSource], tuple[str, int, int, int]]:
        return LiveScenesSource, self._arguments

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> TrainingSample:
        if not 0 <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        if _inherited_context:
            raise MfsynthError(
                "scenes can't be rendered in a process forked from one that has rendered; start "
                "data loading workers with start_method spawn"
            )
        ((_, scene),) = scenes(self._library, self._seed, [index])
        (view,) = render_scene(scene, 1, self._size, self._size, scene_index=index)
        return TrainingSample(view.rgb, view.depth, view.caption)

    def captions(self) -> Iterator[str]:
        """See `Source`."""
        return (self._library.prompt(index).text for index in range(self._count))


# An OpenGL context doesn't survive a fork: rendering in the child hangs.
_inherited_context = False


def _note_inherited_context() -> None:
    global _inherited_context
    _inherited_context = _inherited_context or gl_context.cache_info().currsize > 0


os.register_at_fork(after_in_child=_note_inherited_context)
