"""Measure a small model's depth on held-out tabletop scenes, against two baselines.

    python benchmarks/embedded_model.py [--model embedded] [--scenes 256]

Renders scenes that no training has seen (their seed differs), estimates the depth of each image in
i2d mode, and prints a Markdown table. The baselines know nothing of the image: a constant, and the
mean depth map of other scenes of the same kind.
"""

import tempfile
from pathlib import Path

import click
import numpy as np

from mfsynth.config import ModelConfig
from mfsynth.evaluation import DepthScore, image_to_depth, score_depth
from mfsynth.models import load_pipeline, model_info
from mfsynth.simulation import CachedScenes, render_dataset

HELD_OUT_SEED, BASELINE_SEED = 1001, 1002
VIEWS = 2


@click.command()
@click.option("--model", default="embedded", help="embedded, or a model folder.")
@click.option("--scenes", default=256, help="Held-out scenes, two views each.")
@click.option("--steps", default=20, help="Euler steps of i2d.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep the rendered scenes here.")
def main(model: str, scenes: int, steps: int, cache: Path | None) -> None:
    """Print AbsRel and δ1 of a model and of two baselines."""
    config = ModelConfig(id=model)
    size = model_info(config).height
    with tempfile.TemporaryDirectory() as folder:
        root = cache or Path(folder)
        held_out = _render(root / f"held-out-{size}", scenes, size, HELD_OUT_SEED)
        others = _render(root / f"others-{size}", scenes, size, BASELINE_SEED)
        mean_map = others.depth.mean(axis=0)
        pipeline = load_pipeline(config, "cpu")
        estimated = image_to_depth(pipeline, held_out.rgb, steps=steps, batch_size=32)
        rows = {
            f"{model}, i2d, {steps} steps": score_depth(estimated, held_out.depth),
            "mean depth map": score_depth([mean_map] * len(held_out), held_out.depth),
            "constant depth": score_depth([np.ones_like(mean_map)] * len(held_out), held_out.depth),
        }
    click.echo(f"{scenes} scenes × {VIEWS} views, scale-only alignment per image\n")
    click.echo("| prediction | AbsRel | δ1 |\n|---|---|---|")
    for name, score in rows.items():
        click.echo(_row(name, score))


def _render(folder: Path, scenes: int, size: int, seed: int) -> CachedScenes:
    return render_dataset(folder, scenes=scenes, views=VIEWS, size=size, seed=seed, workers=2)


def _row(name: str, score: DepthScore) -> str:
    return f"| {name} | {score.abs_rel:.4f} | {score.delta1:.4f} |"


if __name__ == "__main__":
    main()
