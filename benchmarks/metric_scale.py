"""How far metres are off that a metric estimator gives to relative depth, on held-out scenes.

    mfsynth train estimator --set metric=true --set output=out/train/metric_estimator
    python benchmarks/metric_scale.py out/train/metric_estimator/model [--scenes 512]

Scenes are the simulator's, of a seed that no training has seen. Their depth is divided by its mean,
as a generator would have it, and brought back to metres as a run does (`metres_per_unit:
estimator`). Prints a row for a known camera and one for an unknown: the median and the 90th
percentile of |ln(factor / true factor)|, its median with its sign (what is wrong with all alike),
the median error that is stated, and the share of scenes whose true factor lies within two stated
errors (95 % if what is stated were all); and AbsRel of the estimator's own metres, unaligned.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import EstimateKind, Intrinsics, abs_rel, metric_scale
from mfsynth.models.estimators.base import Estimator
from mfsynth.models.estimators.catalogue import estimator_info
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.simulation import CachedScenes, render_dataset
from mfsynth.simulation.styles import STYLES

SEED = 1001
BATCH = 16


@click.command()
@click.argument("estimator")
@click.option("--scenes", default=512, help="Held-out scenes, one view each.")
@click.option("--size", default=128, help="Rows and columns of their images.")
@click.option("--library", default="tabletop_rooms")
@click.option("--style", type=click.Choice([*STYLES]), default=next(iter(STYLES)))
@click.option("--workers", default=1, help="Processes that render.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where renderings stay.")
def main(
    estimator: str,
    scenes: int,
    size: int,
    library: str,
    style: str,
    workers: int,
    cache: Path | None,
) -> None:
    """Print the error of metres by the folder or id of an ESTIMATOR."""
    config = DepthEstimatorConfig(id=estimator)
    info = estimator_info(config)
    if EstimateKind.METRIC_Z not in (info.gives, info.gives_with(camera=True)):
        raise MfsynthError(f"{estimator} gives {info.gives}, no metres; name a metric estimator")
    with tempfile.TemporaryDirectory() as folder:
        images = render_dataset(
            cache or Path(folder) / "scenes",
            scenes,
            1,
            size,
            SEED,
            workers,
            library=library,
            style=STYLES[style],
        )
        loaded = open_estimator(config, "cpu")
        click.echo(
            f"{scenes} held-out scenes of {library}, style {style}, {size}×{size}, seed {SEED}\n"
        )
        click.echo(
            "| camera | median error | 90 % | with sign | stated | within 2 stated | AbsRel |\n"
            "|---|---|---|---|---|---|---|"
        )
        for known in (True, False):
            if info.gives_with(known) is EstimateKind.METRIC_Z:
                click.echo(row(loaded, images, known))


def row(estimator: Estimator, images: CachedScenes, known: bool) -> str:
    """One of the table."""
    errors, stated, absolute = compare(estimator, images, known)
    size = np.abs(errors)
    within = np.mean(size <= 2 * stated)
    return (
        f"| {'known' if known else 'unknown'} | {np.median(size):.3f} | "
        f"{np.quantile(size, 0.9):.3f} | {np.median(errors):+.3f} | {np.median(stated):.3f} | "
        f"{within:.0%} | {np.mean(absolute):.3f} |"
    )


def compare(
    estimator: Estimator, images: CachedScenes, known: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], Sequence[float]]:
    """Of each scene ln(factor / true factor), the stated error, and AbsRel of the metres."""
    errors, stated, absolute = [], [], []
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        rgb, truth = np.array(images.rgb[rows]), np.array(images.depth[rows])
        cameras = [Intrinsics.from_matrix(k) for k in images.intrinsics[rows]]
        estimates = estimator(rgb, cameras if known else None)
        for depth, estimate in zip(truth, estimates, strict=True):
            valid = (depth > 0) & estimate.valid
            unit = float(depth[depth > 0].mean())
            found = metric_scale((depth / unit).astype(np.float32), estimate.values, valid)
            if found is None:
                continue
            errors.append(np.log(found.metres_per_unit / unit))
            stated.append(found.error)
            absolute.append(abs_rel(estimate.values, depth, valid))
    return np.array(errors), np.array(stated), absolute


if __name__ == "__main__":
    main()
