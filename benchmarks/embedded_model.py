"""Measure a small model's depth on held-out tabletop scenes, against two baselines.

    python benchmarks/embedded_model.py [--model embedded] [--scenes 256]

What `mfsynth evaluate` measures with configs/evaluate/embedded.yaml, and beside it what knowing
nothing of the image comes to: a constant, and the mean depth map of other scenes of the same kind.
Prints a Markdown table.
"""

import tempfile
from pathlib import Path

import click
import numpy as np

from mfsynth.config import ModelConfig
from mfsynth.evaluation.readers import open_scenes
from mfsynth.evaluation.run import predictor, score_set
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
    with tempfile.TemporaryDirectory() as temporary:
        root = cache or Path(temporary)
        _render(root / f"held-out-{size}", scenes, size, HELD_OUT_SEED)
        others = _render(root / f"others-{size}", scenes, size, BASELINE_SEED)
        held_out = open_scenes(str(root / f"held-out-{size}"))
        mean_map = others.depth.mean(axis=0)
        predictors = {
            f"{model}, i2d, {steps} steps": predictor(
                load_pipeline(config, "cpu"), size, size, steps=steps
            ),
            "mean depth map": lambda images, first: [mean_map] * len(images),
            "constant depth": lambda images, first: [np.ones_like(mean_map)] * len(images),
        }
        click.echo(f"{scenes} scenes × {VIEWS} views, scale-only alignment per image\n")
        click.echo("| prediction | AbsRel | δ1 |\n|---|---|---|")
        for name, predict in predictors.items():
            (score,) = score_set(held_out, predict, ["scale"], 32, lambda *_: None).scores
            click.echo(f"| {name} | {score.abs_rel:.4f} | {score.delta1:.4f} |")


def _render(folder: Path, scenes: int, size: int, seed: int) -> CachedScenes:
    return render_dataset(folder, scenes=scenes, views=VIEWS, size=size, seed=seed, workers=2)


if __name__ == "__main__":
    main()
