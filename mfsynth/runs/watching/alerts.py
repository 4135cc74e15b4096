"""Tells somebody who is not there that a run is stalled, goes on, has failed or is finished.

What is told is JSON: `event`, `text` in one line, `run`, `url` (without credentials), `host`,
`time` (ISO 8601, UTC), and what there is to the event. It is posted to a URL, or is a command's
standard input. Where to is a secret: it is not shown, logged or stored.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mfsynth.formatting import one_line
from mfsynth.runs.watching.aside import Aside
from mfsynth.runs.watching.notices import STALLED, UNSTALLED, Announcement, Notice
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.storage.credentials import without_credentials

FAILED, FINISHED = "failed", "finished"
EVENTS = (STALLED, UNSTALLED, FAILED, FINISHED)
VARIABLE = "MFSYNTH_ON_EVENT"
LIMIT_S = 10.0
_LONGEST_TEXT = 2000
_LOGGER = logging.getLogger("mfsynth.run")


def alerts(target: str, run: str, url: str) -> Aside:
    """Who tells `target` of a run; a context manager, whose end waits for what is under way.

    Args:
        target: A URL, or a command; nobody is told if it is empty.
        run: The run's name.
        url: Where its output is.
    """
    about = {"run": run, "url": without_credentials(url), "host": socket.gethostname()}
    return Aside(_Alerts(target.strip(), about), end_s=LIMIT_S + 2, daemon=True)


def is_url(target: str) -> bool:
    """Whether it is posted to, rather than run."""
    return target.strip().lower().startswith(("http://", "https://"))


class _Alerts:
    def __init__(self, target: str, about: Mapping[str, str]) -> None:
        self._target = target
        self._about = about
        self._failed = False

    def __enter__(self) -> _Alerts:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        """Nothing to tell of that."""

    def tell(self, notice: Notice) -> None:
        if not self._target:
            return
        match notice:
            case Announcement(event, text, fields) if event in EVENTS:
                time = datetime.now(UTC).isoformat(timespec="seconds")
                line = one_line(without_credentials(text), _LONGEST_TEXT)
                told = {"event": event, "text": line, **self._about, "time": time, **fields}
                self._send(json.dumps(told, default=str).encode())

    def _send(self, document: bytes) -> None:
        # Exception: whatever goes wrong there, no run is worth less for it; what it says may have
        # the URL in it.
        try:
            problem = (_post if is_url(self._target) else _run)(self._target, document)
        except Exception as error:
            problem = type(error).__name__
        if problem and not self._failed:
            self._failed = True
            _LOGGER.warning("runtime.on_event: %s; the run goes on, and this is said once", problem)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Nowhere but where the user said."""


def _post(url: str, document: bytes) -> str | None:
    headers = {"Content-Type": "application/json", "User-Agent": "mfsynth"}
    request = urllib.request.Request(url, document, headers, method="POST")
    try:
        urllib.request.build_opener(_NoRedirects).open(request, timeout=LIMIT_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        return f"the URL answers with status {error.code}"
    except OSError as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or type(reason).__name__
        return f"the URL can't be reached ({said})"
    return None


def _run(command: str, document: bytes) -> str | None:
    process = subprocess.Popen(
        shlex.split(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.communicate(document, LIMIT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"the command did not end in {LIMIT_S:g} s, and was ended"
    return f"the command ended with status {process.returncode}" if process.returncode else None
