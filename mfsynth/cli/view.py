"""`mfsynth view`: pairs in Rerun."""

from __future__ import annotations

from pathlib import Path

import click

from mfsynth.cli import options
from mfsynth.cli.local_paths import LocalPath
from mfsynth.cli.output import echo


@click.command()
@click.argument("url")
@click.option(
    "--save", metavar="FILE", type=LocalPath(), help="Write a recording (.rrd), and open no viewer."
)
@click.option("--view", metavar="NAME", help="Pairs of a view (mfsynth refilter).")
@click.option(
    "--start", type=click.IntRange(min=0), default=0, show_default=True, help="First pair."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=32, show_default=True, help="Pairs at most."
)
@options.metres_per_unit
@options.assume_fov
def view(
    url: str,
    save: Path | None,
    view: str | None,
    start: int,
    count: int,
    metres_per_unit: float | None,
    assume_fov: float | None,
) -> None:
    """Show pairs of the run at URL in Rerun: image, depth, camera, points, scores, prompt.

    Wants rerun-sdk: pip install 'mfsynth[view]'. Points want a camera.
    """
    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.exports.pairs import Pairs
    from mfsynth.errors import MfsynthError
    from mfsynth.reports.recording import record, show
    from mfsynth.storage.credentials import without_credentials

    pairs = Pairs(
        RGBDDataset(url, view=view), metres_per_unit=metres_per_unit, assume_fov=assume_fov
    )
    if not len(pairs):
        raise MfsynthError(f"{without_credentials(url)}: there are no pairs to show")
    if start >= len(pairs):
        raise MfsynthError(f"--start {start}: there are {len(pairs)} pairs; give a smaller number")
    frames = pairs.frames(range(start, min(start + count, len(pairs))))
    shown = show(frames) if save is None else record(frames, save)
    echo(f"{shown} of {len(pairs)} pairs" + ("" if save is None else f": {save}"))
