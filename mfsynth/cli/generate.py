"""`mfsynth generate`: start or resume a run."""

from __future__ import annotations

import click


@click.command()
@click.argument("config", default="local")
@click.option("--out", metavar="URL", help="Where to write: a folder or an fsspec URL.")
@click.option("--pairs", type=click.IntRange(min=1), help="Accepted pairs that end the run.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def generate(config: str, out: str | None, pairs: int | None, overrides: tuple[str, ...]) -> None:
    """Start or resume a run: generate RGB-D pairs from prompts.

    CONFIG is a YAML file or the name of one in configs/. The same command resumes a run that was
    interrupted, and a larger target extends one that is finished.

    Exit status: 0 finished, 1 error, 130 or 143 stopped by a signal after finishing the shards in
    work.
    """
    from mfsynth.config import load_config

    settings = load_config(config, overrides, output=out, pairs=pairs)

    # After the configuration, so that its errors don't wait for torch.
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.driver import generate as drive
    from mfsynth.runs.supervisor import Outcome

    result = drive(settings)
    tally = result.tally
    summary = f"{tally.accepted} pairs in {tally.shards} shards"
    if tally.candidates:
        summary += f", {tally.acceptance:.0%} of {tally.candidates} candidates accepted"
    if rejects := tally.rejects():
        summary += f", {rejects}"
    if result.outcome is Outcome.FAILED:
        raise MfsynthError(
            f"{result.reason} ({result.url}: {summary}; the same command goes on from there)"
        )
    click.echo(summary)
    if result.outcome is Outcome.FINISHED:
        click.echo(f"finished: {result.url}")
        click.echo(f"next: mfsynth verify {result.url}; mfsynth report {result.url}")
        return
    click.echo(f"{result.reason}: {result.url}; the same command goes on from there")
    raise SystemExit(128 + (result.signal or 0))
