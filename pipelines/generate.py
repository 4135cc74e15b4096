"""The jobs behind `mfsynth generate`, `annotate` and `retexture`, as a script to copy from.

    python pipelines/generate.py configs/local.yaml out/local            # prompts to pairs
    python pipelines/generate.py configs/annotate.yaml out/annotated     # images to depth
    python pipelines/generate.py configs/retexture.yaml out/retextured   # depth to images

Which of them a configuration is for, its `sampler.mode` says.

On a cluster, submit it from the head node with `runtime.ray_address: auto` in the configuration.
"""

from __future__ import annotations

import argparse
import sys

from mfsynth.errors import MfsynthError
from mfsynth.runs.driver import generate
from mfsynth.runs.jobs import job_of
from mfsynth.runs.settings import load_run_config


def main(config: str, output: str) -> None:
    """Start the run, or resume it."""
    settings = load_run_config(config, output=output)
    result = generate(settings, job=job_of(settings))
    print(f"{result.outcome}: {result.totals.accepted} pairs in {result.url} {result.reason}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="name or path of a configuration")
    parser.add_argument("output", help="folder or URL of the run")
    given = parser.parse_args()
    try:
        main(given.config, given.output)
    except MfsynthError as error:
        sys.exit(f"error: {error}")
