"""Keeping the credentials that a URL may hold out of everything that is shown or stored."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote

# A password may hold an unescaped slash, as AWS secrets do, or an @; a path with both a colon and
# an @ is rarer, and showing too little of it is the lesser harm.
# What stands before the @ of Azure's URLs is a container.
_USER_INFO = re.compile(r"(?<!\w)(?!(?:az|abfss?|adl)://)(\w[\w+.-]*://)([^/\s]*|[^/\s:]*:\S*)@")
# In an object store's URL a ? is a character of names, unless name=value follows it.
_BUCKET = r"(?:s3a?|gs|gcs|az|abfss?|adl|memory)://"
_QUERY = re.compile(
    rf"((?<!\w)(?P<bucket>{_BUCKET})\S*?|(?<!\w)(?!{_BUCKET})\w[\w+.-]*://[^\s?]*)"
    r"\?(?P<query>(?(bucket)(?:[^\s?]*&)?[^\s/?=&]*=)\S*)"
)
# A path with raw spaces looks as if it ended at the first; what looks like a query after it is one.
_QUERY_AFTER_SPACES = re.compile(
    r"((?<!\w)\w[\w+.-]*://[^?\n]*\s[^?\n]*)\?(?P<query>[^\s/?=&]+=\S*)"
)
_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
)
_IN_CONNECTION_STRING = re.compile(r"(?:AccountKey|SharedAccessSignature)=([^;]+)")


def without_credentials(text: str) -> str:
    """`text` with the user, password and query of every URL in it taken out."""
    without_users = _USER_INFO.sub(r"\1", text)
    return _QUERY_AFTER_SPACES.sub(r"\1", _QUERY.sub(r"\1", without_users))


def redacted(text: str, url: str) -> str:
    """`text` without credentials: those of every URL in it, of `url` and of the environment."""
    text = without_credentials(text)
    for secret in secrets_of(url):
        text = text.replace(secret, "***")
    return text


def secrets_of(url: str) -> Sequence[str]:
    """What must not be seen of a URL or of the environment.

    Those of the URL come longest first: in that order no replacement leaves the tail of a longer
    secret.
    """
    found: set[str] = set()
    if user_info := _USER_INFO.match(url):
        # Where a path holds an @, too, what stands before an earlier one is it.
        parts = user_info[2].split("@")
        for some in ("@".join(parts[:end]) for end in range(1, len(parts) + 1)):
            found |= {some, *some.split(":", 1)}
    for match in filter(None, (_QUERY.match(url), _QUERY_AFTER_SPACES.match(url))):
        query = match["query"]
        # Short values are flags and numbers; striking them out would garble the message.
        found |= {query, *(v for _, v in parse_qsl(query) if len(v) > 3)}
    of_url = sorted((found | {unquote(text) for text in found}) - {""}, key=len, reverse=True)
    of_environment = [*filter(None, (os.environ.get(name, "") for name in _VARIABLES))]
    inside = [key for text in of_environment for key in _IN_CONNECTION_STRING.findall(text)]
    return [*of_url, *of_environment, *inside]
