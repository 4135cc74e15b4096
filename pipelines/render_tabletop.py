"""Render tabletop scenes for training: RGB, metric z-depth, intrinsics, captions.

    python pipelines/render_tabletop.py --scenes 4000 --views 3 --out data/tabletop64
    python pipelines/render_tabletop.py --library tabletop_shapes --style varied --out data/varied64

Stopped at any moment, the same command resumes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from mfsynth.errors import MfsynthError


@click.command(help=__doc__)
@click.option("--scenes", type=click.IntRange(min=1), default=4000, show_default=True)
@click.option("--views", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--size", type=click.IntRange(min=16), default=64, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to fill.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--library", default="tabletop", show_default=True, help="Prompts of the scenes.")
@click.option(
    "--style", default="plain", show_default=True, help="plain, close, varied or roaming."
)
def main(
    scenes: int,
    views: int,
    size: int,
    out: Path,
    workers: int,
    seed: int,
    library: str,
    style: str,
) -> None:
    """Render, with a line of progress every ten seconds."""
    from mfsynth.simulation import STYLES, render_dataset

    started = shown = time.monotonic()
    first: int | None = None

    def report(done: int, total: int) -> None:
        nonlocal shown, first
        now = time.monotonic()
        first = done if first is None else first
        if now - shown < 10 and done < total:
            return
        shown = now
        speed = (done - first) * views / max(now - started, 1e-9)
        click.echo(f"{done}/{total} scenes, {speed:.1f} images/s")

    if style not in STYLES:
        click.echo(f"error: --style {style} must be one of {', '.join(STYLES)}", err=True)
        sys.exit(1)
    try:
        cached = render_dataset(
            out,
            scenes,
            views,
            size,
            seed,
            workers,
            library=library,
            style=STYLES[style],
            progress=report,
        )
    except MfsynthError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(f"{len(cached)} images in {out}")


if __name__ == "__main__":
    main()
