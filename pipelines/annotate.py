"""Images to depth of them: the job behind `mfsynth annotate`, as a script to copy from.

    python pipelines/annotate.py configs/annotate.yaml out/annotated

On a cluster, submit it from the head node with `runtime.ray_address: auto` in the configuration.
"""

from __future__ import annotations

import sys

from mfsynth.errors import MfsynthError
from mfsynth.runs.driver import generate
from mfsynth.runs.settings import load_run_config


def main(config: str, output: str) -> None:
    """Start the run, or resume it."""
    result = generate(load_run_config(config, output=output), job="annotate")
    print(f"{result.outcome}: {result.totals.accepted} pairs in {result.url} {result.reason}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except MfsynthError as error:
        sys.exit(f"error: {error}")
