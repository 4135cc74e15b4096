"""SIGKILL at every step, in a local folder and on S3: what is left is whole, a restart finishes it.

A step of a local run is a call that touches the disk. A step on S3 is a request: the process dies
before it is carried out, or when it was and the answer is on its way. The spool is on the local
disk in both, and is killed in the local runs.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import pytest
import tiny_run
from s3_server import INTERNAL_ERROR, Answer, Faults, S3Server

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import committed_sizes, read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import garbage
from mfsynth.shards.segments import believed, listed_segments
from mfsynth.shards.verify import verify_run
from mfsynth.storage.locks import remove_abandoned
from mfsynth.storage.store import ObjectStore

SHARDS = 2
# Shards that segments cover: of both, a small one and the one that is made of it.
SIZES = (1, 2)
# Every call that makes bytes durable, publishes or removes a name.
DISK_STEPS = (
    *((os, "fsync"), (os, "link"), (os, "remove")),
    *((Path, "replace"), (Path, "rename"), (Path, "rmdir"), (Path, "unlink")),
)
# Of the steps on S3 these are all tried, and so many others, so that a matrix takes half a minute.
S3_OTHERS = 4
S3_ALWAYS = {"create", "begin upload", "part", "complete upload"}
DOCUMENTS = {layout.MANIFEST_KEY, layout.CROISSANT_KEY, layout.CARD_KEY}


# --- What is killed: one process' work, which finishes what is unfinished -------------------


def generate(url: str) -> None:
    tiny_run.make_missing_shards(url, SHARDS)


def generate_without_links(url: str) -> None:
    os.link = no_link
    generate(url)


def no_link(*_args, **_kwargs) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def compact_run(url: str) -> None:
    tiny_run.compact_all(ObjectStore.open(url), SIZES)


def finalize_run(url: str) -> None:
    finalize(ObjectStore.open(url))


def copy_here(source: str, url: str) -> None:
    copy_run(ObjectStore.open(source), ObjectStore.open(url))


def remove_garbage(url: str) -> None:
    tiny_run.collect_all(ObjectStore.open(url))


Work = Callable[[str], None]


def in_a_child(
    work: Work, url: str, spool: str, environment: Mapping[str, str], die_at: int | None
) -> None:
    """Do `work`; die at a step of the disk, if one is given."""
    os.environ.update(environment)
    tempfile.tempdir = spool
    taken = 0

    def counted(step: Callable) -> Callable:
        def run(*args, **kwargs):
            nonlocal taken
            taken += 1
            if taken == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **kwargs)

        return run

    if die_at is not None:
        for owner, name in DISK_STEPS:
            setattr(owner, name, counted(getattr(owner, name)))
    work(url)


# --- Where, and how it is killed ------------------------------------------------------------


@dataclass
class LocalDisk:
    folder: Path
    runs: int = 0
    every: int = 1

    def new_url(self) -> str:
        self.runs += 1
        return str(self.folder / f"run-{self.runs}")

    def kills(self, work: Work, prepare: Callable[[], str]) -> Iterator[str]:
        """Kill `work` at every step, one after the other; gives its URL each time.

        Or at each second one, if `every` is 2.
        """
        step = 0
        while True:
            step += self.every
            url = prepare()
            child = start(work, url, self.folder, {}, step)
            child.join(60)
            if child.exitcode == 0:
                assert step > 4
                return
            assert child.exitcode == -signal.SIGKILL
            yield url


@dataclass
class S3:
    folder: Path
    server: S3Server
    bucket: str = ""
    runs: int = 0
    dice: Random = field(default_factory=lambda: Random(0))

    def new_url(self) -> str:
        self.bucket = self.bucket or self.server.new_bucket()
        self.runs += 1
        return f"{self.bucket}/run-{self.runs}"

    def kills(self, work: Work, prepare: Callable[[], str]) -> Iterator[str]:
        asked: list[str] = []
        url = prepare()
        with self.server.harmed_by(Faults(refuse=asked.append)):
            work(url)
        points = [(number, late) for number in range(len(asked)) for late in (False, True)]
        tried = [point for point in points if asked[point[0]] in S3_ALWAYS]
        others = [point for point in points if asked[point[0]] not in S3_ALWAYS]
        tried += self.dice.sample(others, min(S3_OTHERS, len(others)))
        for number, carried_out in sorted(tried):
            url = prepare()
            if self._killed(work, url, number, carried_out):
                yield url
            else:
                # The count above may hold a request that a slow answer made it repeat.
                assert number >= 0.8 * len(asked)

    def _killed(self, work: Work, url: str, number: int, carried_out: bool) -> bool:
        children: list[BaseProcess] = []
        seen = 0

        def die_before(kind: str) -> Answer | None:
            nonlocal seen
            seen += 1
            if carried_out or seen <= number:
                return None
            children[0].kill()
            return INTERNAL_ERROR

        def die_after(kind: str) -> bool:
            if carried_out and seen > number:
                children[0].kill()
                return True
            return False

        with self.server.harmed_by(Faults(refuse=die_before, lose=die_after)):
            children.append(start(work, url, self.folder, self.server.environment, None))
            children[0].join(60)
            self.server.settle()
        if children[0].exitcode == 0 and seen <= number:
            return False
        assert children[0].exitcode == -signal.SIGKILL
        return True


def start(
    work: Work, url: str, spool: Path, environment: Mapping[str, str], die_at: int | None
) -> BaseProcess:
    # Of a server process, because this one has threads, which no fork survives.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "s3fs", "moto.server", "mfsynth.datasets"])
    child = context.Process(target=in_a_child, args=(work, url, str(spool), environment, die_at))
    child.start()
    return child


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path) -> LocalDisk | S3:
    if request.param == "local":
        return LocalDisk(tmp_path)
    return S3(tmp_path, request.getfixturevalue("s3"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[tuple[str, str]]:
    """Contents of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return tiny_run.contents(tiny_run.make_run(str(folder / "run"), SHARDS))


# --- What must hold then --------------------------------------------------------------------


def assert_readers_see_whole_shards_only(
    store: ObjectStore, expected: list[tuple[str, str]]
) -> None:
    if not store.exists(layout.RUN_KEY):
        assert not read_commits(store)
        return
    nothing = () if read_commits(store) else ("no shard is committed yet",)
    # Segments of a receipt that was removed are there until the shard is made again.
    stale = "_segments/[^ ]+: covers shard 1, which is not committed"
    problems = verify_run(store).problems
    assert tuple(line for line in problems if not re.fullmatch(stale, line)) == nothing
    assert read_commits(store) == read_commits(store, from_segments=False)
    found = tiny_run.contents(store)
    assert found == expected[: len(found)]
    if any(re.fullmatch(stale, line) for line in problems):
        with pytest.raises(MfsynthError, match=r"no receipt of shard 1 .* the run's own command"):
            RGBDDataset(store.url)
    else:
        assert [s.sample_id for s in RGBDDataset(store.url)] == ids(found)
    for key in DOCUMENTS & {*store.list()}:
        text = store.read_bytes(key).decode()
        assert text.endswith("\n")
        assert not key.endswith("json") or json.loads(text)


def assert_finished(store: ObjectStore, expected: list[tuple[str, str]]) -> None:
    assert verify_run(store).problems == ()
    assert read_commits(store) == read_commits(store, from_segments=False)
    assert tiny_run.contents(store) == expected
    assert [s.sample_id for s in RGBDDataset(store.url)] == ids(expected)


def assert_gc_removes_exactly_the_garbage(store: ObjectStore) -> None:
    # The tombstones of a killed gc are no garbage themselves.
    before = {key for key in store.list() if not layout.is_tombstone(key)}
    receipts = read_commits(store)
    wanted = {layout.RUN_KEY} | ((DOCUMENTS | {layout.PROGRESS_KEY}) & before)
    wanted |= {layout.commit_key(shard) for shard in receipts}
    wanted |= {stored.key for r in receipts.values() for stored in r.objects.values()}
    segments = believed(store, committed_sizes(store))
    wanted |= {key for segment in segments for key in (segment.key, segment.index.key)}
    found = garbage(store, timedelta())
    assert {entry.key for entry in found if entry.upload is None} == before - wanted
    tiny_run.collect_all(store)
    assert {*store.list()} == wanted
    assert not store.unfinished_uploads()


def assert_spools_are_removed_in_time(folder: Path) -> None:
    """Those of processes that were killed before the spool was theirs: when they are old."""
    spools = [path for path in folder.iterdir() if path.name.startswith("mfsynth-spool-")]
    for spool in spools:
        assert not [*spool.glob("*.tar")]
        os.utime(spool, (0, 0))
    remove_abandoned(folder, "mfsynth-spool-")
    assert not any(spool.exists() for spool in spools)


def ids(contents: list[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name, _ in contents))


# --- The matrix -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_at_any_step_is_whole_and_ends_like_one_that_was_not(place, expected):
    points = 0
    for url in place.kills(generate, place.new_url):
        points += 1
        store = ObjectStore.open(url)
        assert_readers_see_whole_shards_only(store, expected)
        generate(url)
        assert_finished(store, expected)
        assert_gc_removes_exactly_the_garbage(store)
    assert points >= 10
    assert_spools_are_removed_in_time(place.folder)


@pytest.mark.slow
def test_a_run_killed_where_there_are_no_hard_links_is_whole_too(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(os, "link", no_link)
    # Each step of one create: tests/storage/test_odd_file_systems.py.
    place = LocalDisk(tmp_path, every=4)
    points = 0
    for url in place.kills(generate_without_links, place.new_url):
        points += 1
        store = ObjectStore.open(url)
        assert_readers_see_whole_shards_only(store, expected)
        generate(url)
        assert_finished(store, expected)
        assert_gc_removes_exactly_the_garbage(store)
    assert points >= 10


@pytest.mark.slow
def test_a_resume_killed_at_any_step_is_whole_and_ends_like_one_that_was_not(place, expected):
    """Of a run whose last shard is to be made anew, with segments that cover it."""
    store = tiny_run.make_run(place.new_url(), SHARDS)

    def uncommit() -> str:
        tiny_run.compact_all(store, (SHARDS,))
        store.delete(layout.commit_key(SHARDS - 1))
        store.delete(layout.PROGRESS_KEY)
        return store.url

    for _ in place.kills(generate, uncommit):
        assert_readers_see_whole_shards_only(store, expected)
        generate(store.url)
        assert not [name for name in listed_segments(store) if SHARDS - 1 in name.shards]
        assert_finished(store, expected)
        assert_gc_removes_exactly_the_garbage(store)


@pytest.mark.slow
def test_writing_segments_killed_at_any_step_leaves_segments_that_are_right_or_none(
    place, expected
):
    store = tiny_run.make_run(place.new_url(), SHARDS)

    def remove_segments() -> str:
        for key in store.list(layout.SEGMENTS_FOLDER):
            store.delete(key)
        return store.url

    for _ in place.kills(compact_run, remove_segments):
        assert_finished(store, expected)
        compact_run(store.url)
        assert {name.count for name in listed_segments(store)} == {*SIZES}
        assert_finished(store, expected)
        assert_gc_removes_exactly_the_garbage(store)
        assert [name.count for name in listed_segments(store)] == [SHARDS] * 2
        assert_finished(store, expected)


@pytest.mark.slow
def test_finalize_killed_at_any_step_leaves_whole_documents(place, expected):
    store = tiny_run.make_run(place.new_url(), SHARDS)
    finalize(store)
    documents = {key: store.read_bytes(key) for key in DOCUMENTS}

    def remove_documents() -> str:
        for key in DOCUMENTS:
            store.delete(key)
        return store.url

    for _ in place.kills(finalize_run, remove_documents):
        left = DOCUMENTS & {*store.list()}
        assert all(store.read_bytes(key) == documents[key] for key in left)
        assert_readers_see_whole_shards_only(store, expected)
        finalize(store)
        assert all(store.read_bytes(key) == documents[key] for key in DOCUMENTS)
        assert_gc_removes_exactly_the_garbage(store)


@pytest.mark.slow
def test_gc_killed_at_any_step_takes_nothing_that_is_committed(place, expected):
    store = tiny_run.make_run(place.new_url(), SHARDS)
    compact_run(store.url)
    # By the larger segment.
    names = [name for name in listed_segments(store) if (name.first, name.count) == (0, SIZES[0])]
    covered = {name.key: store.read_bytes(name.key) for name in names}
    # So that there is equal litter each time.
    tiny_run.collect_all(store)

    def litter() -> str:
        tiny_run.upload_shard(store, 0)
        store.put_bytes("_commits/.000001.json.00.part", b"half")
        for key, data in covered.items():
            store.put_bytes(key, data)
        return store.url

    for _ in place.kills(remove_garbage, litter):
        assert_finished(store, expected)
        assert_gc_removes_exactly_the_garbage(store)


@pytest.mark.slow
def test_a_copy_killed_at_any_step_is_no_smaller_run_and_ends_like_one_that_was_not(
    expected, tmp_path
):
    # Its threads take steps in another order each time, so that half of them are enough.
    place = LocalDisk(tmp_path, every=2)
    source = tiny_run.make_run(str(tmp_path / "source"), SHARDS)
    finalize(source)
    work = partial(copy_here, source.url)
    receipts = set()
    for url in place.kills(work, place.new_url):
        store = ObjectStore.open(url)
        receipts.add(len(read_commits(store)))
        if store.exists(layout.PROGRESS_KEY) and len(read_commits(store)) < SHARDS:
            assert verify_run(store, deep=False).problems
            with pytest.raises(MfsynthError, match="2 shards were committed"):
                RGBDDataset(url)
        else:
            assert_readers_see_whole_shards_only(store, expected)
        work(url)
        assert_finished(store, expected)
        assert all(store.read_bytes(key) == source.read_bytes(key) for key in source.list())
        assert_gc_removes_exactly_the_garbage(store)
    assert receipts == {0, 1, 2}


LARGE = layout.object_key("tar", tiny_run.RUN_ID, SHARDS, "ab")


def upload_in_parts(url: str) -> None:
    import s3fs.core

    # The smallest parts that S3 takes.
    s3fs.core.calculate_chunksize = lambda size, chunksize=None: 5 * 2**20
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(11 * 2**20))
        file.flush()
        ObjectStore.open(url).put_file(Path(file.name), LARGE)


@pytest.mark.slow
def test_an_upload_in_parts_killed_at_any_step_leaves_nothing_but_garbage(
    s3, tmp_path, expected, monkeypatch
):
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None: 5 * 2**20)
    place = S3(tmp_path, s3)
    store = tiny_run.make_run(place.new_url(), SHARDS)
    unfinished = 0
    for _ in place.kills(upload_in_parts, lambda: store.url):
        assert store.size(LARGE) in (None, 11 * 2**20)
        unfinished += len(store.unfinished_uploads())
        assert_finished(store, expected)
        assert_gc_removes_exactly_the_garbage(store)
    assert unfinished
