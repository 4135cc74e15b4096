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
    help="Leave younger objects alone: a running job may be about to commit them.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(url: str, older_than: timedelta, dry_run: bool) -> None:
    """Remove objects of the run at URL that no commit refers to."""
    from mfsynth.shards.gc import collect, garbage
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    entries = garbage(store, older_than)
    for entry in entries:
        echo(entry.key if entry.upload is None else f"{entry.key} (unfinished upload)")
    size = sum(entry.size for entry in entries)
    if not dry_run:
        collect(store, entries)
    verb = "would be removed" if dry_run else "removed"
    echo(f"{store.url}: {len(entries)} objects, {size / 1e6:.1f} MB {verb}")
