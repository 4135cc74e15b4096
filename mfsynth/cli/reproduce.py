"""`mfsynth reproduce`: one candidate of a run, again."""

from __future__ import annotations

from pathlib import Path

import click

from mfsynth.cli.local_paths import LocalPath
from mfsynth.cli.output import echo
from mfsynth.formatting import one_line

# Of the picture's image and depth map, in pixels.
_LEAST_SIDE = 384


@click.command()
@click.argument("url")
@click.argument("candidate", type=click.IntRange(min=0))
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--trust", is_flag=True, help="Open the prompts and the model that the run names.")
@click.option(
    "--out",
    type=LocalPath(is_folder=True),
    help="Folder to save the pair in, as a run has it, accepted or not, with a picture.",
)
def reproduce(url: str, candidate: int, device: str, trust: bool, out: Path | None) -> None:
    """Make one candidate of the run at URL again, alone and in this process.

    Prints its scores beside their limits. A CANDIDATE in quarantine fails here as it did in its
    worker, where a debugger can see it. Changes nothing in the run. Of a run that isn't yours, see
    what it names before you say --trust.
    """
    from mfsynth.errors import MfsynthError
    from mfsynth.reports import contact_sheet
    from mfsynth.runs.protocol import Failed
    from mfsynth.runs.reproduce import find_candidate, make_again
    from mfsynth.storage.atomic import write_document

    config, found = find_candidate(url, candidate, trust=trust)
    # Before it is made: it may end the process.
    echo(f"{found.sample_id}: seed {found.seed}, prompt {found.item.text!r}", err=True)
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    end = make_again(url, config, found, device)
    if isinstance(end, Failed):
        raise MfsynthError(f"{found.sample_id} can't be made: {end.message}")
    reasons = ", ".join(end.failed)
    echo(f"{found.sample_id}: {f'rejected ({reasons})' if reasons else 'accepted'}")
    for score in end.scores:
        echo(f"  {one_line(score.line)}")
    if out is None:
        return
    if end.rgb is None or end.depth is None:
        raise MfsynthError(f"{found.sample_id} has no pair to save: its depth is malformed")
    # Small ones are enlarged: it is for people.
    picture = contact_sheet([(end.rgb, end.depth)], cell=max(_LEAST_SIDE, *end.rgb.shape[:2]))
    for name, data in {**end.members, f"{end.sample_id}.png": picture}.items():
        write_document(out / name, data)
        echo(f"saved: {out / name}")
