"""Make the runs of `docs/gallery.md`, and draw its pictures and the README's.

    make demo && python benchmarks/gallery.py

Interrupted, it goes on; with other weights it wants another folder for `--runs`. What is drawn is
each run's first, in order: nothing is picked. Pixels of 128×128 pairs are shown as they are. Depth
is in the report's colours: near is red, far is blue, each map over its own range.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import mfsynth
from mfsynth.datasets import RGBDDataset
from mfsynth.geometry.colour import colour_depth
from mfsynth.reports.content import failure_in_words
from mfsynth.reports.rejects import pixels_of, read_rejects
from mfsynth.shards.commits import read_commits
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.tables import SCORE_PREFIX
from mfsynth.storage.store import ObjectStore

TILE, GAP, ROW_GAP = 192, 6, 12
LINE, LETTERS = 16, 30
# Each run: the command that makes it, and its settings.
RUNS = {
    "pairs": ("generate", ["target={candidates: 64}", "keep_rejects=all"]),
    "annotated": (
        "annotate",
        [
            "source={kind: folder, layout: generic, path: tests/data/real_rgbd, "
            "images: '*/*.rgb.jpg', depths: '*/*.depth.png', codes_per_unit: 1000}",
            # All of them are shown, as they are.
            "checks={validity: {min_valid_fraction: 0, min_dynamic_range: 1}}",
            "metres_per_unit=source",
        ],
    ),
    "retextured": (
        "retexture",
        [
            "source.scenes=6",
            "checks={validity: {}, depth_error: {max: 100, max_edges: 100}}",
        ],
    ),
}
FONT = ImageFont.load_default(size=12)


@dataclass(frozen=True)
class Column:
    """Pictures of one pair, from top to bottom, and what stands below them."""

    pictures: Sequence[NDArray[np.uint8]]
    caption: str = ""


@click.command()
@click.option("--demo", default="out/demo", help="The run of `make demo`.")
@click.option("--runs", default="out/gallery", type=click.Path(path_type=Path))
@click.option("--docs", default="docs", type=click.Path(path_type=Path))
def main(demo: str, runs: Path, docs: Path) -> None:
    """Write `demo.png`, and the gallery's pictures into `images/gallery`."""
    for name, (job, overrides) in RUNS.items():
        getattr(mfsynth, job)(output=runs / name, overrides=overrides)
    draw(demo, runs, docs)


def draw(demo: str, runs: Path, docs: Path) -> None:
    """Draw the pictures from runs that are there."""
    folder = docs / "images" / "gallery"
    pairs = str(runs / "pairs")
    _sheet(docs / "demo.png", [*_pairs(demo, 16, prompts=False)], 8)
    _sheet(folder / "pairs.png", [*_pairs(pairs, 12)], 6)
    _sheet(folder / "rejects.png", [*_rejects(pairs, 12)], 6)
    _sheet(folder / "annotated.png", [*_annotated(str(runs / "annotated"))], 5, colours=256)
    _sheet(folder / "retextured.png", [*_retextured(str(runs / "retextured"), 6)], 6)


def _pairs(run: str, count: int, *, prompts: bool = True) -> Iterator[Column]:
    for sample in RGBDDataset(run)[:count]:
        yield Column([sample.rgb, colour_depth(sample.depth)], sample.prompt if prompts else "")


def _rejects(run: str, count: int) -> Iterator[Column]:
    """The first that checks turned down, each with why."""
    store = ObjectStore.open(run)
    commits, manifest = read_commits(store), read_run(store)
    everything = sum(receipt.rejected for receipt in commits.values())
    rows = read_rejects(store, commits, everything, np.random.default_rng(0)).rejected[:count]
    pixels = pixels_of(store, commits, rows)
    for row in rows:
        sample = pixels[row["candidate"]]
        why = (
            failure_in_words(manifest.score(name), row[f"{SCORE_PREFIX}{name}"])
            for name in row["reasons"]
        )
        yield Column([sample.rgb, colour_depth(sample.depth)], "; ".join(why))


def _annotated(run: str) -> Iterator[Column]:
    """Photographs, the depth that they got, and what a sensor measured."""
    for sample in RGBDDataset(run, labels=True):
        assert sample.sensor is not None  # by `metres_per_unit: source`
        yield Column([sample.rgb, colour_depth(sample.depth), colour_depth(sample.sensor)])


def _retextured(run: str, count: int) -> Iterator[Column]:
    """Depth of scenes, and below each the images that it got."""
    dataset = RGBDDataset(run)
    sources = dataset.index["source"]
    for source in pc.unique(sources).to_pylist()[:count]:
        samples = [dataset[int(i)] for i in np.flatnonzero(pc.equal(sources, source))]
        errors = ", ".join(f"{sample.scores['depth_error']:.2f}" for sample in samples)
        images = [sample.rgb for sample in samples]
        caption = f"{samples[0].prompt}: depth error {errors}"
        yield Column([colour_depth(samples[0].depth), *images], caption)


def _sheet(path: Path, columns: Sequence[Column], per_row: int, colours: int | None = None) -> None:
    """Write columns as a picture, so many beside each other; captions wrap below them.

    Photographs want few `colours`, else they are half a megabyte.
    """
    cells = [_cell(column) for column in columns]
    rows = [cells[first : first + per_row] for first in range(0, len(cells), per_row)]
    heights = [max(cell.height for cell in row) for row in rows]
    width = per_row * (TILE + GAP) - GAP
    page = Image.new("RGB", (width, sum(heights) + ROW_GAP * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for number, cell in enumerate(row):
            page.paste(cell, (number * (TILE + GAP), top))
        top += height + ROW_GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    if colours is not None:
        page = page.quantize(colours)
    page.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _cell(column: Column) -> Image.Image:
    tiles = [_tile(picture) for picture in column.pictures]
    lines = textwrap.wrap(column.caption, LETTERS)
    below = sum(tile.height + GAP for tile in tiles)
    cell = Image.new("RGB", (TILE, below + LINE * len(lines)), "white")
    top = 0
    for tile in tiles:
        cell.paste(tile, (0, top))
        top += tile.height + GAP
    ImageDraw.Draw(cell).multiline_text((0, below), "\n".join(lines), fill="black", font=FONT)
    return cell


def _tile(picture: NDArray[np.uint8]) -> Image.Image:
    height, width = picture.shape[:2]
    kind = Image.Resampling.NEAREST if width <= TILE else Image.Resampling.BOX
    return Image.fromarray(picture).resize((TILE, round(TILE * height / width)), kind)


if __name__ == "__main__":
    main()
