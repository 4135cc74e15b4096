"""`mfsynth verify`: is the data what its commits say."""

from __future__ import annotations

import click

from mfsynth.cli.output import Progress, echo
from mfsynth.formatting import one_line


@click.command()
@click.argument("url")
@click.option("--shallow", is_flag=True, help="Presence and sizes only; read no data.")
def verify(url: str, shallow: bool) -> None:
    """Check the shards of the run at URL against their commits.

    Deep by default: hashes, counts, every image and depth map decodes, the index against the
    tar. A run without shards is not verified, nor one that has fewer than were counted once: by
    finalize, or by a driver. Prints a line for every problem; exit status 1 if there is one.
    """
    from mfsynth import api
    from mfsynth.errors import MfsynthError
    from mfsynth.formatting import size
    from mfsynth.storage.store import ObjectStore

    report = api.verify(url, deep=not shallow, on_progress=Progress("verified"))
    shown = ObjectStore.open(url).url
    for problem in report.problems:
        echo(one_line(problem))
    found = f"{report.shards} shards, {report.pairs} pairs, {size(report.size)}"
    depth = "verified" if report.deep else "present"
    if report.problems:
        count = len(report.problems)
        raise MfsynthError(
            f"{count} problem{'s' if count > 1 else ''} in {shown} ({found}); to make a "
            "shard again, delete its file in _commits/ and run the run's own command"
        )
    echo(f"{shown}: {found}: {depth}")
