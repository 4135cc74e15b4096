"""`mfsynth finalize`: the documents that a data set is given away with."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("url")
def finalize(url: str) -> None:
    """Write manifest.json, croissant.json and README.md of the run at URL."""
    from mfsynth.shards.finalize import finalize as write_documents
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    for key in write_documents(store):
        echo(f"{store.url}/{key}")
