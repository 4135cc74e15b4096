"""`mfsynth train`."""

from __future__ import annotations

import click


@click.command()
@click.argument("config", default="embedded")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def train(config: str, overrides: tuple[str, ...]) -> None:
    """Train the model that CONFIG describes, or go on where an interrupted training was.

    CONFIG is a YAML file or the name of one in configs/train/.
    """
    from mfsynth.training.config import load_train_config
    from mfsynth.training.run import train as run_training

    folder = run_training(load_train_config(config, overrides), click.echo)
    click.echo(f"model: {folder}")
