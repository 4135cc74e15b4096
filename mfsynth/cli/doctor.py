"""`mfsynth doctor`: what a store, this machine and a cluster can do, before a run."""

from __future__ import annotations

import signal
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NoReturn

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.options import PairCount
from mfsynth.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

    from mfsynth.runs.doctor.findings import Finding, Probe


@click.command()
@click.argument(
    "subject", metavar="URL|CONFIG", default="local", shell_complete=names_of("configs")
)
@click.option("--out", metavar="URL", help="Where the run of CONFIG will be.")
@click.option("--pairs", type=PairCount(), help="Accepted pairs that end the run.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    subject: str, out: str | None, pairs: int | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Look at all that a run needs, before a night rather than in it.

    Of CONFIG, a YAML file or the name of one in configs/ [default: local]: model, prompts, store,
    space, device, and every node of the cluster that it joins. Of URL: the store, and the run if
    there is one.

    What is written to find out is removed again. Nothing is waited for without end.

    Exit status: 0 nothing to mend, 1 warnings, 2 errors.
    """
    if not (is_config := _is_config(subject)) and (out or pairs or overrides):
        raise click.UsageError("--out, --pairs and --set go with a CONFIG")
    if is_config:
        examination = _examination(subject, out, pairs, overrides)
        tell_findings(subject, "configuration", examination, as_json=as_json)
    tell_findings(subject, "store", _place(subject), as_json=as_json)


def tell_findings(
    subject: str,
    kind: str,
    examination: AbstractContextManager[Sequence[Probe]],
    *,
    as_json: bool = False,
    only_errors: bool = False,
) -> NoReturn:
    """Print what an examination finds; leaves with the process' exit status.

    Args:
        subject: What is examined.
        kind: What it is, if it is not even that.
        examination: Of `mfsynth.runs.doctor.examination`.
        as_json: Whether to print one JSON object at the end.
        only_errors: Whether warnings leave the exit status alone.
    """
    import json
    import os
    import shutil
    import sys

    from mfsynth.runs.doctor.findings import Severity, some_hang
    from mfsynth.runs.doctor.screen import document, exit_status, lines, summary, worst

    width = shutil.get_terminal_size().columns - 1
    findings: dict[str, Finding] = {}
    try:
        with _signals_end_it(), closing(_examined(kind, examination)) as examined:
            for name, found in examined:
                findings[name] = found
                if not as_json:
                    echo("\n".join(lines(name, found, width)))
        if as_json:
            echo(json.dumps(document(subject, findings), indent=1))
        else:
            echo(f"\n{summary(findings.values())}")
        is_well = only_errors and worst(findings.values()) is not Severity.ERROR
        raise SystemExit(0 if is_well else exit_status(findings.values()))
    except SystemExit as leave:
        if some_hang():
            # At their end libraries wait for what doesn't answer.
            sys.stdout.flush()
            os._exit(int(leave.code or 0))
        raise


def _examined(
    kind: str,
    examination: AbstractContextManager[Sequence[Probe]],
) -> Generator[tuple[str, Finding], None, None]:
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.doctor.findings import error, examine

    try:
        with examination as probes:
            yield from examine(probes)
    except MfsynthError as problem:
        yield kind, error(str(problem))


@contextmanager
def _examination(
    config: str, out: str | None, pairs: int | None, overrides: tuple[str, ...]
) -> Iterator[Sequence[Probe]]:
    from mfsynth.runs.settings import load_run_config

    settings = load_run_config(config, overrides, output=out, pairs=pairs)

    # After the configuration, so that its errors don't wait for libraries.
    from mfsynth.runs.doctor.examination import run_examination

    with run_examination(settings) as probes:
        yield probes


@contextmanager
def _place(url: str) -> Iterator[Sequence[Probe]]:
    from mfsynth.runs.doctor.examination import store_examination

    with store_examination(url) as probes:
        yield probes


def _is_config(subject: str) -> bool:
    """Whether it is a configuration; a bare word that is neither one nor a folder is refused."""
    from pathlib import Path

    from mfsynth.config.resources import is_path, resolve_resource, resource_names
    from mfsynth.errors import MfsynthError

    if subject.endswith((".yaml", ".yml")) or subject in resource_names("configs"):
        return True
    if not is_path(subject) and not Path(subject).exists():
        try:
            resolve_resource("configs", subject)
        except MfsynthError as error:
            raise click.UsageError(f"{error}; ./{subject} for a folder") from error
    return False


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """While it is entered, a signal that ends the process lets it tidy up first."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, leave) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
