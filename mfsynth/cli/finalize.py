"""`mfsynth finalize`: the documents that a data set is given away with."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("url")
@click.option("--energon", is_flag=True, help="Also what Megatron-Energon reads: .nv-meta/, idx.")
def finalize(url: str, energon: bool) -> None:
    """Write manifest.json, croissant.json and README.md of the run at URL.

    What Energon reads is written anew from then on, with or without --energon.
    """
    from mfsynth.shards.finalize import finalize as write_documents
    from mfsynth.storage.store import ObjectStore

    store = ObjectStore.open(url)
    for key in write_documents(store, energon=energon):
        echo(f"{store.url}/{key}")
