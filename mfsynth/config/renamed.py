"""Settings that have another name now. The earlier one is understood for one minor version more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from mfsynth.errors import RenamedWarning

# By the earlier name: what to write instead of its value, and the first version without it.
RENAMED: Final[Mapping[str, tuple[Callable[[Any], str], str]]] = {
    "keep_reject_thumbnails": (
        lambda value: f"keep_rejects: {'none' if value is False else 'thumbnails'}",
        "0.3",
    ),
}


def warn_of_earlier_names(
    values: Mapping[Any, Any], where: str, overridden: Collection[str] = ()
) -> None:
    """Warn of each setting that is given by an earlier name.

    Args:
        values: Settings as they were given.
        where: Their file; "" for none.
        overridden: Those of them that come from the command line.
    """
    for name, (instead, last) in RENAMED.items():
        if name in values:
            told = f"{name} is an earlier name, which {last} won't know"
            text = f"{told}; write {instead(values[name])}"
            place = "--set" if name in overridden else where
            warnings.warn(f"{place}: {text}" if place else text, RenamedWarning, stacklevel=4)
