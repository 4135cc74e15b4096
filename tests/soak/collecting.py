"""gc beside the run of the soak, with times as short as its faults allow.

    python collecting.py URL

Prints a line of JSON a call: what it marked and removed, or why it refused.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

from mfsynth.errors import MfsynthError
from mfsynth.shards import drivers
from mfsynth.shards.gc import collect
from mfsynth.storage.store import ObjectStore

# Ten beats, as outside of the soak.
FRESH = timedelta(seconds=10)
# Above the time for which a driver is suspended: it may stop between its look at the tombstones
# and its commit.
DELAY = timedelta(seconds=75)
SECONDS_BETWEEN_CALLS = 3.0


def main(url: str) -> None:
    """Never ends."""
    drivers.FRESH = FRESH
    while True:
        try:
            # No age is too young: what is uploaded for a commit is marked, too.
            done = collect(ObjectStore.open(url), timedelta(), delay=DELAY)
        except MfsynthError as error:
            said: dict[str, object] = {"refused": str(error)}
        else:
            said = {name: [e.key for e in getattr(done, name)] for name in ("marked", "removed")}
        print(json.dumps(said), flush=True)
        time.sleep(SECONDS_BETWEEN_CALLS)


if __name__ == "__main__":
    main(sys.argv[1])
