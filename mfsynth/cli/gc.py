"""`mfsynth gc`: remove what no commit refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mfsynth.cli.output import echo

if TYPE_CHECKING:
    from datetime import timedelta


class _Age(click.ParamType[Any]):
    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """`0`, `90s`, `30m`, `24h` or `7d`."""
        import re
        from datetime import timedelta

        match = re.fullmatch(r"(\d{1,6})([smhd])|0", value)
        if match is None:
            self.fail(f"{value!r} is not an age such as 30m, 24h or 7d", param, ctx)
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        return timedelta(**{units[match[2]]: int(match[1])}) if match[2] else timedelta()


@click.command()
@click.argument("url")
@click.option(
    "--older-than",
    type=_Age(),
    default="1d",
    show_default=True,
    help="Don't mark what is younger: a job that was stopped may be about to go on.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be marked and removed.")
def gc(url: str, older_than: timedelta, dry_run: bool) -> None:
    """Remove objects of the run at URL that no commit refers to, in two steps.

    Segments (receipts stored once more, for speed) that are damaged or that larger ones cover are
    among them. The first call removes nothing: it marks what it finds, in _tombstones/. A call a
    day or more later removes what was marked and still belongs to no commit, and marks what is new.
    No driver may be at work, and no commit be missing; objects that a commit names are never
    removed.
    """
    from mfsynth.formatting import size
    from mfsynth.shards.gc import collect
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    done = collect(store, older_than, dry_run=dry_run)
    would = "would be " if dry_run else ""
    for entries, verb in ((done.removed, "removed"), (done.marked, "marked")):
        for entry in entries:
            upload = "" if entry.upload is None else " (unfinished upload)"
            echo(f"{would}{verb}: {entry.key}{upload}")
    removed = f"{len(done.removed)} objects, {size(sum(e.size for e in done.removed))}"
    marked = f"{len(done.marked)} objects, {size(sum(e.size for e in done.marked))}"
    later = f" (a gc after {done.due:%Y-%m-%d %H:%M} UTC removes them)" if done.due else ""
    echo(f"{store.url}: {removed} {would}removed; {marked} {would}marked{later}")
    if done.waiting:
        echo(f"{done.waiting} objects were marked before and are not due yet")
