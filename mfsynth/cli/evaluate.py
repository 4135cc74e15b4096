"""`mfsynth evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from mfsynth.cli.output import echo

# Often enough to see that it lives, seldom enough for a log file.
_PLAIN_INTERVAL_S = 15.0


@click.command()
@click.argument("config", default="embedded")
@click.option("--out", metavar="FOLDER", help="Where to write the results.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def evaluate(config: str, out: str | None, overrides: tuple[str, ...]) -> None:
    """Score the depth that a model sees in images against ground truth.

    CONFIG is a YAML file or the name of one in configs/evaluate/. Writes results.json and
    results.md, with a table for every protocol and alignment.
    """
    from pathlib import Path

    from mfsynth.evaluation.config import load_evaluate_config

    settings = load_evaluate_config(config, overrides, output=out)

    # After the configuration, so that its errors don't wait for torch.
    from mfsynth.evaluation.evaluate import evaluate as run_evaluation
    from mfsynth.evaluation.results import to_json, to_markdown
    from mfsynth.storage.atomic import write_document

    with _progress() as report:
        results = run_evaluation(settings, report)
    folder = Path(settings.output)
    table = to_markdown(results)
    echo(table)
    write_document(folder / "results.json", to_json(results).encode())
    write_document(folder / "results.md", table.encode())
    echo(f"results: {folder / 'results.json'}, {folder / 'results.md'}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal, a line now and then elsewhere; on standard error."""
    import time

    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console) as bars:
            tasks: dict[str, TaskID] = {}

            def redraw(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what)
                bars.update(tasks[what], completed=done, total=total)

            yield redraw
        return
    shown = time.monotonic()

    def write(what: str, done: int, total: int) -> None:
        nonlocal shown
        if done == total or time.monotonic() - shown > _PLAIN_INTERVAL_S:
            shown = time.monotonic()
            echo(f"{what} {done} of {total}", err=True)

    yield write
