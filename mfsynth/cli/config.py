"""`mfsynth config`: what a configuration comes to."""

from __future__ import annotations

import click

from mfsynth.cli.completion import names_of
from mfsynth.cli.options import PairCount
from mfsynth.cli.output import echo


@click.group()
def config() -> None:
    """Look at a configuration before a run."""


@config.command()
@click.argument("config", metavar="CONFIG", default="local", shell_complete=names_of("configs"))
@click.option("--out", metavar="URL", help="As of generate.")
@click.option("--pairs", type=PairCount(), help="As of generate.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(
    config: str, out: str | None, pairs: int | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Show every setting that a run of CONFIG would have, and where each comes from.

    CONFIG is a YAML file or the name of one in configs/ [default: local]. A setting comes from
    there, --set, --out, --pairs, a preset of the sampler, a calibration, or a default. What is
    printed is a configuration itself. Credentials in URLs are left out.
    """
    import json

    from mfsynth.runs.origins import settings_of, yaml_lines

    _, settings = settings_of(config, overrides, out, pairs)
    if as_json:
        found = {
            ".".join(each.path): {"value": each.value, "origin": each.origin} for each in settings
        }
        echo(json.dumps(found, indent=1))
    else:
        echo("\n".join(yaml_lines(settings)))


@config.command()
@click.argument("config", metavar="CONFIG", default="local", shell_complete=names_of("configs"))
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def check(config: str, overrides: tuple[str, ...]) -> None:
    """Say whether CONFIG is one: its settings, prompts or source, model and estimator are found.

    CONFIG is a YAML file or the name of one in configs/ [default: local]. Loads no weights and
    asks no store; `mfsynth doctor` looks at all that a run needs. Exit status 1, and one line, if
    something is to be mended.
    """
    from mfsynth.models import model_info
    from mfsynth.runs.estimator import run_estimator
    from mfsynth.runs.items import RunItems
    from mfsynth.runs.jobs import job_of
    from mfsynth.runs.settings import load_run_config, require_trained_for

    settings = load_run_config(config, overrides)
    model = model_info(settings.model)
    require_trained_for(settings.sampler, model)
    estimator = run_estimator(settings)
    identity = RunItems(settings).fingerprint(model.revision, estimator)
    echo(
        f"{config}: good, for mfsynth {job_of(settings)}: run {settings.name}, model "
        f"{settings.model.id}, fingerprint {identity.digest[:16]}"
    )
