"""Options that several commands have."""

from __future__ import annotations

import click

metres_per_unit = click.option(
    "--metres-per-unit",
    type=click.FloatRange(min=0, min_open=True),
    help="Makes metres of depth that is relative.",
)
assume_fov = click.option(
    "--assume-fov",
    type=click.FloatRange(min=0, max=180, min_open=True, max_open=True),
    help="Horizontal field of view, in degrees, of pairs without a camera.",
)
