"""A run's log for programs: JSON objects, one a line, on standard error."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mfsynth.formatting import printable
from mfsynth.runs.events import Outcome
from mfsynth.runs.result import RunResult
from mfsynth.runs.watching.notices import Announcement, Committed, FailureNotice, Notice
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.runs.watching.streams import switch_off
from mfsynth.storage.credentials import without_credentials

# As often as the plain display.
PROGRESS_INTERVAL_S = 15.0
_LOGGER = logging.getLogger("mfsynth.run")


class JsonFormatter(logging.Formatter):
    """One JSON object a record: `time` (UTC), `level`, `event`, `message`, and its fields.

    Records of libraries, which know no events, have their logger's name as `event`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """As JSON, in one line; URLs in it lose their credentials."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "message": message,
            **getattr(record, "fields", {}),
        }
        clean = {n: without_credentials(v) if isinstance(v, str) else v for n, v in line.items()}
        return printable(json.dumps(clean, ensure_ascii=False, default=str))


class _StandardError(logging.StreamHandler[Any]):
    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lines that can't be written are not written; where nobody reads, no more of them."""
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            switch_off(self.stream)
        elif not isinstance(error, (OSError, ValueError)):
            super().handleError(record)


@contextmanager
def json_lines() -> Iterator[None]:
    """While it is entered, all logging and all warnings of the process are JSON lines."""
    handler = _StandardError()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    _LOGGER.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers = before


class JsonLog:
    """Tells of a run in the log; enter `json_lines` around it."""

    def __init__(self) -> None:
        self._shown = -math.inf

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, notice: Notice) -> None:
        """Write a line."""
        match notice:
            case Announcement(event, text, fields):
                _write(logging.INFO, event, text, fields)
            case FailureNotice(cause, text, worker, shard):
                blamed = {"cause": cause.value, "worker": worker, "shard": shard}
                _write(logging.WARNING, "failure", text, blamed)
            case Committed(receipt):
                _write(
                    logging.INFO,
                    "shard_committed",
                    f"shard {receipt.shard}: {receipt.accepted} of {receipt.candidates} accepted",
                    {
                        "shard": receipt.shard,
                        "attempt": receipt.attempt,
                        "host": receipt.worker,
                        "candidates": receipt.candidates,
                        "pairs": receipt.accepted,
                        "rejected": receipt.rejected,
                        "quarantined": receipt.quarantined,
                        "reasons": dict(receipt.reasons),
                        "seconds": dict(receipt.seconds),
                        "device": receipt.device_name or receipt.device or None,
                        "prompts_unknown": receipt.prompts_unknown,
                        "prompts_cut": receipt.prompts_cut,
                        "retries": None if receipt.retries is None else dict(receipt.retries),
                    },
                )

    def show(self, snapshot: Snapshot) -> None:
        """Write a line now and then."""
        if time.monotonic() - self._shown < PROGRESS_INTERVAL_S:
            return
        self._shown = time.monotonic()
        totals = snapshot.totals
        _write(
            logging.INFO,
            "progress",
            snapshot.line(),
            {
                "unit": snapshot.goal.unit,
                "gained": snapshot.gained,
                "target": snapshot.goal.target,
                "shards": totals.shards,
                "candidates": totals.candidates,
                "in_work": snapshot.view.in_work,
                "acceptance": totals.acceptance,
                "candidates_per_second": snapshot.rate,
                "seconds_left": snapshot.eta_s,
                "workers": snapshot.workers_by_state(),
                "failures": dict(snapshot.failures),
                "waiting": {wait.cause: round(wait.seconds) for wait in snapshot.view.waits},
            },
        )


def log_end(result: RunResult) -> None:
    """Log how a session ended, with the status of the whole run."""
    level = logging.ERROR if result.outcome is Outcome.FAILED else logging.INFO
    summary = {
        "outcome": result.outcome.value,
        "reason": result.reason or None,
        "seconds": round(result.seconds, 3),
        "gained": result.gained,
        "failures": dict(result.failures),
        "log": result.log or None,
        "status": result.status.to_dict(),
    }
    _write(level, "ended", result.reason or result.outcome.value, summary)


def log_error(text: str) -> None:
    """Log why a run cannot start."""
    _write(logging.ERROR, "error", text, {})


def _write(level: int, event: str, text: str, fields: Mapping[str, Any]) -> None:
    known = {name: value for name, value in fields.items() if value is not None}
    _LOGGER.log(level, "%s", text, extra={"event": event, "fields": known})
