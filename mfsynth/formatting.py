"""Numbers as people read them, rows of tables, and text of others as a terminal may have it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

# What moves a cursor, clears a screen or sets a title (C0, C1), what turns the direction of writing
# or breaks lines unseen, and halves of characters, which nothing can encode.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LINES = str.maketrans({"\n": "\\n", "\t": "\\t"})


def printable(text: str) -> str:
    r"""`text` with its control characters shown as `\u001b`, not sent; lines stay lines.

    JSON stays the same JSON.
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str, length: int | None = None) -> str:
    r"""`printable` text in one line; `\n` says where it had more.

    Args:
        text: Anybody's.
        length: Most characters; what is longer is cut in the middle.
    """
    if length is not None and len(text) > length:
        # Cut first: a text may have gigabytes.
        text = f"{text[: length // 2]} … {text[-(length // 2) :]}"
    return printable(text).translate(_LINES)


def shell_line(*words: object) -> str:
    """A command to copy into a shell, whatever characters its words have."""
    return one_line(shlex.join(map(str, words)))


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes in powers of ten: `640 B`, `1.5 MB`, `2.0 TB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def by_shards(numbers: Mapping[str, int], limit: int = 8) -> str:
    """`NVIDIA H100 (12 shards), AMD EPYC (1 shard)`; of one thing its name alone."""
    if len(numbers) == 1:
        return next(iter(numbers))
    named = [f"{name} ({n} shard{'' if n == 1 else 's'})" for name, n in numbers.items()]
    return first_of(named, limit)


def counts(numbers: Mapping[str, int], limit: int = 8) -> str:
    """`registration 7, validity 2 and 3 more`, in the order given."""
    return first_of([f"{name} {number}" for name, number in numbers.items()], limit)


def first_of(names: Sequence[str], limit: int) -> str:
    """`photo, place, loads and 20 more`, in the order given."""
    shown = one_line(", ".join(names[:limit]))
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def table_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table; a bar in a cell doesn't end it."""
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
