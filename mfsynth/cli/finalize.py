"""`mfsynth finalize`: the documents that a data set is given away with."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("url")
@click.option("--view", metavar="NAME", help="Of a view (mfsynth refilter) instead of the run.")
@click.option("--energon", is_flag=True, help="Also what Megatron-Energon reads: .nv-meta/, idx.")
def finalize(url: str, view: str | None, energon: bool) -> None:
    """Write manifest.json, croissant.json and README.md of the run at URL.

    Those of a view, and its rows as pairs.parquet, go into _views/NAME/. What Energon reads is of
    the run, and is written anew from then on, with or without --energon.
    """
    from mfsynth.shards.finalize import finalize as write_documents
    from mfsynth.shards.view_documents import finalize_view
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    if view is not None and energon:
        raise click.UsageError("--energon is of the run; leave --view or --energon out")
    written = (
        write_documents(store, energon=energon) if view is None else finalize_view(store, view)
    )
    for key in written:
        echo(f"{store.url}/{key}")
