"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping


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


def counts(numbers: Mapping[str, int], limit: int = 8) -> str:
    """`registration 7, validity 2 and 3 more`, in the order given."""
    shown = ", ".join(f"{name} {number}" for name, number in [*numbers.items()][:limit])
    return shown + (f" and {len(numbers) - limit} more" if len(numbers) > limit else "")
