"""`mfsynth calibrate`."""

from __future__ import annotations

import click

from mfsynth.cli.output import bars, echo


@click.command()
@click.argument("config", default="simulator")
@click.option("--out", metavar="FILE", help="Where to write the calibration, a .json.")
@click.option(
    "--estimator",
    metavar="NAME",
    help="For checks that look at estimates: embedded, a folder, a hub id; or perturbed: a copy of "
    "the trusted depth, for upper bounds.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def calibrate(
    config: str, out: str | None, estimator: str | None, overrides: tuple[str, ...]
) -> None:
    """Measure checks on trusted pairs, and set their limits.

    CONFIG is a YAML file or the name of one in configs/calibrate/ [default: simulator]. Spoils
    pairs that are known to be good in many ways, and says how well each score tells. Writes
    FILE.json, which a run names as checks.calibration, and beside it FILE.md, the tables, and
    FILE.svg, a picture of them.
    """
    from mfsynth.evaluation.calibration.config import load_calibrate_config

    settings = load_calibrate_config(config, overrides, output=out, estimator=estimator)

    # After the configuration, so that its errors don't wait for what a calibration takes.
    from mfsynth.evaluation.calibration.calibrate import calibrate as run_calibration
    from mfsynth.evaluation.calibration.plot import to_svg
    from mfsynth.evaluation.calibration.report import to_markdown
    from mfsynth.storage.atomic import require_writable, write_document

    path = settings.output
    require_writable(path.parent)
    with bars() as report:
        found = run_calibration(settings, report)
    table = to_markdown(found)
    echo(table)
    write_document(path, (found.model_dump_json(indent=1) + "\n").encode())
    write_document(path.with_suffix(".md"), table.encode())
    write_document(path.with_suffix(".svg"), to_svg(found).encode())
    echo(f"calibration: {path}, {path.with_suffix('.md')}, {path.with_suffix('.svg')}")
