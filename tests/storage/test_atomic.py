"""Whole files and folders, or none: also after a kill, and in what order they reach the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from disk_steps import killed_at_each_step, recorded

from mfsynth.errors import MfsynthError
from mfsynth.storage import atomic


def write_model(folder: Path, text: str, over: bool = False) -> None:
    with atomic.staged_folder(folder, over=over) as staged:
        (staged / "weights").mkdir()
        (staged / "weights" / "0.bin").write_text(text)
        (staged / "README.md").write_text(text)


def read_model(folder: Path) -> tuple[str, str]:
    return (folder / "weights" / "0.bin").read_text(), (folder / "README.md").read_text()


def test_a_folder_appears_whole_and_alone(tmp_path):
    with atomic.staged_folder(tmp_path / "new" / "model") as staged:
        (staged / "a").write_text("a")
        assert not (tmp_path / "new" / "model").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "new" / "model").iterdir()] == ["a"]


def test_files_of_a_folder_are_for_whom_the_umask_says(tmp_path):
    with atomic.staged_folder(tmp_path / "model") as staged:
        (staged / "part").mkdir()
        (staged / "part" / "weights").touch(mode=0o600)
    assert (tmp_path / "model" / "part" / "weights").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_a_folder_whose_writer_fails_disappears(tmp_path):
    def fail():
        with atomic.staged_folder(tmp_path / "model") as staged:
            (staged / "a").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_stays_unless_told(tmp_path):
    write_model(tmp_path / "model", "old")
    with pytest.raises(OSError, match="not empty"):
        write_model(tmp_path / "model", "new")
    assert read_model(tmp_path / "model") == ("old", "old")
    (tmp_path / "model" / "surplus").touch()
    write_model(tmp_path / "model", "new", over=True)
    assert read_model(tmp_path / "model") == ("new", "new")
    assert not (tmp_path / "model" / "surplus").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_behind_a_link_is_replaced_where_it_is(tmp_path):
    (tmp_path / "disk").mkdir()
    write_model(tmp_path / "disk" / "model", "old")
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    write_model(tmp_path / "model", "new", over=True)
    assert (tmp_path / "model").is_symlink()
    assert read_model(tmp_path / "disk" / "model") == ("new", "new")


def test_what_a_killed_writer_left_is_removed_by_the_next_one_of_that_name_alone(tmp_path):
    for name in (".model.0123456789ab.part", ".model.v2.0123456789ab.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    write_model(tmp_path / "model", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.v2.0123456789ab.part"}


def test_a_folder_that_a_killed_writer_had_set_aside_outlives_a_writer_that_fails(tmp_path):
    write_model(tmp_path / "model", "old")
    (tmp_path / "model").rename(tmp_path / ".model.0123456789ab.old")

    def fail():
        with atomic.staged_folder(tmp_path / "model", over=True):
            raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert read_model(tmp_path / "model") == ("old", "old")
    write_model(tmp_path / "model", "new", over=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path):
    with recorded() as steps:
        write_model(tmp_path / "model", "new")
    [rename] = [step for step in steps if step[0] == "rename"]
    flushed = [name for step, name in steps[: steps.index(rename)] if step == "fsync"]
    assert {*flushed} == {"0.bin", "weights", "README.md", rename[1]}
    assert steps[steps.index(rename) + 1] == ("fsync", tmp_path.name)


@pytest.mark.parametrize("write", [atomic.replace, atomic.create_if_absent])
def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, write):
    with recorded() as steps:
        write(tmp_path / "file", b"data")
    (first, part), (publish, source), (last, folder) = [s for s in steps if s[0] != "unlink"]
    assert (first, last, folder) == ("fsync", "fsync", tmp_path.name)
    assert publish in ("replace", "link")
    assert part == source


def test_a_kill_at_any_step_leaves_the_older_folder_or_the_new_one(tmp_path):
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True)


def kill_writers(folder: Path) -> None:
    model = folder / "model"
    for _ in killed_at_each_step(lambda: write_model(model, "new")):
        assert not model.exists() or read_model(model) == ("new", "new")
        if model.exists():
            model.rename(folder / "done")
    assert read_model(model) == ("new", "new")
    assert not list(folder.glob(".*"))


def test_a_document_makes_its_folder(tmp_path):
    atomic.write_document(tmp_path / "a" / "b" / "page.html", b"page")
    assert (tmp_path / "a" / "b" / "page.html").read_bytes() == b"page"


def test_a_document_that_can_not_be_written_is_a_clear_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "page.html", tmp_path):
        with pytest.raises(MfsynthError, match=f"{place} can't be written .*; give another path"):
            atomic.write_document(place, b"page")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_system_that_flushes_no_folders_is_good_enough(tmp_path, monkeypatch):
    flush = os.fsync

    def flush_files_alone(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flush_files_alone)
    atomic.replace(tmp_path / "file", b"data")
    write_model(tmp_path / "model", "new")
    assert read_model(tmp_path / "model") == ("new", "new")


if __name__ == "__main__":
    kill_writers(Path(sys.argv[1]))
