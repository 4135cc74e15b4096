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


class PairCount(click.IntRange):
    """A number of pairs: an integer of at least 1."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} must be an integer of at least 1, in digits: 1000000", param, ctx)


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
