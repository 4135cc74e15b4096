"""The tables of a shard, its index and its rejects, as Parquet.

The schema follows from the declared names of slots and scores alone, never from the rows, so all
shards of a run have one schema, also those without a row. `run.json` describes it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mfsynth.shards.columns import (
    ADDED,
    INDEX,
    PREFIXES,
    REJECT_PIXELS,
    REJECTS,
    Column,
    PlacedReject,
    PlacedSample,
    added_member,
    of_pixels,
)
from mfsynth.shards.labels import suffix_of
from mfsynth.shards.layout import WRITTEN_VERSIONS, Member, members_of, others_of
from mfsynth.shards.quantisation import FORMULAS
from mfsynth.shards.records import CandidateRef, Reject

SLOT_PREFIX, SCORE_PREFIX = PREFIXES

_METADATA = {
    "mfsynth.depth": "; ".join(f"{scale}: {formula}" for scale, formula in FORMULAS.items()),
    "mfsynth.camera": "OpenCV axes (x right, y down, z forward), integer pixel centres, z-depth",
}

# As `run.json` names them.
_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint32": pa.uint32(),
    "float64": pa.float64(),
    "binary": pa.binary(),
    "list of string": pa.list_(pa.string()),
    "list of float64": pa.list_(pa.float64()),
}

_SLOT_TYPE = "list of string"

# Rows that are taken at once.
_PIECE = 2**15

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Declared:
    """What the tables of one run have a column for, and those of another one don't.

    Attributes:
        scores: Names of the scores of its checks.
        slots: Names of the slots of its prompts.
        added: Those of `columns.ADDED` that it has.
        format_version: Of the run.
        keeps_rejects: Whether the pixels of rejected pairs are kept, too.
        others: Members that are files of its source's samples and have no meaning here.
    """

    scores: Sequence[str] = ()
    slots: Sequence[str] = ()
    added: Collection[str] = ()
    format_version: int | str = WRITTEN_VERSIONS[0]
    keeps_rejects: bool = False
    others: Sequence[str] = ()

    @property
    def members(self) -> dict[str, Member]:
        """Of its samples, in their order."""
        return members_of([*self.added, *(column.name for column in _other_columns(self))])

    @classmethod
    def by(
        cls,
        columns: Iterable[str],
        format_version: int | str = WRITTEN_VERSIONS[0],
        reject_columns: Iterable[str] = (),
    ) -> Declared:
        """What the names of all columns of a table say; of an index, with those of the rejects."""
        names = [*columns]
        return cls(
            scores=[n.removeprefix(SCORE_PREFIX) for n in names if n.startswith(SCORE_PREFIX)],
            slots=[n.removeprefix(SLOT_PREFIX) for n in names if n.startswith(SLOT_PREFIX)],
            added=[n for n in names if n in ADDED],
            format_version=format_version,
            keeps_rejects="rgb_offset" in reject_columns
            or {"outcome", "rgb_offset"}.issubset(names),
            others=others_of(names),
        )


PLAIN = Declared()
"""Of a run without any of it."""


def contents_of_run(
    scores: Mapping[str, str],
    slots: Iterable[str] = (),
    added: Collection[str] = (),
    *,
    keeps_rejects: bool = False,
    others: Sequence[str] = (),
) -> dict[str, list[dict[str, Any]]]:
    """What `run.json` says that the shards of a run hold, for readers without mfsynth.

    Args:
        scores: By name, what is measured, in a line.
        slots: Names of the slots of its prompts.
        added: Those of `columns.ADDED` that it has.
        keeps_rejects: Whether the pixels of rejected pairs are kept.
        others: As of `Declared`.

    Returns:
        `members` of a sample; `columns` of the index and `reject_columns` of the rejects.
    """
    run = Declared(added=added, keeps_rejects=keeps_rejects, others=others)
    members = [
        {"name": name, "suffix": member.suffix, "meaning": member.meaning}
        for name, member in run.members.items()
    ]
    declared = [
        _described(f"{SLOT_PREFIX}{name}", _SLOT_TYPE, f"what the prompt took for {name}", False)
        for name in slots
    ]
    declared += [
        _described(f"{SCORE_PREFIX}{name}", "float64", note or "score of a check", True)
        for name, note in scores.items()
    ]
    return {
        "members": members,
        "columns": [*map(_describe, _index_columns(run)), *declared],
        "reject_columns": [*map(_describe, _reject_columns(run)), *declared],
    }


def has_columns(schema: pa.Schema, columns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a schema is the one that `run.json` describes.

    Types that a later mfsynth has invented are taken for right.
    """
    return [(field.name, field.nullable) for field in schema] == [
        (column["name"], column.get("nullable")) for column in columns
    ] and all(
        field.type == _TYPES.get(column["type"], field.type)
        for field, column in zip(schema, columns, strict=True)
    )


def described_schema(columns: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """The schema that `run.json` describes, as far as the types are known."""
    return pa.schema(
        pa.field(column["name"], _TYPES[column["type"]], nullable=bool(column.get("nullable")))
        for column in columns
        if column["type"] in _TYPES
    )


def has_fields(schema: pa.Schema, known: pa.Schema) -> bool:
    """Whether a schema has all fields of another one, whatever else a later mfsynth has added."""
    places = {field.name: schema.get_all_field_indices(field.name) for field in known}
    return all(
        len(places[field.name]) == 1 and schema.field(places[field.name][0]) == field
        for field in known
    )


def index_schema(declared: Declared, *, first_version: bool = False) -> pa.Schema:
    """Schema of `index/*.parquet`.

    Args:
        declared: Slots are `slot_<name>`, a list of string; scores `check_<name>`, float64, null
            where the check abstained.
        first_version: Only what format version 1 has, as every later version, too.
    """
    return _schema(_index_columns(declared), declared, first_version)


def rejects_schema(declared: Declared, *, first_version: bool = False) -> pa.Schema:
    """Schema of `rejects/*.parquet`; `outcome` is `rejected` or `quarantined`."""
    return _schema(_reject_columns(declared), declared, first_version)


def index_row(placed: PlacedSample, declared: Declared) -> dict[str, Any]:
    """The index's row of a sample."""
    columns = _index_columns(declared)
    return _row(columns, placed, placed.sample.ref, placed.sample.scores)


def reject_row(placed: PlacedReject, declared: Declared) -> dict[str, Any]:
    """The rejects' row of a candidate that gave no sample."""
    record = placed.record
    columns = _reject_columns(declared)
    return _row(columns, placed, record.ref, record.scores if isinstance(record, Reject) else {})


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as one Parquet file; a column that a row lacks is null."""
    write_parquet(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), path)


def write_parquet(
    table: pa.Table, sink: Path | pa.NativeFile, rows_a_group: int | None = None
) -> None:
    """Write a table as one Parquet file; its groups have so many rows, or as Arrow has them."""
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        # A row group without a row is more than `datasets` can read.
        if len(table):
            writer.write_table(table, row_group_size=rows_a_group)


def take_rows(table: pa.Table, numbers: NDArray[np.int64]) -> pa.Table:
    """Rows of these numbers, in this order.

    By chunks: `Table.take` first makes one array of each column, of at most 2 GiB of text.
    """
    batches = table.to_batches()
    ends = np.cumsum([len(batch) for batch in batches])
    pieces = range(0, len(numbers), _PIECE)
    taken = [_take(batches, ends, numbers[start : start + _PIECE]) for start in pieces]
    return pa.concat_tables(taken) if taken else table.slice(0, 0)


def _take(
    batches: Sequence[pa.RecordBatch], ends: NDArray[np.int64], numbers: NDArray[np.int64]
) -> pa.Table:
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    owners = np.searchsorted(ends, ascending, side="right")
    found, firsts = np.unique(owners, return_index=True)
    parts = [
        batches[owner].take(pa.array(rows - (ends[owner] - len(batches[owner]))))
        for owner, rows in zip(found, np.split(ascending, firsts[1:]), strict=True)
    ]
    return pa.Table.from_batches(parts).take(pa.array(np.argsort(order)))


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Scores in a row of either table, by name; NaN where the check abstained."""
    return {
        name: math.nan if (value := row[column]) is None else value
        for column, name in _with_prefix((*row,), SCORE_PREFIX)
    }


def slots_of(row: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What the prompt of a row of either table took, by the names of the slots.

    In a table of several runs, slots are null in the rows of a run that hasn't them.
    """
    return {
        name: tuple(taken)
        for column, name in _with_prefix((*row,), SLOT_PREFIX)
        if (taken := row[column]) is not None
    }


@lru_cache(maxsize=64)
def _with_prefix(columns: tuple[str, ...], prefix: str) -> tuple[tuple[str, str], ...]:
    """Columns that begin so, each with the rest of its name."""
    return tuple((c, c.removeprefix(prefix)) for c in columns if c.startswith(prefix))


def _in(added: Collection[str], columns: Iterable[Column[_T]]) -> list[Column[_T]]:
    """Those of a run that has these beside what every run has."""
    return [column for column in columns if column.in_every_run or column.name in added]


def _other_columns(declared: Declared) -> list[Column[PlacedSample]]:
    return [c for name in declared.others for c in added_member(name, suffix_of(name))]


def _index_columns(declared: Declared) -> list[Column[PlacedSample]]:
    return _in(declared.added, INDEX) + _other_columns(declared)


def _reject_columns(declared: Declared) -> list[Column[PlacedReject]]:
    if not declared.keeps_rejects:
        return _in(declared.added, REJECTS)
    pixels = _in(declared.added, REJECT_PIXELS)
    return _in(declared.added, REJECTS) + pixels + [*of_pixels(_other_columns(declared))]


def _schema(columns: Sequence[Column[Any]], declared: Declared, first_version: bool) -> pa.Schema:
    fields = [
        pa.field(c.name, _TYPES[c.type], nullable=c.nullable)
        for c in columns
        if c.in_first_version or not first_version
    ]
    fields += [
        pa.field(f"{SLOT_PREFIX}{name}", _TYPES[_SLOT_TYPE], nullable=False)
        for name in declared.slots
    ]
    fields += [pa.field(f"{SCORE_PREFIX}{name}", pa.float64()) for name in declared.scores]
    version = {"mfsynth.format_version": str(declared.format_version)}
    return pa.schema(fields, metadata=version | _METADATA)


def _describe(column: Column[Any]) -> dict[str, Any]:
    return _described(column.name, column.type, column.meaning, column.nullable)


def _described(name: str, kind: str, meaning: str, nullable: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": nullable, "meaning": meaning}


def _row(
    columns: Sequence[Column[_T]], placed: _T, ref: CandidateRef, scores: Mapping[str, float]
) -> dict[str, Any]:
    return (
        {column.name: column.value(placed) for column in columns}
        | {f"{SLOT_PREFIX}{name}": [*taken] for name, taken in ref.slots.items()}
        | {
            # Null, not NaN: it is what every reader of Parquet counts as "no value".
            f"{SCORE_PREFIX}{name}": None if math.isnan(score) else float(score)
            for name, score in scores.items()
        }
    )
