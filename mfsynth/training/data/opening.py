"""From settings to mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mfsynth.errors import MfsynthError
from mfsynth.sources.simulated import CachedScenesSettings
from mfsynth.training.data.mixture import Mixture, Part
from mfsynth.training.data.part_settings import PartSettings


def render_scenes(settings: Sequence[PartSettings], size: int, log: Callable[[str], None]) -> None:
    """Render what training needs, as far as it isn't there yet.

    Args:
        settings: All parts of a mixture.
        size: Rows and columns of the images.
        log: Takes a line for each part that is rendered.

    Raises:
        MfsynthError: A folder holds something else or can't be written, or OpenGL is missing.
    """
    for part in settings:
        source = part.source
        if isinstance(source, CachedScenesSettings) and source.render is not None:
            images = source.render.render(source.path, size)
            log(f"{len(images)} images in {source.path}")


def open_mixture(settings: Sequence[PartSettings], height: int, width: int) -> Mixture:
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
        Part(
            part.source.open(),
            part.weight,
            part.crop,
            part.mirror,
            part.sparsity,
            part.joint_only,
        )
        for part in settings
    )
    return Mixture(parts, height, width)
