"""`mfsynth annotate`: images get depth."""

from __future__ import annotations

from typing import Any

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.generate import job_options, start_job


@click.command()
@click.argument("config", default="annotate", shell_complete=names_of("configs"))
@job_options
def annotate(config: str, dry_run: bool, **options: Any) -> None:
    """Give images depth: start or resume a run over the images of a source.

    CONFIG is a YAML file or the name of one in configs/ [default: annotate]; its `source` names a
    folder, tar files or a run. Images keep their size, and photographs their bytes; what can't be
    read is counted and listed. The same command resumes, and exit statuses are those of generate.
    """
    start_job("annotate", config, dry_run=dry_run, **options)
