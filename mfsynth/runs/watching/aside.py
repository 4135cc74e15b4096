"""Observers beside the run: one that fails or hangs costs the run nothing."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType

from mfsynth.runs.watching.notices import Notice, Observer
from mfsynth.runs.watching.snapshot import Snapshot

# What an observer that is held up (a terminal that is stopped, a pager that nobody scrolls) may be
# behind; of more, the oldest are dropped.
_MOST_WAITING = 1000
# A disk that is full, or a pipe that takes nothing for the moment: later lines may be seen.
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR)


class Aside:
    """Tells another observer of a run, on a thread of its own.

    What can't be shown is not shown: a pipe that nobody reads any more, a terminal that was closed.
    An observer that fails for good is not asked again.

    Args:
        observer: The other one. All of it happens on the thread.
        give_up: Called, on the thread, if it fails for good.
        end_s: How long the end of a run waits until it has been told everything.
        daemon: Whether the process may end while it is held up: not where it writes to what the
            interpreter itself writes to at its end.
    """

    def __init__(
        self,
        observer: Observer,
        give_up: Callable[[], None] = lambda: None,
        *,
        end_s: float = 5.0,
        daemon: bool = False,
    ) -> None:
        self._observer = observer
        self._give_up = give_up
        self._end_s = end_s
        self._works = True
        self._news = threading.Condition()
        self._notices: deque[Notice] = deque(maxlen=_MOST_WAITING)
        self._snapshot: Snapshot | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="observer", daemon=daemon)

    def __enter__(self) -> Aside:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._news:
            self._ended = True
            self._news.notify()
        self._thread.join(self._end_s)

    def tell(self, notice: Notice) -> None:
        """Take in what happened."""
        with self._news:
            self._notices.append(notice)
            self._news.notify()

    def show(self, snapshot: Snapshot) -> None:
        """Take in how things stand, instead of what was not shown yet."""
        with self._news:
            self._snapshot = snapshot
            self._news.notify()

    def _run(self) -> None:
        self._do(self._observer.__enter__)
        ended = False
        while not ended:
            with self._news:
                self._news.wait_for(self._has_news)
                notices, self._notices = self._notices, deque(maxlen=_MOST_WAITING)
                snapshot, self._snapshot = self._snapshot, None
                ended = self._ended
            for notice in notices:
                self._do(partial(self._observer.tell, notice))
            if snapshot is not None:
                self._do(partial(self._observer.show, snapshot))
        self._do(partial(self._observer.__exit__, None, None, None))

    def _has_news(self) -> bool:
        return bool(self._notices) or self._snapshot is not None or self._ended

    def _do(self, act: Callable[[], object]) -> None:
        if not self._works:
            return
        try:
            act()
        except (OSError, ValueError, SystemExit) as error:
            # ValueError: the file is closed. SystemExit: so rich takes a pipe that nobody reads.
            if isinstance(error, ValueError) and "closed" not in str(error):
                raise
            if not (isinstance(error, OSError) and error.errno in _MAY_PASS):
                self._works = False
                self._give_up()
                # It may have taken the process' streams, which others need.
                with contextlib.suppress(Exception, SystemExit):
                    self._observer.__exit__(None, None, None)
