"""Who is told at night, by a real server on loopback and real commands."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standin import Behaviour, opener
from test_driver import Lines, assert_sound

from mfsynth.config import RuntimeConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs import driver
from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome
from mfsynth.runs.plan import recorded_config
from mfsynth.runs.pool import WorkerPool
from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.settings import load_run_config
from mfsynth.runs.watching import alerts as alerting
from mfsynth.runs.watching.alerts import alerts
from mfsynth.runs.watching.notices import Announcement, FailureNotice
from mfsynth.shards.run_manifest import read_run
from mfsynth.storage.store import ObjectStore

SECRET = "T0K3N"
STALLED = Announcement("stalled", "stalled: waiting", {"cause": "store", "seconds": 200.0})
FINISHED = Announcement(
    "finished", "7 pairs, from s3://key:password@bucket/prompts\n\x1b[2J", {"pairs": 7}
)


class Server:
    """Takes what is posted, and answers as it is told to."""

    def __init__(self) -> None:
        self.taken: list[dict] = []
        self.status, self.hold = 200, threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == f"/hooks/{SECRET}"
                assert self.headers["Content-Type"] == "application/json"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.taken.append(json.loads(body))
                outer.hold.wait(60)
                self.send_response(outer.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.hold.set()
    started.server.shutdown()


def tell(target: str, *notices: Announcement) -> None:
    with alerts(target, "kitchen", "s3://key:password@bucket/run") as somebody:
        for notice in notices:
            somebody.tell(notice)


def test_what_happened_is_posted_as_json_without_credentials(server):
    tell(server.url, STALLED, Announcement("resuming", "not worth a call"), FINISHED)
    first, last = server.taken
    host = socket.gethostname()
    about = {"run": "kitchen", "url": "s3://bucket/run", "host": host}
    assert first.pop("time").endswith("+00:00")
    assert first == {"event": "stalled", "text": STALLED.text, **about} | dict(STALLED.fields)
    assert (last["event"], last["pairs"]) == ("finished", 7)
    assert last["text"] == "7 pairs, from s3://bucket/prompts\\n\\u001b[2J"


def test_a_command_has_it_on_its_standard_input(tmp_path):
    program = tmp_path / "told.py"
    program.write_text(
        "import sys, pathlib\npathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())\n"
    )
    tell(f"{sys.executable} {program} '{tmp_path}/what was told'", STALLED)
    assert json.loads((tmp_path / "what was told").read_text())["event"] == "stalled"


@pytest.mark.parametrize(
    ("status", "said"), [(500, "answers with status 500"), (302, "answers with status 302")]
)
def test_what_fails_is_said_once_and_without_the_secret(server, caplog, status, said):
    server.status = status
    tell(server.url, STALLED, FINISHED)
    (record,) = caplog.records
    assert said in record.getMessage()
    assert record.levelno == logging.WARNING
    assert len(server.taken) == 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "target",
    [
        f"http://127.0.0.1:1/{SECRET}",
        f"http://host.invalid/{SECRET}",
        f"http://[{SECRET}",
        f"/no/such/command {SECRET}",
        f"'unbalanced {SECRET}",
        f"{sys.executable} -c 'raise SystemExit(3)' {SECRET}",
    ],
)
def test_wherever_it_fails_the_secret_is_not_shown(target, caplog, capfd):
    tell(target, STALLED, FINISHED)
    assert len(caplog.records) == 1
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", ["server", "command"])
def test_what_takes_too_long_is_left_and_delays_nobody(server, kind, monkeypatch, caplog):
    monkeypatch.setattr(alerting, "LIMIT_S", 0.5)
    server.hold.clear()
    command = f"{sys.executable} -c 'import time; time.sleep(60)'"
    target = server.url if kind == "server" else command
    began = time.monotonic()
    tell(target, STALLED)
    assert time.monotonic() - began < 20
    assert len(caplog.records) == 1


# --- a whole night ---------------------------------------------------------------------------


class FreesTheDisk(Lines):
    """A display that mends what a run waits for, as soon as it says that it is stalled."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.kept: set[int] = set()

    def tell(self, notice):
        super().tell(notice)
        if isinstance(notice, FailureNotice) and notice.cause is FailureCause.STORE:
            self.kept.add(notice.shard)
        if isinstance(notice, Announcement) and notice.event == "stalled":
            self.behaviour.go()


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_stops_nothing_and_somebody_is_told(
    run_folder, cluster, server, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.watching.stalls.STALLED_AFTER_S", 1.0)
    monkeypatch.setenv("MFSYNTH_ON_EVENT", server.url)
    given: list[int] = []
    assign = WorkerPool.assign

    def note(self, number, assignment, candidates):
        given.append(assignment.shard)
        assign(self, number, assignment, candidates)

    monkeypatch.setattr(WorkerPool, "assign", note)
    run_folder.values["runtime"]["ray_address"] = cluster
    behaviour = Behaviour(full_until_go=True, scratch=str(run_folder.folder))
    display = FreesTheDisk(behaviour)
    result = generate(run_folder.config(), open_worker=opener(behaviour), display=display)
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    assert [told["event"] for told in server.taken] == ["stalled", "going_on", "finished"]
    assert server.taken[0]["cause"] == "store"
    assert "no space left" in server.taken[0]["text"]
    assert server.taken[-1]["pairs"] == len(run_folder.expected_ids())
    assert any(line.startswith("waiting ") for line in display.snapshots)
    assert_sound(run_folder)
    # What was made was kept: no shard that waited for the disk was given out again. Another may
    # have been, if its worker was slow.
    assert {given.count(shard) for shard in display.kept} == {1}
    store = ObjectStore.open(str(run_folder.output))
    assert SECRET not in store.read_bytes("run.json").decode()


def test_a_run_that_can_not_start_is_a_failure_that_somebody_is_told_of(
    run_folder, server, monkeypatch
):
    runtime = {**run_folder.values["runtime"], "on_event": server.url}
    config = run_folder.config(runtime=runtime, model={"id": "/no/such/model"})
    with pytest.raises(MfsynthError):
        generate(config, display=Lines())
    (told,) = server.taken
    assert told["event"] == "failed"
    assert "model" in told["text"]


def test_where_to_is_stored_nowhere_and_shown_nowhere(run_folder, server, monkeypatch):
    runtime = {**run_folder.values["runtime"], "on_event": server.url}
    config = run_folder.config(runtime=runtime)
    assert config.runtime.on_event.get_secret_value() == server.url
    for text in (repr(config), str(config), str(recorded_config(config)), config.model_dump_json()):
        assert SECRET not in text
    assert "on_event" not in recorded_config(config)["runtime"]
    given = []

    def keep(self, config, *_args):
        given.append(config)
        raise MfsynthError("far enough")

    monkeypatch.setattr(driver._Session, "__init__", keep)
    with pytest.raises(MfsynthError, match="far enough"):
        generate(config, display=Lines())
    assert given[0].runtime.on_event is None
    store = ObjectStore.open(config.output)
    assert "on_event" not in read_run(store).config["runtime"]


def test_a_file_names_no_command(run_folder):
    path = run_folder.file(runtime={"on_event": "rm -rf /"})
    with pytest.raises(MfsynthError, match=r"runtime\.on_event: a file may name a URL"):
        load_run_config(str(path))
    assert load_run_config(str(path), ["runtime.on_event=mail me"]).runtime.on_event is not None
    path = run_folder.file(runtime={"on_event": "https://hooks.example/x"})
    assert load_run_config(str(path)).runtime.on_event is not None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("auto", 1800.0),
        (90, 90.0),
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1.5h", 5400.0),
        ("2 d", 172800),
    ],
)
def test_patience_is_a_time(given, seconds):
    assert RuntimeConfig(patience=given).patience_s == seconds


def test_patience_is_longer_on_a_cluster_and_nonsense_is_refused(run_folder):
    assert RuntimeConfig(ray_address="auto").patience_s == 4 * 3600
    for nonsense in ("for ever", -1, True, float("inf")):
        with pytest.raises(MfsynthError, match=r"runtime\.patience: must be auto, seconds, or"):
            load_run_config(str(run_folder.file(runtime={"patience": nonsense})))
