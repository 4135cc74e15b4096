"""Parts of a data set that stay what they are when it grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from numbers import Real

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError

TOGETHER = ("scene", "episode", "source", "prompt_id")
"""What pairs are alike that have it in common; of a pair the first counts that it has."""


def split_rows(
    index: pa.Table,
    shares: Mapping[str, float],
    by: str | None = None,
    chosen: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """The rows of each part, in rising order; see `RGBDDataset.split`.

    A value's place in [0, 1) is a hash of it; parts take intervals of it in their order.

    Args:
        index: Of all rows.
        shares: Of each part.
        by: The column; a row without a value goes by its `sample_id`. None for `TOGETHER`.
        chosen: Which rows are split, in this order; None for all.

    Raises:
        MfsynthError: Shares are not positive, or come to more than 1; or there is no such column,
            or its values are lists.
    """
    if by is not None and by not in index.column_names:
        raise MfsynthError(f"split: no column {by!r:.80}; take prompt_id or sample_id")
    if by is not None and pa.types.is_nested(index.schema.field(by).type):
        raise MfsynthError(f"split: {by} is a list; take prompt_id or sample_id")
    sizes = [*shares.values()]
    are_numbers = all(isinstance(s, Real) and not isinstance(s, bool) for s in sizes)
    if (
        not (sizes and are_numbers)
        or not all(0 < size <= 1 for size in sizes)
        or math.fsum(sizes) > 1 + 1e-9
    ):
        raise MfsynthError(
            f"split: shares are {dict(shares)}; give positive numbers that come to at most 1"
        )
    names = TOGETHER if by is None else (by, "sample_id")
    of_rows = _places(index, [name for name in names if name in index.column_names], chosen)
    # The last of the parts has all if they come to 1, whatever the rounding.
    ends = np.minimum(np.cumsum(sizes), 1.0)
    ends[-1] = 1.0 if math.fsum(sizes) > 1 - 1e-9 else ends[-1]
    part = np.searchsorted(ends, of_rows, side="right")
    return {name: np.flatnonzero(part == i) for i, name in enumerate(shares)}


def _places(
    index: pa.Table, names: Sequence[str], chosen: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Of each row the place of its value in the first of these columns where it has one."""
    places = np.full(len(index) if chosen is None else len(chosen), np.nan)
    for name in names:
        if not (missing := np.isnan(places)).any():
            break
        column = index.column(name)
        encoded = (column if chosen is None else column.take(chosen)).combine_chunks()
        encoded = encoded.dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = encoded.dictionary.to_pylist()
        # The last is that of no value.
        of_values = np.array([*map(_place, values), np.nan])
        found = of_values[encoded.indices.fill_null(len(values)).to_numpy()]
        places = np.where(missing, found, places)
    return places


def _place(value: object) -> float:
    # A number that is none is missing as well.
    if value != value:
        return math.nan
    digest = blake2b(str(value).encode(), digest_size=8, person=b"mfsynth split").digest()
    return int.from_bytes(digest, "big") / 2**64
