"""`mfsynth generate`: start or resume a run of prompts; and what all such commands have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.options import PairCount
from mfsynth.cli.output import echo
from mfsynth.formatting import one_line, shell_line

if TYPE_CHECKING:
    from mfsynth.runs.result import RunResult
    from mfsynth.runs.watching.notices import Observer


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that starts or resumes a run."""
    options = (
        click.option("--out", metavar="URL", help="Where to write: a folder or an fsspec URL."),
        click.option("--pairs", type=PairCount(), help="Accepted pairs that end the run."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="A.B=C",
            help="Change a setting; repeatable.",
        ),
        click.option(
            "--log",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="For people, or one JSON object a line on standard error.",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Show prompts, what the run takes, and what is to be mended; make nothing.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("config", default="local", shell_complete=names_of("configs"))
@job_options
def generate(config: str, dry_run: bool, **options: Any) -> None:
    """Start or resume a run: generate RGB-D pairs from prompts.

    CONFIG is a YAML file or the name of one in configs/ [default: local]. The same command resumes
    a run that was interrupted, and a larger target extends one that is finished.

    Exit status: 0 finished, 1 error, 129, 130 or 143 stopped by a signal (SIGHUP, SIGINT, SIGTERM)
    after finishing the shards in work. Output that can't be shown changes nothing. Of --dry-run: 0
    if the run can start, 2 if something is to be mended first.
    """
    start_job("generate", config, dry_run=dry_run, **options)


def start_job(
    job: str,
    config: str,
    out: str | None,
    pairs: int | None,
    overrides: tuple[str, ...],
    log: str,
    dry_run: bool,
) -> None:
    """Start or resume a run, and say how it goes; leaves with the process' exit status.

    Args:
        job: The command: one of `mfsynth.api.JOBS`.
        config: Name or path of a configuration.
        out: Of the option `--out`; likewise the others.
        pairs: Of `--pairs`.
        overrides: Of `--set`.
        log: Of `--log`.
        dry_run: Of `--dry-run`.
    """
    if dry_run:
        from mfsynth.cli.rehearsal import rehearse

        rehearse(job, config, out, pairs, overrides)

    def run(display: Observer | None) -> RunResult:
        from mfsynth.api import JOBS

        return JOBS[job](config, output=out, pairs=pairs, overrides=overrides, display=display)

    if log == "json":
        _with_json_lines(run)
    else:
        _with_text(run)


def _with_text(run: Callable[[Observer | None], RunResult]) -> None:
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.events import Outcome

    result = run(None)
    _say("\n".join(map(one_line, [*result.lines(), *result.remarks()])))
    match result.outcome:
        case Outcome.FAILED:
            raise MfsynthError(
                f"{result.reason} ({result.url}: the same command goes on from there)"
            )
        case Outcome.FINISHED:
            _say(f"finished: {result.url}")
            commands = (shell_line("mfsynth", verb, result.url) for verb in ("verify", "report"))
            _say(f"next: {'; '.join(commands)}")
        case Outcome.DRAINED:
            _say(f"{result.reason}: {result.url}; the same command goes on from there")
    raise SystemExit(result.exit_status)


def _say(text: str) -> None:
    try:
        echo(text)
    except (OSError, ValueError):
        from mfsynth.runs.watching.streams import switch_off

        switch_off(sys.stdout)


def _with_json_lines(run: Callable[[Observer | None], RunResult]) -> None:
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.watching.aside import Aside
    from mfsynth.runs.watching.jsonlog import JsonLog, json_lines, log_end, log_error

    with json_lines():
        try:
            result = run(Aside(JsonLog()))
        except MfsynthError as error:
            log_error(str(error))
            raise SystemExit(1) from error
        log_end(result)
    raise SystemExit(result.exit_status)
