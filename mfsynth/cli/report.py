"""`mfsynth report`: a page of a run's pairs, scores and rejects."""

from __future__ import annotations

from pathlib import Path

import click

from mfsynth.cli.local_paths import LocalPath
from mfsynth.cli.output import echo

_PICTURE_PAIRS = 16


@click.command()
@click.argument("url")
@click.option(
    "--out",
    type=LocalPath(),
    help="The page to write [default: report.html, of a view report-NAME.html, in the run; here, "
    "named after the run, if that is not on a local disk]",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=48,
    show_default=True,
    help="Most accepted pairs to show, as far as they fit into a page below 1.5 MB; a random "
    "sample if there are more.",
)
@click.option(
    "--picture",
    type=LocalPath(),
    help="Also write a contact sheet of 16 pairs, a PNG.",
)
@click.option("--view", metavar="NAME", help="Of a view (mfsynth refilter) instead of the run.")
def report(url: str, out: Path | None, pairs: int, picture: Path | None, view: str | None) -> None:
    """Write an HTML page of the run at URL: pairs, scores, what was rejected and why.

    The page is one file that needs nothing else. Only committed shards are shown.
    """
    from mfsynth.errors import MfsynthError
    from mfsynth.reports import contact_sheet, write_report
    from mfsynth.reports.collect import sample_pairs
    from mfsynth.storage.atomic import write_document
    from mfsynth.storage.credentials import without_credentials

    echo(f"report: {write_report(url, out, pairs=pairs, view=view)}")
    if picture is not None:
        from mfsynth.datasets import RGBDDataset

        samples = sample_pairs(RGBDDataset(url, view=view), _PICTURE_PAIRS)
        if not samples:
            shown = without_credentials(url)
            raise MfsynthError(f"{shown} has no accepted pair to show; leave --picture out")
        write_document(picture, contact_sheet([(s.rgb, s.depth) for s in samples]))
        echo(f"picture: {picture}")
