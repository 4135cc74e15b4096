"""`mfsynth model`: look at a model, convert a released checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfsynth.cli.local_paths import LocalPath
from mfsynth.cli.output import echo

if TYPE_CHECKING:
    from mfsynth.models.inspection import ComponentSummary

_REVISION = click.option("--revision", help="Revision of a hub id. [default: the newest]")


@click.group()
def model() -> None:
    """Look at a model, or convert a released checkpoint."""


@model.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=LocalPath(is_folder=True))
@click.option(
    "--text-encoder",
    default="Qwen/Qwen3-8B",
    show_default=True,
    metavar="FOLDER|ID",
    help="Text encoder with its tokenizer, copied into DST.",
)
@click.option("--licence", help="Licence of the weights, where SRC has no card that says it.")
@_REVISION
@click.option(
    "--shard-size",
    default="1GB",
    show_default=True,
    metavar="SIZE",
    help="Weights in one file; as much is held in memory.",
)
def convert(
    source: str,
    destination: Path,
    text_encoder: str,
    licence: str | None,
    revision: str | None,
    shard_size: str,
) -> None:
    """Convert a released checkpoint to a diffusers folder.

    SRC is a folder, a model.safetensors with its config.json beside it, or a hub id; DST is a
    folder that does not exist yet.
    """
    from mfsynth.models.conversion import convert as convert_checkpoint

    convert_checkpoint(
        source,
        destination,
        text_encoder=text_encoder,
        licence=licence,
        revision=revision,
        max_shard_size=shard_size,
        report=echo,
    )
    echo(f"model: {destination}")


@model.command()
@click.argument("name", metavar="ID")
@_REVISION
def info(name: str, revision: str | None) -> None:
    """Show what a model is made of, without loading its weights.

    ID is `embedded`, a folder, a released model.safetensors, or a hub id.
    """
    from mfsynth.models.inspection import summarise

    summary = summarise(name, revision)
    layers = ", ".join(str(layer) for layer in summary.text_layers)
    echo(f"id: {summary.id}")
    echo(f"class: {summary.kind} ({summary.layout} layout)")
    echo(f"licence: {summary.licence}")
    echo(f"native size: {summary.width}×{summary.height}")
    echo(f"text: {summary.text_length} tokens, hidden states {layers}")
    for component in summary.components:
        echo(f"{component.name}: {component.kind}, {_weights(component)}")


def _weights(component: ComponentSummary) -> str:
    if component.parameters is None:
        return "weights not among its files"
    return f"{component.parameters:,} parameters, {' and '.join(component.dtypes)}"
