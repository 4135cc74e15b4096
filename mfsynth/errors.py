"""The one exception that a user is meant to read."""

from __future__ import annotations


class MfsynthError(Exception):
    """Something the user can mend.

    The message is one line: what is wrong, where (a path, a key, a URL), and what to do. The
    command line prints it without a traceback and exits with status 1.
    """
