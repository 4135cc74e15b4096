"""`mfsynth data`: look at data before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfsynth.cli.local_paths import LocalPath
from mfsynth.cli.output import echo
from mfsynth.formatting import one_line

if TYPE_CHECKING:
    from mfsynth.sources.base import Item
    from mfsynth.sources.settings import SourceSettings


@click.group()
def data() -> None:
    """Look at data before anything is made of it."""


@data.command()
@click.argument("source", metavar="SOURCE|CONFIG")
@click.option(
    "--frames", type=click.IntRange(min=1), default=4, show_default=True, help="How many."
)
@click.option(
    "--picture",
    type=LocalPath(),
    help="Also write a PNG: image, depth, and depth's edges over the image.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Set a setting; repeatable."
)
def inspect(source: str, frames: int, picture: Path | None, overrides: tuple[str, ...]) -> None:
    """Show what the first frames of images with depth hold, as the settings have it read.

    SOURCE is a folder or the URL of one, tar files, a recording, a video, a table, or a run, with
    what can't be seen there by --set; CONFIG is a YAML file with the settings of a source, or the
    configuration of a training.

    For each frame: share of valid pixels; near (1st percentile), median and far (99th); the share
    of the lowest and the highest code; the camera and where it is from. Depths that a room can't
    have are a wrong unit, a large share of one code is background that `encoding.invalid` should
    name, and edges beside the things in the picture are depth of another camera.

    For example: mfsynth data inspect /data/mine --set layout=generic --set images='rgb/*.jpg' --set
    depths='depth/*.png' --set encoding.scale=0.001 --picture frames.png
    """
    from mfsynth.errors import MfsynthError
    from mfsynth.storage.credentials import without_credentials

    shown: list[Item] = []
    failures = 0
    for name, settings in _sources(source, overrides):
        echo(without_credentials(name))
        items, failed = _show(settings, frames)
        shown += items
        failures += failed
    if picture is not None and shown:
        from mfsynth.reports.depth_edges import edge_sheet
        from mfsynth.storage.atomic import write_document

        write_document(picture, edge_sheet([(item.rgb, item.depth) for item in shown]))
        echo(f"picture: {picture}")
    if failures:
        raise MfsynthError(f"{failures} of {len(shown) + failures} frames can't be used; see above")


def _show(settings: SourceSettings, frames: int) -> tuple[list[Item], int]:
    from mfsynth.errors import MfsynthError
    from mfsynth.sources.survey import survey_of

    opened = settings.open()
    items: list[Item] = []
    failed = 0
    for index in range(min(frames, len(opened))):
        try:
            item = opened[index]
        except MfsynthError as error:
            failed += 1
            echo(f"  {index}: {error}")
            continue
        items.append(item)
        size = "no image" if item.rgb is None else f"{item.rgb.shape[1]}x{item.rgb.shape[0]}"
        echo(f"  {index}: {item.name}, {size}")
        depth = survey_of([item], opened).depth
        echo(f"     depth: {'none' if depth is None else depth}")
        if item.text:
            echo(f"     text: {one_line(item.text, 120)}")
    if items:
        for line in survey_of(items, opened).lines(most=None):
            echo(f"  {line}")
    return items, failed


def _sources(source: str, overrides: tuple[str, ...]) -> Iterator[tuple[str, SourceSettings]]:
    from mfsynth.config.documents import read_yaml
    from mfsynth.config.loading import load_settings, read_overrides
    from mfsynth.config.resources import resolve_resource, resource_names
    from mfsynth.errors import MfsynthError
    from mfsynth.sources.guessing import LoneSource, guess_source, require_layout

    folder = "configs/train"
    if source not in resource_names(folder) and not source.endswith((".yaml", ".yml")):
        given = {override.partition("=")[0] for override in overrides}
        values = read_overrides(guess_source(source, given), overrides, source)
        require_layout(values.values, source)
        yield source, values.validate(LoneSource).source
        return
    document = read_yaml(resolve_resource(folder, source), "configuration")
    if isinstance(document, dict) and "kind" in document:
        yield source, load_settings(LoneSource, folder, source, overrides).source
    elif isinstance(document, dict) and "data" in document:
        from mfsynth.training.config import load_train_config
        from mfsynth.training.estimator_config import load_estimator_config
        from mfsynth.training.kinds import describes_estimator

        load = load_estimator_config if describes_estimator(source) else load_train_config
        for number, part in enumerate(load(source, overrides).data):
            yield f"data.{number}", part.source
    else:
        raise MfsynthError(f"{source}: neither the settings of a source nor of a training")
