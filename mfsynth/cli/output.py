"""The one way to a terminal for what commands say."""

from __future__ import annotations

import click

from mfsynth.formatting import printable


def echo(text: str, *, err: bool = False) -> None:
    """Print text, lines as they are; control characters that came with data are shown, not sent.

    Args:
        text: What to say.
        err: Whether to say it on standard error.
    """
    click.echo(printable(text), err=err)
