"""`mfsynth copy`: a run in another place."""

from __future__ import annotations

import click

from mfsynth.cli.output import Progress, echo
from mfsynth.formatting import one_line


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def copy(source: str, target: str) -> None:
    """Copy the run at SRC to DST: folders and URLs of object stores, in any combination.

    Every object is compared with the size and hash of its receipt before it is sent; only what
    receipts name is copied, and the documents and views that belong to them. The same command goes
    on with a copy that was interrupted, and brings what a run has made since; until it is through,
    verify and readers refuse DST. What DST has with a receipt, at its size, is not read again:
    `mfsynth verify DST` checks all of it.
    """
    from mfsynth.formatting import size
    from mfsynth.shards.copy import copy_run
    from mfsynth.storage.protocols import require_lasting
    from mfsynth.storage.store import ObjectStore

    require_lasting(target)
    run, place = ObjectStore.open(source), ObjectStore.open(target)
    done = copy_run(run, place, Progress("copied"))
    for key in done.left_out:
        echo(
            f"not copied: {key}: it is not what the receipts of the copy come to; `mfsynth "
            "finalize` writes it"
        )
    for line in done.views_left_out:
        echo(f"not copied: {one_line(line)}")
    earlier = done.shards - done.brought
    there = f" ({earlier} shards were there)" if earlier else ""
    echo(f"{place.url}: {done.shards} shards, {done.pairs} pairs, {size(done.size)}: copied{there}")
    if done.is_running:
        echo(f"{run.url}: a driver is at work; copy again to bring what it commits from now on")
