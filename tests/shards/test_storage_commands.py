from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta

import pytest
import tiny_run

from mfsynth.cli import main
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.drivers import beat
from mfsynth.shards.finalize import finalize
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def mfsynth(capsys):
    """Run a command; returns (exit status, standard output, standard error)."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leave:
            status = leave.code
        out, err = capsys.readouterr()
        return status or 0, out, err

    return run


def test_verify_says_that_a_sound_run_is_sound(mfsynth, run_store):
    status, out, err = mfsynth("verify", run_store.url)
    assert (status, err) == (0, "")
    stored = sum(s.size for r in read_commits(run_store).values() for s in r.objects.values())
    assert f"3 shards, 8 pairs, {stored / 1000:.1f} kB" in out
    assert "verified" in out


def test_verify_prints_each_problem_and_fails(mfsynth, run_store):
    path = run_store.local_root / read_commits(run_store)[0].objects["tar"].key
    path.write_bytes(path.read_bytes()[:3000])
    status, out, err = mfsynth("verify", run_store.url)
    assert status == 1
    assert [line[:14] for line in out.splitlines()] == ["shard 000000: "] * 2
    assert "truncated" in out
    assert err.startswith("error: 2 problems in ")
    # Which command that is, the run's configuration says: it may be annotate's.
    assert "run the run's own command" in err
    assert "generate" not in err
    assert err.count("\n") == 1
    status, out, _ = mfsynth("verify", "--shallow", run_store.url)
    assert (status, len(out.splitlines())) == (1, 1)


def test_status_prints_lines_or_json(mfsynth, run_store):
    assert "pairs        8; 18" in mfsynth("status", run_store.url)[1]
    assert json.loads(mfsynth("status", "--json", run_store.url)[1])["pairs"] == 8


def test_gc_says_in_its_help_when_it_deletes(mfsynth):
    out = " ".join(mfsynth("gc", "--help")[1].split())
    assert "The first call removes nothing: it marks what it finds" in out
    assert "A call a day or more later removes what was marked" in out
    assert "Mark what no commit refers to; a call a day later deletes it." in mfsynth("--help")[1]


def test_gc_marks_at_first_and_removes_a_day_later(mfsynth, run_store, monkeypatch):
    lost = tiny_run.upload_shard(run_store, 1).objects["tar"].key
    assert "0 objects, 0 B removed; 0 objects, 0 B marked" in mfsynth("gc", run_store.url)[1]
    now = ("gc", run_store.url, "--older-than", "0")
    dry = mfsynth(*now, "--dry-run")[1]
    assert f"would be marked: {lost}" in dry
    assert "0 objects, 0 B would be removed; 3 objects, " in dry
    out = mfsynth(*now)[1]
    assert f"marked: {lost}" in out
    assert " marked (a gc after 20" in out
    assert "3 objects were marked before and are not due yet" in mfsynth(*now)[1]
    assert run_store.exists(lost)
    clock = ObjectStore.clock
    monkeypatch.setattr(ObjectStore, "clock", lambda *args: clock(*args) + timedelta(days=2))
    out = mfsynth(*now)[1]
    assert f"removed: {lost}" in out
    assert "3 objects, " in out
    assert not run_store.exists(lost)
    assert mfsynth("verify", run_store.url)[0] == 0


def test_a_run_that_has_lost_its_receipts_is_refused_in_one_line(mfsynth, run_store):
    for shard in read_commits(run_store):
        run_store.delete(layout.commit_key(shard))
    for command in ("verify", "status", "gc", "finalize"):
        status, out, err = mfsynth(command, run_store.url)
        assert status == 1
        assert "no receipt in _commits/" in out + err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert len(run_store.list("shards")) == 3


def test_gc_refuses_an_age_that_it_can_not_read(mfsynth, run_store):
    status, _, err = mfsynth("gc", run_store.url, "--older-than", "soon")
    assert status == 2
    assert "'soon' is not an age" in err


def test_finalize_says_what_it_wrote(mfsynth, run_store):
    status, out, _ = mfsynth("finalize", run_store.url)
    assert status == 0
    for key in (layout.MANIFEST_KEY, layout.CROISSANT_KEY, layout.CARD_KEY):
        assert f"{run_store.url}/{key}" in out
        assert run_store.exists(key)


def test_copy_says_what_the_copy_has_and_what_it_left_out(mfsynth, run_store, tmp_path):
    place = str(tmp_path / "copy")
    status, out, err = mfsynth("copy", run_store.url, place)
    assert (status, err) == (0, "")
    assert re.fullmatch(rf"{place}: 3 shards, 8 pairs, [\d.]+ kB: copied\n", out)
    finalize(run_store)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    beat(run_store, layout.new_heartbeat())
    out = mfsynth("copy", run_store.url, place)[1]
    assert "not copied: manifest.json: it is not what the receipts of the copy come to" in out
    assert "4 shards, 12 pairs" in out
    assert "copied (3 shards were there)\n" in out
    assert f"{run_store.url}: a driver is at work; copy again" in out
    assert mfsynth("verify", place)[0] == 0
    for nowhere, problem in (
        (place, "error: "),
        ("memory://copy/run", "gone when the command ends"),
    ):
        status, out, err = mfsynth("copy", place, nowhere)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("error: ")
        assert problem in err


@pytest.mark.parametrize("command", ["verify", "status", "gc", "finalize"])
def test_a_folder_that_is_no_run_is_one_line_and_status_1(mfsynth, tmp_path, command):
    status, _, err = mfsynth(command, tmp_path)
    assert status == 1
    assert err == f"error: {tmp_path} is not a run: it has no run.json\n"
    assert list(tmp_path.iterdir()) == []


def test_commands_import_nothing_heavy_before_they_are_called():
    modules = ["verify", "gc", "finalize", "status", "copy"]
    code = "import sys\n" + "".join(f"import mfsynth.cli.{name}\n" for name in modules)
    code += "print({'numpy', 'pyarrow', 'fsspec', 'torch', 'ray'} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
