"""`mfsynth train`."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("config")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Say what it would need, and load nothing.")
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    help="How many the dry run counts with.  [default: 8]",
)
def train(config: str, overrides: tuple[str, ...], dry_run: bool, gpus: int | None) -> None:
    """Train what CONFIG describes, or go on where an interrupted training was.

    CONFIG describes a Modality Forcing model or a depth estimator. It is a YAML file or the name
    of one in configs/train/. On many GPUs, start it with
    `accelerate launch -m mfsynth.cli train CONFIG`, or the same with torchrun.
    """
    from mfsynth.errors import MfsynthError
    from mfsynth.training.kinds import describes_estimator

    if gpus is not None and not dry_run:
        raise MfsynthError("--gpus is for --dry-run; start a training with torchrun on as many")
    if describes_estimator(config):
        if dry_run:
            raise MfsynthError("--dry-run is for transformers; an estimator trains on any machine")
        from mfsynth.training.estimator_config import load_estimator_config

        estimator = load_estimator_config(config, overrides)

        # After the configuration, so that its errors don't wait for torch.
        from mfsynth.training.estimator import train_estimator

        train_estimator(estimator, echo)
        return
    from mfsynth.training.config import load_train_config

    settings = load_train_config(config, overrides)
    if dry_run:
        from mfsynth.training.requirements import estimate_requirements
        from mfsynth.training.requirements_table import requirements_table

        echo(requirements_table(estimate_requirements(settings, gpus or 8)))
        return

    # Here for the same reason.
    from mfsynth.training.run import train as run_training

    run_training(settings, echo)
