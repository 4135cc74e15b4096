"""`mfsynth status`: how far a run is."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo
from mfsynth.formatting import one_line


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(url: str, as_json: bool) -> None:
    """Show what the storage of the run at URL holds; asks no running job."""
    import json
    from datetime import UTC, datetime

    from mfsynth.shards.status import run_status
    from mfsynth.storage.store import ObjectStore

    found = run_status(ObjectStore.open(url))
    if as_json:
        echo(json.dumps(found.to_dict(), indent=1))
    else:
        echo("\n".join(map(one_line, [*found.lines(), *found.live_lines(datetime.now(UTC))])))
