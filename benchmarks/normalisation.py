"""By how much the scale of a depth map is missed where only some of it is known.

    python benchmarks/normalisation.py [--scenes 192] [--seed 1001] [--draws 2]

A training divides depth by one number a map. Of sparse depth that number comes from the map filled
with its nearest valid depths; here it is compared with the same of the whole map, for several
choices of the number: the two that `optimiser.depth_normalisation` knows, and others that were
tried. On rendered scenes at 64×64, and on squares of the measured frames of tests/data/real_rgbd,
whose holes are filled likewise for the whole map.

The last row of a table is the weak side of the harmonic mean: one pixel in a hundred of scattered
ones reads a fifth of its depth.

Prints Markdown tables: mean and standard deviation, over maps and draws, of the logarithm of the
quotient. A bias that is the same for all maps does no harm, the deviation is what a model can't
know. Deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from real_frames import real_frames

from mfsynth.geometry.filling import fill_nearest
from mfsynth.simulation import render_dataset
from mfsynth.training.data.sparsity import (
    AtMostPattern,
    ClumpsPattern,
    CornersPattern,
    LidarPattern,
    SparsityPattern,
    sparsify,
)

SIZE = 64
TOO_NEAR = 0.01, 0.2

Depth = NDArray[np.float32]
Pair = tuple[NDArray[np.uint8], Depth]


def trimmed_mean(depth: Depth) -> float:
    """Without the nearest and the farthest tenth."""
    tenth = depth.size // 10
    return float(np.sort(depth, axis=None)[tenth:-tenth].mean())


UNITS: Mapping[str, Callable[[Depth], float]] = {
    "mean": lambda depth: float(depth.mean()),
    "mean without outer tenths": trimmed_mean,
    "median": lambda depth: float(np.median(depth)),
    "geometric mean": lambda depth: float(np.exp(np.log(depth).mean())),
    "harmonic_mean": lambda depth: float(1 / (1 / depth).mean()),
}

PATTERNS: Mapping[str, SparsityPattern] = {
    "scattered 5 %": AtMostPattern(share=0.05),
    "clumps of 2×2, 5 %": ClumpsPattern(share=0.05),
    "corners": CornersPattern(),
    "8 lidar rings": LidarPattern(rings=8),
    "3 lidar rings": LidarPattern(rings=3),
}
STRAY = "scattered 5 %, 1 % of them too near"


def errors(pairs: Sequence[Pair], draws: int) -> dict[str, dict[str, list[float]]]:
    """By pattern and unit: ln of the sparse map's over the whole map's."""
    found: dict[str, dict[str, list[float]]] = {}
    for number, (rgb, depth) in enumerate(pairs):
        whole = fill_nearest(depth, depth > 0)
        truth = {name: unit(whole) for name, unit in UNITS.items()}
        for draw in range(draws):
            for pattern, sparse in sparse_maps(rgb, depth, (number, draw)):
                if not sparse.any():
                    continue
                filled = fill_nearest(sparse, sparse > 0)
                for name, unit in UNITS.items():
                    error = float(np.log(unit(filled) / truth[name]))
                    found.setdefault(pattern, {}).setdefault(name, []).append(error)
    return found


def sparse_maps(
    rgb: NDArray[np.uint8], depth: Depth, seed: tuple[int, int]
) -> Iterable[tuple[str, Depth]]:
    """A map under every pattern."""
    for name, pattern in PATTERNS.items():
        yield name, sparsify(depth, rgb, [pattern], np.random.default_rng(seed))
    generator = np.random.default_rng(seed)
    sparse = sparsify(depth, rgb, [PATTERNS["scattered 5 %"]], generator)
    share, factor = TOO_NEAR
    too_near = generator.random(depth.shape) < share
    yield STRAY, np.where(too_near, sparse * np.float32(factor), sparse)


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Rows are patterns."""
    lines = ["| kept | " + " | ".join(UNITS) + " |", "|---" * (len(UNITS) + 1) + "|"]
    for pattern, by_unit in found.items():
        cells = [f"{np.mean(by_unit[n]):+.3f} ± {np.std(by_unit[n]):.3f}" for n in UNITS]
        lines.append(f"| {pattern} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--scenes", default=192, help="Rendered, one view each.")
@click.option("--seed", default=1001, help="Of the scenes.")
@click.option("--draws", default=2, help="Of each pattern for each map.")
@click.option("--library", default="tabletop_rooms", help="Prompt library of the scenes.")
@click.option("--cache", default="out/benchmarks", type=click.Path(path_type=Path))
def main(scenes: int, seed: int, draws: int, library: str, cache: Path) -> None:
    """Print both tables."""
    rendered = render_dataset(
        cache / f"normalisation-{library}-{scenes}-{seed}",
        scenes=scenes,
        views=1,
        size=SIZE,
        seed=seed,
        workers=2,
        library=library,
    )
    pairs = list(zip(np.asarray(rendered.rgb), np.asarray(rendered.depth), strict=True))
    click.echo(f"{len(pairs)} rendered maps of {library}, seed {seed}, {draws} draws of each\n")
    click.echo(table(errors(pairs, draws)))
    tiles = real_frames(SIZE, crops=3)
    click.echo(f"\n{len(tiles)} squares of measured frames, {5 * draws} draws of each\n")
    click.echo(table(errors(tiles, 5 * draws)))


if __name__ == "__main__":
    main()
