"""`mfsynth evaluate`."""

from __future__ import annotations

import click

from mfsynth.cli.output import bars, echo


@click.command()
@click.argument("config", default="embedded")
@click.option("--out", metavar="FOLDER", help="Where to write the results.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def evaluate(config: str, out: str | None, overrides: tuple[str, ...]) -> None:
    """Score the depth that a model sees in images against ground truth.

    CONFIG is a YAML file or the name of one in configs/evaluate/ [default: embedded]. Writes
    results.json and results.md, with a table for every protocol and alignment.
    """
    from mfsynth.evaluation.config import load_evaluate_config

    settings = load_evaluate_config(config, overrides, output=out)

    # After the configuration, so that its errors don't wait for torch.
    from mfsynth.evaluation.evaluate import evaluate as run_evaluation
    from mfsynth.evaluation.results import to_json, to_markdown
    from mfsynth.storage.atomic import require_writable, write_document

    folder = settings.output
    require_writable(folder)
    with bars() as report:
        results = run_evaluation(settings, report)
    table = to_markdown(results)
    echo(table)
    write_document(folder / "results.json", to_json(results).encode())
    write_document(folder / "results.md", table.encode())
    echo(f"results: {folder / 'results.json'}, {folder / 'results.md'}")
