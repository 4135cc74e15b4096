"""Rows of CSV and JSON lines, read strictly: what would have to be guessed is an error."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError

Rows = Iterator[tuple[int, dict[str, Any]]]
"""Each with its line, that it ends in."""


def read_csv(text: str, where: str) -> tuple[list[str], Rows]:
    """Columns and rows of a CSV file with a header; lines without anything are left out.

    Args:
        text: The whole file.
        where: Its path or URL, for the error message.

    Returns:
        The names of the columns, none in an empty file; and the rows, by them.

    Raises:
        MfsynthError: A column has no name or that of another, a row has more or fewer fields than
            there are columns, or it is no CSV; names the line. Those of rows come with them.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = _next(lines, where)
    for number, column in enumerate(columns, start=1):
        if not column.strip():
            raise MfsynthError(
                f"{where}:1: column {number} has no name; give it one, or take it away"
            )
        if columns.index(column) < number - 1:
            raise MfsynthError(f"{where}:1: the column {column!r} is there twice; rename one")
    return columns, _rows(lines, columns, where)


def read_jsonl(text: str, where: str) -> Rows:
    """Objects of a file of JSON lines; lines without text are left out.

    Args:
        text: The whole file.
        where: Its path or URL, for the error message.

    Raises:
        MfsynthError: A line is no JSON, has a key twice, or is no object; names it.
    """
    # Not splitlines(): it also breaks at characters that may stand in a text.
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        try:
            row = strict_json(line)
        except ValueError as error:
            raise MfsynthError(
                f"{where}:{number}: not valid JSON ({error}); mend this line"
            ) from error
        if not isinstance(row, dict):
            raise MfsynthError(f"{where}:{number}: not a JSON object; mend this line")
        yield number, row


def _rows(lines: Any, columns: list[str], where: str) -> Rows:
    while fields := _next(lines, where):
        if len(fields) != len(columns):
            raise MfsynthError(
                f"{where}:{lines.line_num}: {len(fields)} fields, but {len(columns)} columns; put "
                "quotes around a text that has a comma in it, and keep commas for what is empty"
            )
        yield lines.line_num, dict(zip(columns, fields, strict=True))


def _next(lines: Any, where: str) -> list[str]:
    """The next line that has anything; none at the end."""
    try:
        return next((fields for fields in lines if fields), [])
    except csv.Error as error:
        raise MfsynthError(
            f"{where}:{lines.line_num}: not valid CSV: {error}; mend this line"
        ) from error
