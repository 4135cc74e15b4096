"""Images to depth of them: the job behind `mfsynth annotate`, as a script to copy from.

    python pipelines/annotate.py configs/annotate.yaml out/annotated

On a cluster, submit it from the head node with `runtime.ray_address: auto` in the configuration.
"""

from __future__ import annotations

import sys

import mfsynth
from mfsynth.errors import MfsynthError


def main(config: str, output: str) -> None:
    """Start the run, or resume it."""
    result = mfsynth.annotate(config, output=output)
    print(f"{result.outcome}: {result.totals.accepted} pairs in {result.url} {result.reason}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except MfsynthError as error:
        sys.exit(f"error: {error}")
