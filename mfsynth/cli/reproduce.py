"""`mfsynth reproduce`: one candidate of a run, again."""

from __future__ import annotations

import click

from mfsynth.cli.output import echo


@click.command()
@click.argument("url")
@click.argument("candidate", type=click.IntRange(min=0))
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--trust", is_flag=True, help="Open the prompts and the model that the run names.")
def reproduce(url: str, candidate: int, device: str, trust: bool) -> None:
    """Make one candidate of the run at URL again, alone and in this process.

    For a CANDIDATE in quarantine: it fails here as it did in its worker, where a debugger can see
    it. Changes nothing in the run. Of a run that isn't yours, see what it names before you say
    --trust.
    """
    from mfsynth.errors import MfsynthError
    from mfsynth.runs.protocol import Failed
    from mfsynth.runs.reproduce import find_candidate, make_again

    config, found = find_candidate(url, candidate, trust=trust)
    # Before it is made: it may end the process.
    echo(f"{found.sample_id}: seed {found.seed}, prompt {found.item.text!r}", err=True)
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    end = make_again(url, config, found, device)
    if isinstance(end, Failed):
        raise MfsynthError(f"{found.sample_id} can't be made: {end.message}")
    reasons = ", ".join(end.receipt.reasons)
    echo(f"{found.sample_id}: {f'rejected ({reasons})' if reasons else 'accepted'}")
