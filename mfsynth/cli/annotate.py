"""`mfsynth annotate`: images get depth."""

from __future__ import annotations

import click

from mfsynth.cli.generate import job_options, start_job


@click.command()
@click.argument("config", default="annotate")
@job_options
def annotate(
    config: str, out: str | None, pairs: int | None, overrides: tuple[str, ...], log: str
) -> None:
    """Give images depth: start or resume a run over the images of a source.

    CONFIG is a YAML file or the name of one in configs/; its `source` names a folder, tar files or
    a run. Images keep their size, and photographs their bytes; what can't be read is counted and
    listed. The same command resumes, and exit statuses are those of generate.
    """
    start_job("annotate", config, out, pairs, overrides, log)
