"""Keeping the credentials that a URL may hold out of everything that is shown or stored."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

# A password may hold an unescaped slash, as AWS secrets do; a path with both a colon and an @ is
# rarer, and showing too little of it is the lesser harm.
_USER_INFO = re.compile(r"(\w[\w+.-]*://)([^/\s@]*|[^/\s:]*:[^\s@]*)@")
_QUERY = re.compile(r"(\w[\w+.-]*://[^\s?]*)\?(\S*)")


def without_credentials(text: str) -> str:
    """`text` with the user, password and query of every URL in it taken out."""
    return _QUERY.sub(r"\1", _USER_INFO.sub(r"\1", text))


def secrets_in(url: str) -> list[str]:
    """What must not be seen of a URL, longest first.

    In that order no replacement leaves the tail of a longer secret.
    """
    found: set[str] = set()
    if user_info := _USER_INFO.match(url):
        found |= {user_info[2], *user_info[2].split(":", 1)}
    if query := _QUERY.match(url):
        # Short values are flags and numbers; striking them out would garble the message.
        found |= {query[2], *(v for _, v in parse_qsl(query[2]) if len(v) > 3)}
    return sorted((found | {unquote(text) for text in found}) - {""}, key=len, reverse=True)
