"""Prompts to RGB-D pairs: the job behind `mfsynth generate`, as a script to copy from.

    python pipelines/generate.py configs/local.yaml out/local

On a cluster, submit it from the head node with `runtime.ray_address: auto` in the configuration.
"""

from __future__ import annotations

import sys

import mfsynth
from mfsynth.errors import MfsynthError


def main(config: str, output: str) -> None:
    """Start the run, or resume it."""
    result = mfsynth.generate(config, output=output)
    print(f"{result.outcome}: {result.totals.accepted} pairs in {result.url} {result.reason}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except MfsynthError as error:
        sys.exit(f"error: {error}")
