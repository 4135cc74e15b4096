"""`mfsynth distill`."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("config")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
def distill(config: str, overrides: tuple[str, ...]) -> None:
    """Distil a model to a few steps, or go on where an interrupted distillation was.

    CONFIG names the teacher, the prompts and the student. It is a YAML file or the name of one in
    configs/distill/. On many GPUs, start it with `accelerate launch -m mfsynth.cli distill
    CONFIG`, or the same with torchrun.
    """
    from mfsynth.training.distillation.config import load_distill_config

    settings = load_distill_config(config, overrides)

    # After the configuration, so that its errors don't wait for torch.
    from mfsynth.training.distillation.run import distill as run_distillation

    run_distillation(settings, echo)
