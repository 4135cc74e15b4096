"""Options that several commands have."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A range of numbers that nan and infinity aren't of."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See click."""
        number = float(super().convert(value, param, ctx))
        return number if math.isfinite(number) else self.fail(f"{value!r} is no number", param, ctx)


metres_per_unit = click.option(
    "--metres-per-unit",
    type=FiniteRange(min=0, min_open=True),
    help="Makes metres of depth that is relative.",
)
assume_fov = click.option(
    "--assume-fov",
    type=FiniteRange(min=0, max=180, min_open=True, max_open=True),
    help="Horizontal field of view, in degrees, of pairs without a camera.",
)
