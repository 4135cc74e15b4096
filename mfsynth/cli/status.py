"""`mfsynth status`: how far a run is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mfsynth.cli.output import echo
from mfsynth.formatting import one_line

if TYPE_CHECKING:
    from mfsynth.shards.acceptance import ValueAcceptance


@click.command()
@click.argument("url")
@click.option(
    "--slots",
    is_flag=True,
    help="Show how many were accepted by what prompts took for their slots.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(url: str, slots: bool, as_json: bool) -> None:
    """Show what the storage of the run at URL holds; asks no running job.

    It reads receipts alone; with --slots also the tables of samples and rejects.
    """
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime

    from mfsynth import api

    found = api.status(url)
    by_slot = _by_slot(url) if slots else {}
    if as_json:
        asked = {"slots": {s: [*map(asdict, v)] for s, v in by_slot.items()}} if slots else {}
        echo(json.dumps(found.to_dict() | asked, indent=1))
        return
    lines = [*found.lines(), *found.live_lines(datetime.now(UTC))]
    lines += [
        f"{'accepted':<12} {each.accepted} of {each.made} ({each.share:.0%}): {slot} {each.value!r}"
        for slot, values in by_slot.items()
        for each in values
    ]
    if slots and not by_slot:
        lines.append(
            "accepted     prompts have no slots with a choice, or nothing is committed yet"
        )
    echo("\n".join(map(one_line, lines)))


def _by_slot(url: str) -> dict[str, list[ValueAcceptance]]:
    from mfsynth.shards.acceptance import read_slot_acceptance
    from mfsynth.shards.drivers import read_known_commits
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    return read_slot_acceptance(store, read_known_commits(store).values())
