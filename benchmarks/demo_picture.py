"""Draw the README's picture: the first pairs of `make demo`, RGB above depth.

    make demo && python benchmarks/demo_picture.py

The pairs are the run's first, in order: none is picked.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry.colour import colour_depth

ROWS, COLUMNS = 2, 8
TILE, GAP, ROW_GAP = 192, 6, 12


@click.command()
@click.option("--run", default="out/demo", help="Folder of the run.")
@click.option("--picture", default="docs/demo.png", type=click.Path(path_type=Path))
def main(run: str, picture: Path) -> None:
    """Write the picture."""
    dataset = RGBDDataset(run)
    height = 2 * TILE + GAP + ROW_GAP
    page = np.full((ROWS * height - ROW_GAP, COLUMNS * (TILE + GAP) - GAP, 3), 255, np.uint8)
    for number in range(ROWS * COLUMNS):
        row, column = divmod(number, COLUMNS)
        top, left = row * height, column * (TILE + GAP)
        sample = dataset[number]
        for image in (sample.rgb, colour_depth(sample.depth)):
            page[top : top + TILE, left : left + TILE] = _enlarge(image)
            top += TILE + GAP
    Image.fromarray(page).save(picture, optimize=True)


def _enlarge(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
