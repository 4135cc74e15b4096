"""`mfsynth push`: pairs to a hub, or to a folder in its layout."""

from __future__ import annotations

import click

from mfsynth.cli import options
from mfsynth.cli.output import bars, echo


@click.command()
@click.argument("url")
@click.argument("destination")
@click.option("--view", metavar="NAME", help="Pairs of a view (mfsynth refilter).")
@click.option("--filter", "condition", help="Such as \"registration > 2 and 'mug' in objects\".")
@options.metres_per_unit
@options.assume_fov
@click.option("--public", is_flag=True, help="Everybody may see it; else it is private.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
def push(
    url: str,
    destination: str,
    view: str | None,
    condition: str | None,
    metres_per_unit: float | None,
    assume_fov: float | None,
    public: bool,
    dry_run: bool,
) -> None:
    """Bring the pairs of the run at URL to DESTINATION, as Parquet with previews and a card.

    DESTINATION is hf://datasets/ORGANISATION/NAME (`hf auth login`, or HF_TOKEN), or a folder. The
    same command goes on with a push that was cut off, and sends what a run has made since; a
    card that was edited there stays.
    """
    from functools import partial

    from mfsynth.datasets import RGBDDataset
    from mfsynth.datasets.exports import pushing
    from mfsynth.datasets.exports.hub import FORM, SCHEME, HubDataset
    from mfsynth.datasets.exports.pairs import Pairs
    from mfsynth.errors import MfsynthError
    from mfsynth.formatting import size
    from mfsynth.storage.store import ObjectStore

    dataset = RGBDDataset(url, view=view)
    if condition is not None:
        dataset = dataset.filter(condition)
    pairs = Pairs(dataset, metres_per_unit=metres_per_unit, assume_fov=assume_fov)
    place: pushing.Folder | HubDataset
    if destination.startswith(SCHEME):
        place = HubDataset(destination, public=public)
        seen = "public" if place.is_public else "private"
        kind, where = f"{'new, ' if place.is_new else ''}{seen}", place.page
    else:
        target = ObjectStore.open(destination)
        if target.local_root is None:
            raise MfsynthError(f"{target.url}: give {FORM}, or a folder")
        if public:
            raise MfsynthError(f"{target.url}: a folder is as public as it is; leave --public out")
        if target.overlaps(ObjectStore.open(url)):
            raise MfsynthError(f"{target.url}: lies in the run, or the run in it; give another")
        place = pushing.Folder(target.local_root)
        kind, where = "folder", target.url
    todo = pushing.plan(pairs, place, view=view, condition=condition)
    there = len(todo.blocks) - len(todo.missing)
    echo(
        f"{place.shown} ({kind}): {len(pairs)} pairs; files of them: {there} there, "
        f"{len(todo.missing)} to send ({size(todo.size)} of pictures), "
        f"{len(todo.outdated)} to remove"
    )
    if todo.own_card:
        echo("README.md was written or edited by others and stays as it is")
    if dry_run:
        return
    with bars() as report:
        pushing.push(pairs, place, todo, partial(report, "sent"))
    echo(f"{where}: {'all was there' if todo.is_done else 'done'}")
