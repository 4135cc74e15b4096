"""`mfsynth plan`: what a run will take."""

from __future__ import annotations

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.options import FiniteRange, PairCount
from mfsynth.cli.output import echo


@click.command()
@click.argument("config", default="local", shell_complete=names_of("configs"))
@click.option("--out", metavar="URL", help="Where the run will be; what is there counts.")
@click.option("--pairs", type=PairCount(), help="Accepted pairs that end the run.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
@click.option("--from", "measured_at", metavar="URL", help="Another run to take the speed from.")
@click.option("--gpus", type=click.IntRange(min=1), help="Workers; each has one GPU.")
@click.option("--price", type=FiniteRange(min=0), help="Of a GPU for an hour.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    config: str,
    out: str | None,
    pairs: int | None,
    overrides: tuple[str, ...],
    measured_at: str | None,
    gpus: int | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Say what the rest of a run takes: shards, GPU hours, bytes, cost.

    CONFIG is a YAML file or the name of one in configs/ [default: local]. Speed, acceptance and
    bytes come from shards that were made already: those of the run itself (make some with a small
    --pairs), or with --from those of another run. Loading models comes on top. What was measured
    without a GPU is not taken for a GPU's: --gpus and --price refuse it. Errors are standard errors
    over shards.
    """
    import json

    from mfsynth.runs.budget import plan_budget
    from mfsynth.runs.settings import load_run_config

    settings = load_run_config(config, overrides, output=out, pairs=pairs)
    asked = {"--gpus": gpus is not None, "--price": price is not None}
    asked["runtime.device=cuda"] = settings.runtime.device == "cuda"
    named = ", ".join(name for name, given in asked.items() if given)
    found = plan_budget(
        settings, measured_at=measured_at, workers=gpus, price=price, gpus=named or None
    )
    echo(json.dumps(found.to_dict(), indent=1) if as_json else "\n".join(found.lines()))
