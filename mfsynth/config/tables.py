"""Tables with a header (CSV) without the guesses of the standard library."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mfsynth.errors import MfsynthError


def refuse_repeated_columns(reader: csv.DictReader[str], where: str) -> None:
    """Refuse a header that names a column twice, of which the last would win.

    Raises:
        MfsynthError: It does.
    """
    [*repeated] = (name for name, count in Counter(reader.fieldnames or ()).items() if count > 1)
    if repeated:
        raise MfsynthError(f"{where}: the column {repeated[0]!r} is there twice; rename one")


def refuse_more_fields(reader: csv.DictReader[str], row: Mapping[Any, Any], where: str) -> None:
    """Refuse a row that is longer than the header: a text with a comma would lose its end.

    Raises:
        MfsynthError: It is.
    """
    if reader.restkey in row:
        raise MfsynthError(
            f"{where}:{reader.line_num}: more fields than columns; put quotes around texts that "
            "have a comma in them"
        )
