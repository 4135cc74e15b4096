"""When a run stands still because of something that is not its own to mend."""

from __future__ import annotations

from mfsynth.formatting import duration
from mfsynth.runs.events import View, WorkerState
from mfsynth.runs.watching.notices import STALLED, UNSTALLED, Announcement
from mfsynth.runs.watching.snapshot import wait_text

# What is shorter is nobody's business at night.
STALLED_AFTER_S = 120.0


class StallWatch:
    """Tells when a run begins to stand still, and when it goes on. Knows no clock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = False

    def look(self, view: View, now: float) -> Announcement | None:
        """What is to be told, if something is.

        Args:
            view: Of the run; it stands still while it waits and no worker makes anything.
            now: Seconds of any clock that never goes back.
        """
        if not view.waits or any(w.state is WorkerState.MAKING for w in view.workers):
            since, told = self._since, self._told
            self._since, self._told = None, False
            if since is None or not told:
                return None
            text = f"going on, after {duration(now - since)} at a standstill"
            return Announcement(UNSTALLED, text, {"seconds": round(now - since, 1)})
        longest = max(view.waits, key=lambda wait: wait.seconds)
        if self._since is None:
            self._since = now
        if self._told or now - self._since < STALLED_AFTER_S:
            return None
        self._told = True
        return Announcement(
            STALLED,
            f"stalled: {wait_text(longest)}",
            {"cause": longest.cause.value, "seconds": round(longest.seconds, 1)},
        )
