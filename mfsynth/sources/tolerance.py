"""How much of a source may be broken: left out with a count and a reason, up to a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mfsynth.errors import MfsynthError

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was left out.

    Attributes:
        name: Of the item.
        reason: One line, with what to do.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A limit.

    Attributes:
        share: Of the items; of few items, one may be left out at any share above 0.
    """

    share: float = 0.01

    def most(self, count: int) -> int:
        """How many of `count` items may be left out."""
        return math.ceil(self.share * count)

    def require(self, skipped: Sequence[Skipped], count: int) -> None:
        """Refuse more than the limit.

        Args:
            skipped: What was left out of a source.
            count: How many items it has, with these.

        Raises:
            MfsynthError: There are more; says why the first ones were left out.
        """
        if len(skipped) <= self.most(count):
            return
        reasons = list(dict.fromkeys(one.reason for one in skipped))
        more = len(reasons) - _SHOWN
        said = "; ".join(reasons[:_SHOWN]) + (f"; and {more} more reasons" if more > 0 else "")
        if len(skipped) == 1 and not self.share:
            raise MfsynthError(said)
        raise MfsynthError(
            f"{said}; {len(skipped)} of {count} items can't be used, and max_skipped allows "
            f"{self.most(count)}"
        )


STRICT = Tolerance(0)
"""What the first broken item is an error for."""
