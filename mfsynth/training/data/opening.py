"""From settings to mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mfsynth.errors import MfsynthError
from mfsynth.sources.simulated import CachedScenesSettings
from mfsynth.sources.survey import first_with_depth, survey
from mfsynth.training.data.mixture import Mixture, Part
from mfsynth.training.data.part_settings import PartSettings

# Of each part, that are looked at in any case, and for depth if none is found.
_FRAMES, _MORE = 8, 64


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


def survey_parts(mixture: Mixture, log: Callable[[str], None]) -> None:
    """Say what the parts of a mixture seem to hold, before anything learns from it.

    Args:
        mixture: All of it.
        log: Takes lines for each part.

    Raises:
        MfsynthError: Files are not what the settings say, or no depth is found in any part.
    """
    found = False
    for number, part in enumerate(mixture.parts):
        seen = survey(part.source, _FRAMES)
        found |= seen.has_depth
        for line in seen.lines():
            log(f"data.{number}: {line}")
    if not found and all(first_with_depth(part.source, _MORE) is None for part in mixture.parts):
        raise MfsynthError(
            f"data: no valid depth in any part, by up to {_MORE} items of each, so depth would be "
            "learnt from nothing; `mfsynth data inspect` shows them"
        )


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
            part.source.tolerance,
        )
        for part in settings
    )
    return Mixture(parts, height, width)
