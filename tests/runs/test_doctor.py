"""`mfsynth doctor`: each thing that it looks at, on real stores and disks where it can be."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from datetime import timedelta

import pytest
import tiny_run
from required import require
from s3_server import Faults
from started import start
from test_driver import Lines, drive

from mfsynth.cli import main
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info
from mfsynth.runs.doctor import store_probes
from mfsynth.runs.doctor.examination import examine_at_start, store_examination
from mfsynth.runs.doctor.findings import Finding, Probe, Severity, error, examine, note, ok, warning
from mfsynth.runs.doctor.scratch import Scratch
from mfsynth.runs.doctor.screen import exit_status, lines
from mfsynth.shards.drivers import beat
from mfsynth.shards.layout import new_heartbeat
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore, probe_key

OK, NOTE, WARNING, ERROR = Severity


def examined(url) -> dict[str, Finding]:
    with store_examination(str(url)) as probes:
        return dict(examine(probes))


def worse_than_ok(findings: dict[str, Finding]) -> dict[str, Severity]:
    return {name: found.severity for name, found in findings.items() if found.severity}


@pytest.fixture
def doctor(capsys):
    """Run the command; returns (exit status, standard output, standard error)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as leave:
            main(["doctor", *map(str, arguments)])
        return leave.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def scratch(tmp_path):
    with Scratch(ObjectStore.open(tmp_path)) as opened:
        yield opened


def test_of_a_sound_folder_that_is_not_there_yet_nothing_is_left(tmp_path):
    findings = examined(tmp_path / "new" / "run")
    assert worse_than_ok(findings) == {}
    assert findings["run"].seen == "nothing: a run may begin here"
    assert [*tmp_path.iterdir()] == []


def test_every_kind_of_store_can_be_asked_and_keeps_nothing(place):
    findings = examined(place)
    assert worse_than_ok(findings) == {}
    assert "conditional create" in findings
    assert ObjectStore.open(place).list() == []


def test_a_run_is_told_and_nothing_in_it_changes(tmp_path):
    store = tiny_run.make_run(str(tmp_path))
    beat(store, new_heartbeat())
    before = store.entries()
    findings = examined(tmp_path)
    assert worse_than_ok(findings) == {"drivers": NOTE}
    assert findings["run"].seen.startswith("tiny: 8 pairs of 18 candidates in 3 shards, ")
    assert store.entries() == before
    store.delete("_commits/000001.json")
    assert worse_than_ok(examined(tmp_path))["run"] is WARNING


def test_files_that_are_no_run_are_told(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert examined(tmp_path)["run"].line.startswith("no run, but files (such as thesis.tex); ")


def test_a_store_that_ignores_conditions_is_told(s3):
    url = f"{s3.new_bucket()}/run"
    assert worse_than_ok(examined(url)) == {}
    with s3.harmed_by(Faults(ignore_conditions=True)):
        findings = examined(url)
    assert worse_than_ok(findings) == {"conditional create": WARNING}
    assert findings["conditional create"].line == (
        f"{url} ignores conditional writes; give it one driver at a time"
    )
    assert ObjectStore.open(url).list() == []


@pytest.mark.parametrize(
    ("options", "reason"), [("ro", "Read-only file system"), ("size=4k", "no space left in ")]
)
def test_a_folder_that_cannot_be_written_is_one_error_and_the_rest_waits(tmp_path, options, reason):
    mount = f"mount -t tmpfs -o {options} none {tmp_path}"
    full = f"{mount} && (head -c 9000 /dev/zero > {tmp_path}/full; true)"
    command = f"{full} && exec {sys.executable} -m mfsynth.cli doctor --json {tmp_path}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        require("only who may mount can make a disk")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, timeout=120
    )
    findings = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 2
    assert reason in findings["store"]["seen"]
    assert {n for n, each in findings.items() if each["severity"] == "error"} == {"store"}
    assert findings["clock"]["seen"] == "not looked at, for want of: store"


@pytest.mark.parametrize(
    ("seconds", "severity", "seen"),
    [
        (0, OK, "the store's is this machine's"),
        (30, NOTE, "the store's is 30 s ahead of this machine's"),
        (-600, WARNING, "the store's is 10 min behind this machine's"),
    ],
)
def test_clocks_that_disagree_are_told(scratch, monkeypatch, seconds, severity, seen):
    clock = ObjectStore.clock
    # A second is the grain of object stores' dates.
    off = timedelta(seconds=seconds + (seconds > 0) - (seconds < 0))
    monkeypatch.setattr(ObjectStore, "clock", lambda store: clock(store) + off)
    found = store_probes.clocks_agree(scratch)
    assert (found.severity, found.seen) == (severity, seen)


def test_a_listing_that_lags_is_told(scratch, monkeypatch):
    top_level, began = ObjectStore.top_level, time.monotonic()
    monkeypatch.setattr(
        ObjectStore,
        "top_level",
        lambda store: top_level(store) if time.monotonic() > began + 1.2 else [],
    )
    found = store_probes.lists_what_is_written(scratch)
    assert (found.severity, found.seen[:16]) == (NOTE, "shows after 1 s ")
    monkeypatch.setattr(store_probes, "_LISTING_LIMIT_S", 0.1)
    monkeypatch.setattr(ObjectStore, "top_level", lambda store: [])
    assert store_probes.lists_what_is_written(scratch).severity is WARNING


@pytest.mark.parametrize("fails", [True, False])
def test_without_links_a_run_can_begin_where_receipts_can_be_created(scratch, monkeypatch, fails):
    def no_link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    def create(store, key, data):
        if fails:
            raise StoreError(f"can't create {key}")
        return True

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(ObjectStore, "create_if_absent", create)
    found = store_probes.has_links(scratch)
    assert found.severity is (ERROR if fails else NOTE)
    assert found.seen.startswith("no hard links here (Operation not permitted)")


def test_folders_that_are_not_flushed_are_told(scratch, monkeypatch):
    fsync = os.fsync

    def of_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    found = store_probes.flushes(scratch)
    assert found.severity is NOTE
    assert "a power cut may take the newest receipts with it" in found.seen


def test_a_probe_that_hangs_is_told_in_time_and_what_needs_it_is_left_out():
    go = threading.Event()
    probes = [
        Probe("mount", lambda: ok(str(go.wait(60))), limit_s=0.05),
        Probe("space", lambda: ok("unreachable"), needs=("mount",)),
        Probe("clock", lambda: ok("right")),
    ]
    findings = dict(examine(probes))
    go.set()
    assert findings["mount"].seen == "no answer in 0 s"
    assert findings["space"] == note("not looked at, for want of: mount")
    assert worse_than_ok(findings) == {"mount": ERROR, "space": NOTE}


def test_what_a_probe_raises_is_a_finding_without_credentials():
    def broken():
        raise ValueError("no s3://user:secret@bucket/run?key=1\nnor anything")

    [(_, found)] = examine([Probe("store", broken)])
    assert found == error("ValueError: no s3://bucket/run nor anything")


HANGS = """
import sys, time
from mfsynth.cli import main
from mfsynth.storage.store import ObjectStore
ObjectStore.top_level = lambda store: time.sleep(3600)
main(["doctor", sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_while_a_store_hangs_it_ends_and_leaves_nothing(tmp_path, number):
    place = tmp_path / "new"
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "conditional create" not in process.stdout.readline():
        assert process.poll() is None
    while not any(path.name.endswith(".part") for path in place.iterdir()):
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert not place.exists()


def test_what_a_kill_leaves_of_a_probe_is_garbage(tmp_path):
    store = tiny_run.make_run(str(tmp_path), 1)
    store.put_bytes(left := probe_key(), b"1")
    store.put_bytes("_driver/progress.json", b'{"shards": 1}')
    assert [entry.key for entry in tiny_run.collect_all(store)] == [left]


def test_what_is_under_way_when_it_ends_is_waited_for_and_nothing_new_begins(tmp_path):
    scratch = Scratch(ObjectStore.open(tmp_path))
    began = threading.Event()

    def write():
        with scratch.key() as key:
            scratch.store.put_bytes(key, b"1")
            began.set()
            time.sleep(0.2)

    with scratch:
        threading.Thread(target=write).start()
        assert began.wait(60)
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(MfsynthError, match="interrupted"), scratch.key():
        pass


def test_a_configuration_is_looked_at_in_all_its_parts(run_folder, doctor, cluster):
    (run_folder.folder / "prompts.txt").write_text("a red cube\na blue ball\n")
    given = run_folder.file(), "--set", f"runtime.ray_address={cluster}"
    status, out, _ = doctor("--json", *given)
    document = json.loads(out)
    severities = {each["name"]: each["severity"] for each in document["findings"]}
    assert (status, document["severity"]) == (0, "ok"), document
    assert [*severities] == [
        *("model", "weights", "prompts", "checks", "store", "conditional create", "listing"),
        *("clock", "links", "flush", "run", "drivers", "space"),
        *("cluster", "versions", "same store", "open files", "nodes"),
    ]
    assert not run_folder.output.exists()


def test_a_run_on_this_machine_tries_whether_ray_starts(run_folder, doctor, monkeypatch):
    import ray

    def init(**settings):
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(ray, "init", init)
    status, out, _ = doctor("--json", run_folder.file())
    findings = {each["name"]: each for each in json.loads(out)["findings"]}
    assert status == 2
    assert "AF_UNIX path too long" in findings["cluster"]["seen"]
    assert findings["versions"]["seen"] == "not looked at, for want of: cluster"
    assert {findings[name]["severity"] for name in ("spool", "device")} == {"ok"}


def test_weights_that_lack_and_a_place_that_is_taken_are_errors(
    run_folder, doctor, tiny_model_dir, cluster
):
    import shutil

    start(run_folder.config())
    model = run_folder.folder / "model"
    shutil.copytree(tiny_model_dir, model)
    next((model / "text_encoder").glob("*.safetensors")).unlink()
    given = run_folder.file(model={"id": str(model)}), "--set", f"runtime.ray_address={cluster}"
    status, out, _ = doctor("--json", *given)
    findings = {each["name"]: each for each in json.loads(out)["findings"]}
    assert status == 2
    errors = {name for name, each in findings.items() if each["severity"] == "error"}
    assert errors == {"weights", "run"}
    assert "no weights" in findings["weights"]["seen"]
    assert "holds run 'small' with other settings" in findings["run"]["seen"]


def test_what_cannot_be_read_as_given_is_an_error_like_any_other(doctor, run_folder):
    status, out, _ = doctor(run_folder.file(), "--set", "sampler.step=3")
    assert (status, out[:22].rstrip()) == (2, "error    configuration")
    assert "sampler.steps" in out
    assert doctor("s3:/bucket")[0] == 2
    status, _, err = doctor("locl")
    assert status == 2
    assert "did you mean local?; ./locl for a folder" in " ".join(err.split())
    assert doctor("s3://bucket/run", "--pairs", "3")[0] == 2


def test_a_screen_has_eighty_columns_and_says_everything():
    found = warning("a very long story " * 20, "mend it " * 20)
    shown = lines("conditional create", found, 79)
    assert max(map(len, shown)) <= 79
    assert shown[0].startswith("warning  conditional create  a very long story")
    assert " ".join(textwrap.dedent("\n".join(shown)).split()).count("mend it") == 20
    assert [exit_status([ok(""), worst]) for worst in (ok(""), note(""), found, error(""))] == [
        *(0, 0, 1, 2)
    ]


def test_a_start_says_what_it_found_and_goes_on(run_folder, s3):
    url = f"{s3.new_bucket()}/run"
    config = run_folder.config(output=url)
    store, info = start(config), model_info(config.model)
    with s3.harmed_by(Faults(ignore_conditions=True)):
        findings = dict(examine_at_start(config, store, info, []))
    assert [*findings] == ["checks", "conditional create", "clock", "space", "spool"]
    assert worse_than_ok(findings) == {"conditional create": WARNING}


def test_a_start_that_could_only_fail_ends_before_ray(run_folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(run_folder.folder / "gone"))
    with pytest.raises(MfsynthError, match="can't write to the spool folder"):
        drive(run_folder.config(), Lines())
