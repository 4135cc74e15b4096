"""A driver's log in the store, beside the run: for people who come when its terminal is gone."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from mfsynth import __version__
from mfsynth.errors import MfsynthError
from mfsynth.formatting import counts, one_line
from mfsynth.runs.watching.notices import Announcement, Committed, FailureNotice, Notice
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.runs.watching.terminal import FailureLines
from mfsynth.shards.layout import log_key, new_log
from mfsynth.shards.records import Receipt
from mfsynth.storage.credentials import redacted
from mfsynth.storage.store import ObjectStore

# What is lost where a driver is killed.
_INTERVAL_S = 30.0
# A part is written anew as it grows, and so is kept small.
_PART_BYTES = 500_000
_PROGRESS_S = 300.0
# The end of a driver doesn't wait longer for a store that hangs.
_END_S = 10.0


class RunLog:
    """Takes down what a driver says, and writes it now and then, on a thread of its own.

    A store that fails is no matter: what could not be written is written the next time. A context
    manager: leaving it writes the rest.

    Args:
        store: Of the run.
        clock: Seconds that never go back.

    Attributes:
        url: Of the part that was written last; empty before the first.
    """

    def __init__(self, store: ObjectStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._name = new_log(datetime.now(UTC))
        self._part = 0
        self.url = ""
        self._lines: list[str] = []
        self._written = 0
        self._shown = -math.inf
        self._failures = FailureLines(clock)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run-log", daemon=True)

    def __enter__(self) -> RunLog:
        host, process = socket.gethostname(), os.getpid()
        self.write(f"mfsynth {__version__} on {host}, process {process}: {self._store.url}")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.write(f"ended: {str(error) or type(error).__name__}")
        self._stop.set()
        self._thread.join(_END_S)

    def write(self, text: str) -> None:
        """Take down a line."""
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._lock:
            self._lines.append(f"{moment} {one_line(redacted(text, self._store.location))}\n")

    def tell(self, notice: Notice) -> None:
        """Take down what happened; of failures of one cause a few a minute, progress counts all."""
        match notice:
            case Announcement(text=text):
                self.write(text)
            case FailureNotice(cause, text) if self._failures.admits(notice):
                self.write(f"{cause.replace('_', ' ')}: {text}")
            case Committed(receipt):
                self.write(_committed(receipt))

    def show(self, snapshot: Snapshot) -> None:
        """Take down now and then how things stand."""
        if self._clock() - self._shown >= _PROGRESS_S:
            self._shown = self._clock()
            self.write(snapshot.line())

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            lines = self._lines[:]
        if len(lines) == self._written:
            return
        data, key = "".join(lines).encode(), log_key(self._name, self._part)
        with contextlib.suppress(MfsynthError):
            self._store.put_bytes(key, data)
            self._written, self.url = len(lines), f"{self._store.url}/{key}"
            if len(data) >= _PART_BYTES:
                with self._lock:
                    del self._lines[: len(lines)]
                self._part, self._written = self._part + 1, 0


def _committed(receipt: Receipt) -> str:
    text = f"shard {receipt.shard}: {receipt.accepted} of {receipt.candidates} accepted"
    if receipt.rejected:
        text += f", {receipt.rejected} rejected ({counts(dict(receipt.reasons))})"
    if receipt.quarantined:
        text += f", {receipt.quarantined} quarantined"
    if receipt.prompts_unknown:
        text += f", {receipt.prompts_unknown} prompts with unknown words"
    if receipt.prompts_cut:
        text += f", {receipt.prompts_cut} prompts cut"
    if receipt.retries:
        text += f", after failures ({counts(dict(receipt.retries))})"
    return f"{text}; {receipt.total_seconds:.1f} s on {receipt.worker}"
