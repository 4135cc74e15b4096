"""The judge of the embedded model's images that comes with the package, and how sure it is.

    python benchmarks/embedded_judge.py --folder mfsynth/models/embedded_judge

Trains it where the folder isn't there. Then, on held-out rendered scenes: which share of the
objects that prompts name it finds, and which of those of another scene's prompt.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from prompt_following import follow
from scene_sets import EMBEDDED_JUDGES, HELD_OUT_SEED, rendered, trained_judge


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--scenes", default=512, help="Held-out ones.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("out/benchmarks"))
def main(folder: Path, scenes: int, cache: Path) -> None:
    """See the module's text."""
    name, size = EMBEDDED_JUDGES
    judge = trained_judge(name, size, cache, folder)
    held_out = rendered(name, scenes, size, HELD_OUT_SEED, cache)
    images, captions = np.array(held_out.rgb), list(held_out.captions)
    others = captions[1:] + captions[:1]
    for label, of in (("their own prompts", captions), ("the next one's", others)):
        found = follow(judge, images, of)
        shares = ", ".join(f"{what} {share:.3f}" for what, share in asdict(found).items())
        click.echo(f"{label}: {shares}")


if __name__ == "__main__":
    main()
