"""The runs of a data set: where the samples of each lie, and their indexes as one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from mfsynth import __version__
from mfsynth.datasets.mapped import MIN_ROWS, Index, groups, joined, mapped
from mfsynth.errors import MfsynthError
from mfsynth.shards.drivers import read_counted_commits
from mfsynth.shards.layout import FIRST_VERSION, REJECTED_TAR
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt, StoredObject
from mfsynth.shards.run_manifest import RunManifest, read_run, run_sha256
from mfsynth.shards.selection import view_rows
from mfsynth.shards.views import View, read_view
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.store import ObjectStore


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A run of a data set.

    Attributes:
        store: Where it is.
        tars: Its tars, by shard, and by whether they are those of pairs that the run rejected.
        rows: How many samples it has.
        identity: Digest of its `run.json`.
        run: What it is.
    """

    store: ObjectStore
    tars: Mapping[tuple[int, bool], StoredObject]
    rows: int
    identity: str
    run: RunManifest


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    part: Part
    index: Index

    @property
    def url(self) -> str:
        return self.part.store.url


def open_parts(
    urls: Sequence[str | os.PathLike[str]], view: str | None = None
) -> tuple[list[Part], Index]:
    """Runs and their joined index, both in the order given.

    The index has the columns of all of them; they are null in the rows of a run that hasn't them.

    Args:
        urls: Of the runs.
        view: Name of a view that each of them has; None for all that they accepted.

    Raises:
        MfsynthError: There is no run, one can't be read or lacks the view, two have a sample in
            common, or types of a column that differ.
    """
    if not urls:
        raise MfsynthError("no run is listed; give at least one folder or URL")
    opened = [_open(url, view) for url in urls]
    index = opened[0].index if len(opened) == 1 else _index_of_all(opened)
    return [one.part for one in opened], index


def _open(url: str | os.PathLike[str], view: str | None) -> _Opened:
    store = ObjectStore.open(url)
    run = read_run(store)
    wanted = None if view is None else read_view(store, view)
    commits = read_counted_commits(store)
    index = _index(store, commits) if wanted is None else _index_of_view(store, wanted, commits)
    tars = {
        (shard, kind == REJECTED_TAR): receipt.objects[kind]
        for shard, receipt in commits.items()
        for kind in ("tar", REJECTED_TAR)
        if kind in receipt.objects
    }
    return _Opened(Part(store, tars, len(index), run_sha256(store), run), index)


def _index(store: ObjectStore, commits: Mapping[int, Receipt]) -> Index:
    receipts = [*commits.values()]
    if sum(receipt.accepted for receipt in receipts) < MIN_ROWS:
        return Index(read_index(store, receipts))
    digests = [receipt.objects["index"].sha256 for receipt in receipts]
    return mapped(_digest(digests), partial(_pieces, store, receipts))


def _index_of_view(store: ObjectStore, view: View, commits: Mapping[int, Receipt]) -> Index:
    if view.pairs < MIN_ROWS:
        return Index(view_rows(store, view, commits))
    try:
        view.receipts_of(commits)
    except MfsynthError as error:
        raise MfsynthError(f"{store.url}/{view.key}: {error}") from error
    # Which says the digests of all objects that it was made of, too.
    digest = _digest(["view", sha256_of_bytes(view.to_bytes())])
    return mapped(digest, lambda: [view_rows(store, view, commits)])


def _pieces(store: ObjectStore, receipts: Sequence[Receipt]) -> Iterator[pa.Table]:
    """The index in pieces that fit into memory whatever the run's size: those of segments."""
    schema: pa.Schema | None = None
    for group in groups([receipt.shard for receipt in receipts]):
        table = read_index(store, receipts[group])
        if schema is not None and table.schema != schema:
            raise MfsynthError(
                f"{store.url}: columns of shard {receipts[group][0].shard} are not those of the "
                "first; `mfsynth verify` says what is damaged"
            )
        schema = table.schema
        yield table


def _digest(parts: Iterable[str]) -> str:
    """Of all that decides the rows of an index, and how they are read."""
    return sha256_of_bytes("\n".join([__version__, *parts]).encode())


def _index_of_all(opened: Sequence[_Opened]) -> Index:
    index = joined([one.index for one in opened], _union(opened))
    if pc.count_distinct(index.table.column("sample_id")).as_py() < len(index):
        _require_no_common_sample(opened)
    return index


def _union(opened: Iterable[_Opened]) -> pa.Schema:
    """All columns, in the order in which they are first met."""
    columns: dict[str, tuple[pa.Field, _Opened]] = {}
    for one in opened:
        for column in one.index.table.schema:
            first, where = columns.setdefault(column.name, (column, one))
            if column.type != first.type:
                raise MfsynthError(
                    f"{where.url} and {one.url} can't be one data set: the column {column.name!r} "
                    f"is {first.type} there and {column.type} here; load them one by one"
                )
    # What is stored says where nothing may be missing; of the whole that says little.
    return pa.schema([pa.field(name, column.type) for name, (column, _) in columns.items()])


def _require_no_common_sample(opened: Sequence[_Opened]) -> None:
    owners: dict[str, _Opened] = {}
    for one in opened:
        for sample_id in one.index.table.column("sample_id").to_pylist():
            other = owners.setdefault(sample_id, one)
            if other is not one:
                raise MfsynthError(
                    f"{other.url} and {one.url} both have the sample {sample_id!r}: "
                    f"{_why_in_common(other, one)}"
                )


def _why_in_common(one: _Opened, other: _Opened) -> str:
    if run_sha256(one.part.store) == run_sha256(other.part.store):
        return "they are the same run, or one is a copy; list it once"
    if FIRST_VERSION in (one.part.run.format_version, other.part.run.format_version):
        return (
            f"in runs of format version {FIRST_VERSION} names are unique in the run alone; load "
            "them one by one, or make one of them anew, with this mfsynth or another name"
        )
    return "they make the same samples, from the same settings and seed; list one of them"
