"""`mfsynth refilter`: another data set over the same shards."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo

# `mfsynth.shards.duplicates.MOST_BITS`, without numpy.
_MOST_BITS = 8
# What a view can say, as any reader of JSON understands it.
_MOST_PER_PROMPT = 2**53


@click.command()
@click.argument("url")
@click.option("--name", required=True, help="Of the view; small letters, digits, _ and -.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="SCORE>=X",
    help="Worst value of a stored score that passes, in quotes: 'registration>=2' or "
    "'flying_pixels<=0.3'; may be repeated.",
)
@click.option(
    "--duplicates-within",
    type=click.IntRange(0, _MOST_BITS),
    metavar="BITS",
    help="Leave out images whose perceptual hash differs from an earlier one's by at most so many "
    "of 64 bits; 6 is usual.",
)
@click.option(
    "--max-per-prompt",
    type=click.IntRange(1, _MOST_PER_PROMPT),
    metavar="N",
    help="Keep the first so many pairs of each prompt.",
)
@click.option("--replace", is_flag=True, help="Take the place of a view of this name.")
def refilter(
    url: str,
    name: str,
    limits: tuple[str, ...],
    duplicates_within: int | None,
    max_per_prompt: int | None,
    replace: bool,
) -> None:
    """Make a view of the run at URL: other limits on stored scores, no GPU.

    Nothing is copied or removed: the view is a small file, _views/NAME.json, that says which
    candidates are in. RGBDDataset(url, view=NAME), report --view and finalize --view take it.

    Accepted pairs are in if they are within all limits; rejected ones come back if there is a
    limit for each score that they failed, they are within all, and the run kept their pixels
    (keep_rejects: all). Then near-duplicates are left out, then what is beyond the most of a
    prompt, the lowest candidates staying. Of a run that goes on, a view is of the shards that were
    there; --replace makes it anew.
    """
    from mfsynth.errors import MfsynthError
    from mfsynth.formatting import counts
    from mfsynth.shards.refilter import parse_limit
    from mfsynth.shards.refilter import refilter as make_view
    from mfsynth.shards.views import Rules
    from mfsynth.storage.store import ObjectStore

    bounds = dict(parsed := [parse_limit(text) for text in limits])
    if len(bounds) < len(parsed):
        raise MfsynthError("--limit: one score has two; give one of each")
    store = ObjectStore.open(url)
    done = make_view(store, name, Rules(bounds, duplicates_within, max_per_prompt), replace=replace)
    view = done.view
    echo(
        f"{store.url}: view {name}: {view.pairs} pairs of {view.shards} shards "
        f"({view.rules.text()})"
    )
    echo(
        f"accepted by the run: {done.accepted}"
        + (f", of which are left out by {counts(view.left_out)}" if view.left_out else "")
    )
    if view.returned:
        echo(f"rejected by the run, and back: {view.returned}")
    if done.without_pixels:
        echo(
            f"{', '.join(done.without_pixels)}: looser than the run's own limit, but the run kept "
            "no pixels of what it rejected (keep_rejects: all), so none comes back"
        )
    if not view.pairs:
        echo(f"warning: no pair is in view {name}; give other limits, and --replace", err=True)
    if done.shards > view.shards:
        echo(
            f"{done.shards - view.shards} shards are committed behind one that is not, and not in "
            "the view; --replace makes it anew"
        )
