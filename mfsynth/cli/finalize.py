"""`mfsynth finalize`: the documents that a data set is given away with."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("url")
@click.option("--view", metavar="NAME", help="Of a view (mfsynth refilter) instead of the run.")
def finalize(url: str, view: str | None) -> None:
    """Write manifest.json, croissant.json and README.md of the run at URL.

    Those of a view, and its rows as pairs.parquet, go into _views/NAME/.
    """
    from mfsynth.shards.finalize import finalize as write_documents
    from mfsynth.shards.view_documents import finalize_view
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    for key in write_documents(store) if view is None else finalize_view(store, view):
        echo(f"{store.url}/{key}")
