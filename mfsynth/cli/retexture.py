"""`mfsynth retexture`: depth gets images."""

from __future__ import annotations

from typing import Any

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.generate import job_options, start_job


@click.command()
@click.argument("config", default="retexture", shell_complete=names_of("configs"))
@job_options
def retexture(config: str, dry_run: bool, **options: Any) -> None:
    """Give depth images: start or resume a run over the depth maps of a source.

    CONFIG is a YAML file or the name of one in configs/ [default: retexture]; its `source` names a
    simulator, a folder with depth, tar files or a run. Depth and camera of the source are stored as
    they are, with the measured error of each image. The same command resumes, and exit statuses are
    those of generate.
    """
    start_job("retexture", config, dry_run=dry_run, **options)
