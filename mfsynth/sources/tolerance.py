"""How much of a source may be broken: left out with a count and a reason, up to a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mfsynth.errors import MfsynthError

_SHOWN = 3
_Part = TypeVar("_Part")
_Read = TypeVar("_Read")


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

    def require(self, skipped: Sequence[Skipped], count: int, what: str = "items") -> None:
        """Refuse more than the limit.

        Args:
            skipped: What was left out of a source.
            count: How many items it has, with these.
            what: They are, for people.

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
            f"{said}; {len(skipped)} of {count} {what} can't be used, and max_skipped allows "
            f"{self.most(count)}"
        )

    def readable(
        self, parts: Sequence[_Part], read: Callable[[_Part], _Read], name: Callable[[_Part], str]
    ) -> tuple[list[tuple[_Part, _Read]], list[Skipped]]:
        """Files that a source has many of, those that can't be read left out.

        Args:
            parts: The files.
            read: What is to be known of one when the source is opened.
            name: Of one, for messages.

        Returns:
            Each part that can be read, with what was read; and what was left out.

        Raises:
            MfsynthError: More than the limit can't be read; or none can, which is a matter of
                settings.
        """
        found: list[tuple[_Part, _Read]] = []
        skipped: list[Skipped] = []
        for part in parts:
            try:
                found.append((part, read(part)))
            except MfsynthError as error:
                skipped.append(Skipped(name(part), str(error)))
        if skipped and not found:
            raise MfsynthError(skipped[0].reason)
        self.require(skipped, len(parts), "files")
        return found, skipped


STRICT = Tolerance(0)
"""What the first broken item is an error for."""
