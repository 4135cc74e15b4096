"""File systems without hard links, flushes of folders or locks; what systems leave in folders."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from disk_steps import before_each_step, killed_at_each_step

from mfsynth.errors import MfsynthError
from mfsynth.shards.run_manifest import open_run, read_run
from mfsynth.storage import atomic, locks
from mfsynth.storage.store import ObjectStore
from mfsynth.storage.system_entries import has_system_entry, is_system_entry

# --- no hard links ---------------------------------------------------------------------------


def refuse_links(number: int = errno.EPERM) -> None:
    def link(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    os.link = link


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(params=["EPERM", "ENOTSUP", "ENOSYS"])
def no_links(request, monkeypatch) -> None:
    monkeypatch.setattr(os, "link", os.link)
    refuse_links(getattr(errno, request.param))


def test_without_hard_links_a_name_is_given_once_and_nothing_else_is_left(tmp_path, no_links):
    path = tmp_path / "000001.json"
    assert atomic.create_if_absent(path, b"first")
    assert not atomic.create_if_absent(path, b"second")
    assert path.read_bytes() == b"first"
    assert files_below(tmp_path) == [path]
    path.unlink()
    assert atomic.create_if_absent(path, b"third")


def race(folder: Path, number: int, barrier, results) -> None:
    refuse_links()
    won = []
    for name in range(60):
        barrier.wait(60)
        if atomic.create_if_absent(folder / f"{name}.json", b"%d" % number * 5000):
            won.append(name)
    results.put((number, won))


def test_of_several_processes_exactly_one_gets_the_name_without_hard_links(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    racers = [context.Process(target=race, args=(tmp_path, n, barrier, results)) for n in range(4)]
    for racer in racers:
        racer.start()
    won = dict(results.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join()
    assert sorted(name for names in won.values() for name in names) == [*range(60)]
    for number, names in won.items():
        for name in names:
            assert (tmp_path / f"{name}.json").read_bytes() == b"%d" % number * 5000
    assert len(files_below(tmp_path)) == 60


def test_a_creator_that_is_paused_at_any_step_while_others_create_wins_or_loses_clearly(
    tmp_path, no_links
):
    step, outcomes = 0, set()
    while True:
        step += 1
        path = tmp_path / f"{step}.json"
        paused, others_done = threading.Event(), threading.Event()
        results: dict[str, bool] = {}
        taken = 0

        def pause(_name, _args, step=step, paused=paused, others_done=others_done):
            nonlocal taken
            if threading.current_thread().name == "slow":
                taken += 1
                if taken == step:
                    paused.set()
                    assert others_done.wait(60)

        def create(who: str, path=path, results=results) -> None:
            results[who] = atomic.create_if_absent(path, who.encode() * 1000)

        with before_each_step(pause):
            slow = threading.Thread(target=create, args=("slow",), name="slow")
            slow.start()
            while slow.is_alive() and not paused.wait(0.01):
                pass
            create("second")
            create("third")
            others_done.set()
            slow.join()
        winners = [who for who, won in results.items() if won]
        assert len(winners) == 1, (step, results)
        assert path.read_bytes() == winners[0].encode() * 1000
        outcomes.add(winners[0])
        if not paused.is_set():
            break
    assert step > 6
    assert outcomes == {"slow", "second"}
    assert len(files_below(tmp_path)) == step


def test_a_kill_at_any_step_leaves_no_half_file_and_never_blocks_the_name(tmp_path):
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True)


def kill_creators(folder: Path) -> None:
    refuse_links()
    path = folder / "000001.json"
    kept = set()
    for _ in killed_at_each_step(lambda: atomic.create_if_absent(path, b"killed" * 1000)):
        assert not path.exists() or path.read_bytes() == b"killed" * 1000
        was_there = path.exists()
        won = atomic.create_if_absent(path, b"next" * 1000)
        assert not (won and was_there)
        assert path.read_bytes() == (b"next" if won else b"killed") * 1000
        kept.add(won)
        path.unlink()
        assert all(below.name.endswith(".part") for below in files_below(folder))
    assert kept == {True, False}


def test_a_file_system_that_can_not_give_a_name_once_says_so(tmp_path, no_links, monkeypatch):
    really_rename = Path.rename

    def rename(self, target):
        if self.is_dir():
            raise OSError(errno.EMFILE, "Too many open files")
        return really_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    store = ObjectStore.open(tmp_path)
    with pytest.raises(MfsynthError, match="neither hard links nor renames of folders"):
        store.create_if_absent("run.json", b"{}")
    assert store.list() == []


# --- no flush of folders, no locks -----------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_can_not_be_flushed_is_no_error_and_a_file_is(tmp_path, monkeypatch, number):
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    atomic.replace(tmp_path / "file", b"data")
    assert atomic.create_if_absent(tmp_path / "other", b"data")
    monkeypatch.setattr(os, "fsync", lambda descriptor: refuse(os.open(tmp_path, os.O_RDONLY)))
    with pytest.raises(OSError, match=os.strerror(number)):
        atomic.replace(tmp_path / "file", b"data")


@pytest.fixture(params=[None, "ENOLCK", "ENOSYS", "EINVAL"])
def flock(request, monkeypatch) -> None:
    """With locks, and without."""
    if request.param is not None:
        number = getattr(errno, request.param)

        def refuse(*_args):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)


def test_folders_of_processes_that_live_stay_and_those_of_the_dead_go(tmp_path, flock):
    (tmp_path / "spool-mine").mkdir()
    descriptor = locks.hold(tmp_path / "spool-mine")
    owner = json.loads((tmp_path / "spool-mine" / locks.LOCK).read_text())
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        check=True,
        capture_output=True,
        text=True,
    )
    others = {
        "dead": owner | {"process": int(ended.stdout)},
        "elsewhere": owner | {"process": int(ended.stdout), "host": "another"},
    }
    for name, document in others.items():
        (tmp_path / f"spool-{name}").mkdir()
        (tmp_path / f"spool-{name}" / locks.LOCK).write_text(json.dumps(document))
    # Of processes that are about to lock theirs, or were killed just before.
    for name in ("beginning", "never-held"):
        (tmp_path / f"spool-{name}").mkdir()
    os.utime(tmp_path / "spool-never-held", (0, 0))
    locks.remove_abandoned(tmp_path, "spool-")
    left = {path.name for path in tmp_path.iterdir()}
    assert {"spool-mine", "spool-beginning"} <= left
    assert not {"spool-dead", "spool-never-held"} & left
    os.close(descriptor)


# --- what systems leave in folders -----------------------------------------------------------

LEFT = ("lost+found", ".DS_Store", ".snapshot", ".nfs0000000001", "._x", "Thumbs.db", ".Trash-1000")


@pytest.mark.parametrize("name", LEFT)
def test_what_a_system_leaves_is_nobodys_data(name):
    assert is_system_entry(name)
    assert has_system_entry(f"shards/{name}/x")


@pytest.mark.parametrize(
    "name",
    ["run.json", ".hidden", "_commits", ".run.json.0a.part", "x.nfs1", "._commits.0a1b.part"],
)
def test_other_names_are_somebodys_data(name):
    assert not is_system_entry(name)


def test_a_run_begins_in_a_folder_that_has_nothing_but_such_entries(tmp_path):
    import tiny_run

    for name in LEFT:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "lost+found").chmod(0)
    store = ObjectStore.open(tmp_path)
    open_run(store, tiny_run.make_manifest())
    (tmp_path / "_commits").mkdir()
    (tmp_path / "_commits" / ".DS_Store").touch()
    assert store.list() == ["run.json"]
    assert store.any_key(ignoring=lambda key: key == "run.json") is None
    assert read_run(store).run == tiny_run.RUN


if __name__ == "__main__":
    kill_creators(Path(sys.argv[1]))
