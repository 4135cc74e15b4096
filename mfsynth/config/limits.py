"""How much a file may unfold to: a kilobyte of somebody else's can be gigabytes of memory.

Each limit is a variable of the environment, as `MFSYNTH_MAX_PIXELS=300000000`: whoever reads a file
sets it, never the file. On a Ray cluster it is that of the nodes.
"""

from __future__ import annotations

import os
from enum import Enum

from mfsynth.errors import MfsynthError


class Limit(Enum):
    """What is limited: the variable, and how much is taken unless it is set."""

    PIXELS = ("MFSYNTH_MAX_PIXELS", 2**26)
    """Of an image or a depth map: 8192x8192."""
    BYTES = ("MFSYNTH_MAX_BYTES", 2**29)
    """Of a text or a table of prompts, or a member of a tar, after decompression."""
    ROWS = ("MFSYNTH_MAX_ROWS", 10_000_000)
    """Of a table."""
    FILES = ("MFSYNTH_MAX_FILES", 1_000_000)
    """That braces in a pattern count up to."""

    @property
    def variable(self) -> str:
        """Of the environment."""
        return str(self.value[0])

    @property
    def most(self) -> int:
        """The limit.

        Raises:
            MfsynthError: The variable is no number.
        """
        given = os.environ.get(self.variable)
        if not given:
            return int(self.value[1])
        if not given.isdecimal() or not given.isascii() or len(given) > 18 or not int(given):
            raise MfsynthError(f"{self.variable}={given}: must be a whole number above 0")
        return int(given)

    def refusal(self, where: str, what: str) -> MfsynthError:
        """The error about something that is beyond the limit.

        Args:
            where: The file.
            what: The beginning of a sentence, such as "an image of 9000x9000 pixels".
        """
        return MfsynthError(
            f"{where}: {what}, the limit is {self.most}; if it is meant to be so large, set "
            f"{self.variable}"
        )
