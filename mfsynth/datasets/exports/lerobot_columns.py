"""Columns that pairs bring from frames of LeRobot data sets: which an export can have of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.errors import MfsynthError
from mfsynth.shards.frame_columns import FRAME, FrameColumn, decode_frame
from mfsynth.shards.labels import member_of
from mfsynth.shards.layout import OFFSET, run_of

_MEMBER = member_of(FRAME)


@dataclass(frozen=True, slots=True)
class Shared:
    """What pairs have in common.

    Attributes:
        columns: Of all pairs, by name; without names of components where these differ.
        others: Names of those that only some have, or in several types or shapes.
    """

    columns: Mapping[str, FrameColumn]
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: Pairs, own: Collection[str]) -> Shared:
        """That of pairs, by the first of each run: frames of one data set have the same.

        Args:
            pairs: Of the export.
            own: Names that the export has for columns of its own.

        Raises:
            MfsynthError: A file of columns is none, or can't be read.
        """
        if not has_columns(pairs):
            return cls({})
        first: dict[str, int] = {}
        everywhere = True
        for number, row in enumerate(pairs.rows(["sample_id", f"{_MEMBER}{OFFSET}"])):
            if row[f"{_MEMBER}{OFFSET}"] is None:
                everywhere = False
            else:
                first.setdefault(run_of(row["sample_id"]), number)
        numbers = [*first.values()]
        found = [_decoded(frame)[0] for frame in pairs.with_labels(True).frames(numbers)]
        known = dict.fromkeys(name for one in found for name in one if name not in own)
        if not everywhere:
            return cls({}, tuple(known))
        columns = reduce(_common, found) if found else {}
        shared = {name: column for name, column in columns.items() if name not in own}
        return cls(shared, tuple(name for name in known if name not in shared))

    def values(self, frame: Frame) -> dict[str, NDArray[Any]]:
        """Those of a pair.

        Raises:
            MfsynthError: It has others than the first of its run.
        """
        if not self.columns:
            return {}
        columns, values = _decoded(frame)
        for name, column in self.columns.items():
            if name not in columns or not _alike(columns[name], column):
                raise MfsynthError(
                    f"{frame.sample.sample_id}: its {FRAME} has no {name} of {column.dtype} "
                    f"{[*column.shape]}, as others of its run have; leave it out, or set columns="
                    "false"
                )
        return {name: values[name] for name in self.columns}


def has_columns(pairs: Pairs) -> bool:
    """Whether any of the runs has a place for them."""
    return f"{_MEMBER}{OFFSET}" in pairs.schema.names


def arrow_type(column: FrameColumn) -> pa.DataType:
    """Of a column as LeRobot's readers expect it: [1] is a value alone."""
    plain = pa.string() if column.is_text else pa.from_numpy_dtype(np.dtype(column.dtype))
    if len(column.shape) == 1:
        return plain if column.shape == (1,) else pa.list_(plain, column.shape[0])
    for _ in column.shape:
        plain = pa.list_(plain)
    return plain


def _common(these: dict[str, FrameColumn], those: dict[str, FrameColumn]) -> dict[str, FrameColumn]:
    return {
        name: column if column.names == those[name].names else replace(column, names=None)
        for name, column in these.items()
        if name in those and _alike(column, those[name])
    }


def _alike(one: FrameColumn, other: FrameColumn) -> bool:
    return (one.dtype, one.shape) == (other.dtype, other.shape)


def _decoded(frame: Frame) -> tuple[dict[str, FrameColumn], dict[str, NDArray[Any]]]:
    data = frame.sample.others.get(FRAME)
    try:
        if data is None:
            raise ValueError(f"no {FRAME}")
        return decode_frame(data)
    except ValueError as error:
        raise MfsynthError(
            f"{frame.sample.sample_id}: {error}; leave it out, or set columns=false"
        ) from error
