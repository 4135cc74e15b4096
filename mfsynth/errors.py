"""The one exception that a user is meant to read."""

from __future__ import annotations

from mfsynth.formatting import one_line

_LONGEST = 2000
"""Characters of a message: file names, columns and texts in it may be somebody else's."""


class MfsynthError(Exception):
    """Something the user can mend.

    The message is one line: what is wrong, where (a path, a key, a URL), and what to do. Whatever
    it was made of, it sends no control characters and has an end. The command line prints it
    without a traceback and exits with status 1.
    """

    def __str__(self) -> str:
        return one_line(super().__str__(), _LONGEST)


class RenamedWarning(FutureWarning):
    """Something is asked for by an earlier name, which a later version won't know."""
