"""Parts of a data set that stay what they are when it grows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from numbers import Real

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError


def split_rows(
    index: pa.Table, shares: Mapping[str, float], by: str
) -> dict[str, NDArray[np.int64]]:
    """The rows of each part, in rising order; see `RGBDDataset.split`.

    A value's place in [0, 1) is a hash of it; parts take intervals of it in their order.
    """
    if by not in index.column_names:
        raise MfsynthError(f"split: no column {by!r:.80}; take prompt_id or sample_id")
    if pa.types.is_nested(index.schema.field(by).type):
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
    encoded = index.column(by).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    places = np.array([_place(value) for value in encoded.dictionary.to_pylist()], np.float64)
    of_rows = places[encoded.indices.to_numpy()] if len(index) else places
    # The last of the parts has all if they come to 1, whatever the rounding.
    ends = np.minimum(np.cumsum(sizes), 1.0)
    ends[-1] = 1.0 if math.fsum(sizes) > 1 - 1e-9 else ends[-1]
    part = np.searchsorted(ends, of_rows, side="right")
    return {name: np.flatnonzero(part == i) for i, name in enumerate(shares)}


def _place(value: object) -> float:
    digest = blake2b(str(value).encode(), digest_size=8, person=b"mfsynth split").digest()
    return int.from_bytes(digest, "big") / 2**64
