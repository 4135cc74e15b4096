"""What a run is asked to make, and of what: `generate`, `annotate`, `retexture`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.items import RunItems
from mfsynth.sources.labels import LabelSettings
from mfsynth.sources.survey import Survey, survey

JOBS: Final[Mapping[str, str]] = {"generate": "joint", "annotate": "i2d", "retexture": "d2i"}
"""Modes of the sampler, by the commands that make such pairs."""
# Of a source, before a run begins.
_ITEMS_LOOKED_AT = 8


def require_job(job: str, config: RunConfig) -> None:
    """Refuse a configuration of another command.

    Args:
        job: Of `JOBS`.
        config: The run.

    Raises:
        MfsynthError: Names the command that it is for.
    """
    mode, right = config.sampler.mode, job_of(config)
    if job != right:
        raise MfsynthError(
            f"sampler.mode: {mode} is for `mfsynth {right}`, and `mfsynth {job}` makes "
            f"{JOBS[job]}; call that, or set it to {JOBS[job]}"
        )


def job_of(config: RunConfig) -> str:
    """The command that a configuration is for."""
    return next(job for job, mode in JOBS.items() if mode == config.sampler.mode)


def takes_depth(config: RunConfig) -> bool:
    """Whether depth of a run's source goes into its pairs."""
    return config.sampler.mode == "d2i" or config.metres_per_unit == "source"


def require_usable(items: RunItems, config: RunConfig) -> Survey | None:
    """Look at some items of a run's source.

    Returns:
        What they are; None for a run without a source.

    Raises:
        MfsynthError: None of them can be read, they have no depth where that is needed, none has
            a label that the settings name, a sensor is asked for relative depth, or their files are
            not what the settings say.
    """
    if items.source is None:
        return None
    try:
        found = survey(items.source.items, _ITEMS_LOOKED_AT)
    except MfsynthError as error:
        raise MfsynthError(f"source: {error}") from error
    if takes_depth(config) and not found.has_depth:
        setting = "sampler.mode: d2i" if config.sampler.mode == "d2i" else "metres_per_unit: source"
        raise MfsynthError(
            f"{setting}: of {found.frames} items of the source none has depth; name its depth, or "
            "take another source"
        )
    relative = found.depth is not None and found.depth.unit != "m"
    if config.sensor is not None and config.sampler.mode == "d2i" and relative:
        raise MfsynthError(
            "sensor: measures metres, and nobody says that the source's depth is in them; say so "
            "(docs/how-to/data.md), or leave sensor out"
        )
    settings = getattr(items.source.settings, "labels", None)
    # Labels that a source has of itself, as a run, are as sparse as they are: no name is wrong.
    if isinstance(settings, LabelSettings) and (lacking := _lacking(settings, found.labels)):
        raise MfsynthError(
            f"source.labels: of {found.frames} items of the source none has {lacking[0]}; name its "
            "file as it is called beside the image, or leave it out"
        )
    return found


def _lacking(settings: LabelSettings, counts: Mapping[str, int]) -> list[str]:
    """Labels that settings name and no item has, though it should.

    Args:
        settings: Of the labels.
        counts: How many items have each of the source's.
    """
    optional = settings.optional
    if not any(counts.get(name) for name in optional):
        optional = frozenset()
    needed = {*settings.names} - optional
    return [name for name, count in counts.items() if not count and name in needed]
