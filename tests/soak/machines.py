"""Processes of the soak, and a Ray cluster of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil

TOKEN = "MFSYNTH_SOAK"
NODES, CORES_A_NODE = 2, 2


class Process:
    """A process in a group of its own, with all that it starts.

    Of an `unheard` one standard error is a pipe that nobody reads.
    """

    def __init__(
        self, command: Sequence[str | Path], log: Path, token: str, *, unheard: bool = False
    ) -> None:
        environment = os.environ | {
            TOKEN: token,
            "TMPDIR": str(log.parent.parent / "tmp"),  # of Ray's sessions, too
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else whatever else the machine does comes first
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_AUTH_MODE": "disabled",  # whatever tokens there are in the home folder
        }
        self.log, self.unheard = log, unheard
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [*map(str, command)],
                stdout=out,
                stderr=subprocess.PIPE if unheard else subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        if self.popen.stderr is not None:
            self.popen.stderr.close()

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        if self.runs:
            self.popen.send_signal(number)

    def send_to_group(self, number: int) -> None:
        if self.runs:
            os.killpg(self.popen.pid, number)

    def below(self, name: str) -> list[psutil.Process]:
        """Its descendants whose command begins with `name`."""
        found = []
        with suppress(psutil.Error):
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                with suppress(psutil.Error, IndexError):
                    if Path(process.cmdline()[0]).name.startswith(name):
                        found.append(process)
        return found

    def kill_all(self) -> None:
        with suppress(psutil.Error):
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
        if self.runs:
            self.popen.kill()
        self.popen.wait()


RAY = Path(sys.executable).with_name("ray")
LEAN = (f"--object-store-memory={80 * 2**20}", "--include-log-monitor=false")


class Cluster:
    """A head without cores, and nodes, each as `ray start` starts it on a machine of its own."""

    def __init__(self, logs: Path, token: str) -> None:
        self.logs, self.token, self.names = logs, token, count()
        self.nodes: list[Process] = []
        self.strangers: list[Process] = []  # nodes that see other files
        self.begin()

    def begin(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        options = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
        self.head = self._start(options)
        self.nodes, self.strangers = [], []
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if not self.head.runs:
                sys.exit(f"ray start --head: {last_line(self.head.log)}")
            time.sleep(0.2)
        for _ in range(NODES):
            self.add()

    def add(self) -> None:
        self.nodes.append(self._start(self._as_node()))

    def add_a_stranger(self, output: Path, before: str) -> Process:
        """A node to which `output` is another folder; the shell's `before` fills that, `$1`."""
        script = f'mount -t tmpfs none "$1" && {before}; shift; exec "$@"'
        unshared = ["unshare", "--mount", "sh", "-c", script, "sh", str(output)]
        self.strangers.append(self._start(self._as_node(), unshared))
        return self.strangers[-1]

    def lost(self) -> int:
        """Forget nodes that are gone; how many they were."""
        gone = [node for node in self.nodes if not node.runs]
        for node in gone:
            self.nodes.remove(node)
        return len(gone)

    def workers(self) -> list[psutil.Process]:
        return [worker for node in self.nodes for worker in node.below("ray::_Actor")]

    def kill(self) -> None:
        for process in [self.head, *self.nodes, *self.strangers]:
            process.kill_all()

    def _as_node(self) -> Sequence[str]:
        return [f"--address={self.address}", f"--num-cpus={CORES_A_NODE}"]

    def _start(self, options: Sequence[str], within: Sequence[str] = ()) -> Process:
        log = self.logs / f"node-{next(self.names)}.txt"
        return Process([*within, RAY, "start", *options, *LEAN, "--block"], log, self.token)


def can_mount() -> bool:
    """Whether this user may give a process files of its own."""
    return not subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else ""
