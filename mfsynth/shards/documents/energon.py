"""What Megatron-Energon (github.com/NVIDIA/Megatron-Energon, 7.4) reads beside the tars.

    .nv-meta/.info.json      tars with samples, in order, and how many each has; written last
    .nv-meta/split.yaml      all of them are `train`
    .nv-meta/dataset.yaml    members are handed over as they are, for a cooker to decode
    .nv-meta/index.sqlite    where each sample and each of its members lies
    .nv-meta/index.uuid      which state this is
    shards/….tar.idx         of a tar: where its samples begin, and where the last one ends

All of it is a function of the receipts and the index.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from mfsynth.shards import layout
from mfsynth.shards.records import Receipt

INFO_KEY = f"{layout.ENERGON_FOLDER}/.info.json"
SQLITE_KEY = f"{layout.ENERGON_FOLDER}/index.sqlite"
UUID_KEY = f"{layout.ENERGON_FOLDER}/index.uuid"
_VERSION = "7.4.0"
# Of a tar: a header, and what sizes are filled up to.
_BLOCK = 512
_LITTLE_ENDIAN = "<u8"
_TABLES = {
    "samples": {
        "tar_file_id": "INTEGER NOT NULL",
        "sample_key": "TEXT NOT NULL UNIQUE",
        "sample_index": "INTEGER NOT NULL",
        "byte_offset": "INTEGER",
        "byte_size": "INTEGER",
    },
    "sample_parts": {
        "tar_file_id": "INTEGER",
        "sample_index": "INTEGER",
        "part_name": "TEXT",
        "content_byte_offset": "INTEGER",
        "content_byte_size": "INTEGER",
    },
}
_INDEXES = {
    "idx_samples_by_tar_and_idx": ("samples", "tar_file_id, sample_index"),
    "idx_sample_parts_seq": ("sample_parts", "tar_file_id, sample_index, content_byte_offset"),
    "idx_sample_parts_full": (
        "sample_parts",
        "tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size",
    ),
}

Row = tuple[int | str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Tar:
    """Where the samples of a tar lie.

    Attributes:
        key: Of the tar.
        ids: N keys of samples.
        starts: (N,) of their first headers.
        ends: (N,) behind their last members.
        parts: By suffix, (N, 2) position and size; -1 where a sample lacks it.
    """

    key: str
    ids: list[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    parts: Mapping[str, NDArray[np.int64]]


class EnergonIndex:
    """What Energon reads of a run, to be written or compared.

    Args:
        receipts: By shard.
        index: The joined index of all of them, in their order.
    """

    def __init__(self, receipts: Mapping[int, Receipt], index: pa.Table) -> None:
        self._tars = [*_tars(receipts, index)]
        hashes = "".join(receipt.objects["tar"].sha256 for receipt in receipts.values())
        self._uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, hashes))

    @property
    def documents(self) -> dict[str, bytes]:
        """All but the database, by their keys, in the order in which they are to be written."""
        counts = {tar.key: len(tar.ids) for tar in self._tars}
        info = {"energon_version": _VERSION, "shard_counts": counts}
        dataset = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
        return {
            **{layout.tar_index_key(tar.key): _offsets(tar) for tar in self._tars},
            UUID_KEY: self._uuid.encode(),
            f"{layout.ENERGON_FOLDER}/split.yaml": _yaml(
                {"split_parts": {"train": [*counts]}, "exclude": []}
            ),
            f"{layout.ENERGON_FOLDER}/dataset.yaml": _yaml(dataset),
            INFO_KEY: (json.dumps(info, indent=2) + "\n").encode(),
        }

    def write_database(self, path: Path) -> None:
        """Write `index.sqlite` to a file that isn't there."""
        with contextlib.closing(sqlite3.connect(path)) as database:
            for table, columns in _TABLES.items():
                told = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                database.execute(f"CREATE TABLE {table} ({told})")
                marks = ", ".join("?" * len(columns))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", self._rows(table))
            for name, (table, columns_of) in _INDEXES.items():
                database.execute(f"CREATE INDEX {name} ON {table}({columns_of})")
            database.commit()

    def is_database(self, path: Path) -> bool:
        """Whether a file is what `write_database` writes, whatever version of SQLite wrote it."""
        try:
            # Immutable: no lock, and no journal is looked for beside it.
            location = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(location, uri=True)) as database:
                return all(self._has(database, table) for table in _TABLES)
        except (sqlite3.Error, UnicodeError):
            return False

    def _has(self, database: sqlite3.Connection, table: str) -> bool:
        # A view of this name could compute for ever.
        kind = database.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,))
        if kind.fetchall() != [("table",)]:
            return False
        columns = ", ".join(_TABLES[table])
        found = database.execute(f"SELECT {columns} FROM {table} ORDER BY rowid")
        return all(row == wanted for row, wanted in zip_longest(found, self._rows(table)))

    def _rows(self, table: str) -> Iterator[Row]:
        return self._samples() if table == "samples" else self._sample_parts()

    def _samples(self) -> Iterator[Row]:
        for number, tar in enumerate(self._tars):
            sizes = tar.ends - tar.starts
            spans = zip(tar.ids, tar.starts.tolist(), sizes.tolist(), strict=True)
            for place, (key, start, size) in enumerate(spans):
                yield number, key, place, start, size

    def _sample_parts(self) -> Iterator[Row]:
        for number, tar in enumerate(self._tars):
            for place in range(len(tar.ids)):
                for suffix, spans in tar.parts.items():
                    start, size = spans[place].tolist()
                    if start >= 0:
                        yield number, place, suffix, start, size


def _tars(receipts: Mapping[int, Receipt], index: pa.Table) -> Iterator[_Tar]:
    """Of the shards that have samples: of an empty tar Energon makes an error."""
    start = 0
    for receipt in receipts.values():
        rows = index.slice(start, receipt.accepted)
        start += receipt.accepted
        if not receipt.accepted:
            continue
        parts = {
            member.suffix: np.stack(
                [_numbers(rows, f"{name}_offset"), _numbers(rows, f"{name}_size")], axis=1
            )
            for name, member in layout.members_of(index.column_names).items()
            if f"{name}_offset" in index.column_names
        }
        spans = np.stack([*parts.values()])
        there = spans[..., 0] >= 0
        starts = np.where(there, spans[..., 0], np.iinfo(np.int64).max).min(axis=0) - _BLOCK
        filled = -(-spans[..., 1] // _BLOCK) * _BLOCK
        ends = np.where(there, spans[..., 0] + filled, 0).max(axis=0)
        ids = rows.column("sample_id").to_pylist()
        yield _Tar(receipt.objects["tar"].key, ids, starts, ends, parts)


def _numbers(rows: pa.Table, column: str) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = rows.column(column).fill_null(-1).to_numpy().astype(np.int64)
    return numbers


def _offsets(tar: _Tar) -> bytes:
    return np.append(tar.starts, tar.ends[-1]).astype(_LITTLE_ENDIAN).tobytes()


def _yaml(value: object) -> bytes:
    return yaml.safe_dump(value, sort_keys=False).encode()
