"""Measure a small model on held-out scenes: what its card states.

    python benchmarks/model_card.py [--model embedded] [--scenes 512]
    python benchmarks/model_card.py --seed 1003 --scenes 128 --set model.few_steps=null \
      --set 'sampler={preset: image_then_depth, guidance: 2.0}'

Five things, on scenes like those that it was trained on, rendered from another seed; joint samples
are made as `configs/local.yaml` says, images for depth as `configs/retexture.yaml` does. What is to
be chosen is compared on scenes of a third seed, as in the second line: a card's figures are of
scenes that nothing was chosen on.

- depth of rendered images (i2d, no prompt) against the truth, beside what knowing nothing of the
  image comes to: a constant, and the mean depth map of other scenes; and of the mean of several
  samples, which tells how much of the error is their scatter;
- depth of its joint samples against its own i2d on the images that it made;
- images for rendered depth (d2i): the embedded estimator's depth of them against the given one,
  beside the estimator's error on the rendered images themselves;
- seams: how much larger the steps of depth are across the borders of the model's patches than
  elsewhere (`seam_ratio`), in joint samples, in depth of rendered images, and in the truth;
- whether the objects that a prompt names are in the image (`prompt_following.py`).

Prints Markdown tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from prompt_following import follow
from scene_sets import BASELINE_SEED, HELD_OUT_SEED, SCENES, folder_of, judge_of, rendered

from mfsynth.config import load_config
from mfsynth.evaluation.config import EvaluatedScenes
from mfsynth.evaluation.depth import image_to_depth
from mfsynth.evaluation.evaluate import predictor, score_set
from mfsynth.evaluation.readers import open_set
from mfsynth.geometry.alignment import scale_l1
from mfsynth.geometry.metrics import abs_rel, delta, seam_ratio
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.estimators.embedded import DepthEstimator, estimate_depth, load_estimator
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.simulation import CachedScenes

BATCH, I2D_STEPS, I2D_SAMPLES = 32, 10, 4

Images = NDArray[np.uint8]
Depths = NDArray[np.float32]


@click.command()
@click.option("--model", default="embedded", help="embedded, or a model folder.")
@click.option("--estimator", default="embedded", help="embedded, or an estimator's folder.")
@click.option("--scenes", default=512, help="Held-out scenes, one view each.")
@click.option("--seed", default=HELD_OUT_SEED, help="Of the scenes.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of configs/local.yaml."
)
@click.option("--of", "name", default="shapes", type=click.Choice(sorted(SCENES)), help="Which.")
@click.option(
    "--cache",
    default="out/benchmarks",
    type=click.Path(path_type=Path),
    help="Keeps rendered scenes and the judge.",
)
def main(
    model: str,
    estimator: str,
    scenes: int,
    seed: int,
    overrides: tuple[str, ...],
    name: str,
    cache: Path,
) -> None:
    """Print the figures of a small model's card."""
    shipped = load_config("local", overrides)
    config = shipped.model.model_copy(update={"id": model})
    size = model_info(config).height
    held_out = rendered(name, scenes, size, seed, cache)
    others = rendered(name, scenes, size, BASELINE_SEED, cache)
    pipeline = load_pipeline(config, "cpu")
    library, style = SCENES[name]
    click.echo(
        f"{scenes} held-out scenes of {library}, style {style}, one view each, {size}×{size}\n"
    )

    depth_table(pipeline, folder_of(name, scenes, size, seed, cache), others)

    captions = held_out.captions
    rgb, joint = generate(pipeline, captions, **shipped.sampler.pipeline_arguments())
    retextured = retexture(pipeline, captions, held_out.depth)
    own = image_to_depth(pipeline, rgb, steps=I2D_STEPS, batch_size=BATCH)
    network = load_estimator(estimator)
    comparisons = {
        "joint depth, own i2d of the image": (joint, own),
        "joint depth, estimator on the image": (joint, estimate(network, rgb)),
        "given depth, estimator on the d2i image": (held_out.depth, estimate(network, retextured)),
        "true depth, estimator on the rendered image": (
            held_out.depth,
            estimate(network, held_out.rgb),
        ),
    }
    click.echo("\n| depth and second opinion | AbsRel | δ1 |\n|---|---|---|")
    for what, (depth, opinion) in comparisons.items():
        click.echo(f"| {what} | {' | '.join(f'{v:.4f}' for v in agreement(opinion, depth))} |")

    patch = pipeline.depth_codec.patch
    click.echo(
        f"\n| depth and its seams | at borders of {patch} pixels over elsewhere |\n|---|---|"
    )
    for what, depth in (
        ("true depth", held_out.depth),
        ("i2d, 1 step", image_to_depth(pipeline, held_out.rgb, steps=1, batch_size=BATCH)),
        ("joint depth", joint),
    ):
        click.echo(f"| {what} | {np.nanmean([seam_ratio(one, patch) for one in depth]):.2f} |")

    judge = judge_of(name, size, cache)
    click.echo("\n| found, of what the prompt names | objects | colours | shapes |")
    click.echo("|---|---|---|---|")
    for what, images, asked in (
        ("in rendered images", held_out.rgb, captions),
        ("in joint samples", rgb, captions),
        ("in d2i samples", retextured, captions),
        ("in joint samples of other prompts", rgb, (*captions[1:], captions[0])),
    ):
        found = follow(judge, images, asked)
        click.echo(f"| {what} | {found.objects:.0%} | {found.colours:.0%} | {found.shapes:.0%} |")


def depth_table(pipeline: ModalityForcingPipeline, held_out: Path, others: CachedScenes) -> None:
    """Print depth of rendered images against the truth."""
    size = others.settings.size
    mean_map = others.depth.mean(axis=0)
    samples = [
        predictor(pipeline, size, size, steps=I2D_STEPS, seed=1_000_000 * number)
        for number in range(I2D_SAMPLES)
    ]
    predictors = {
        f"i2d, {I2D_STEPS} steps": samples[0],
        f"mean of {I2D_SAMPLES} such samples": lambda images, first: list(
            np.mean([sample(images, first) for sample in samples], axis=0)
        ),
        "i2d, 1 step": predictor(pipeline, size, size, steps=1),
        "mean depth map": lambda images, first: [mean_map] * len(images),
        "constant depth": lambda images, first: [np.ones_like(mean_map)] * len(images),
    }
    truth = open_set(EvaluatedScenes(kind="cached_scenes", path=str(held_out)), lambda *_: None)
    click.echo("| depth of rendered images | AbsRel | δ1 |\n|---|---|---|")
    for name, predict in predictors.items():
        scores = score_set(truth, predict, ["scale"], BATCH, lambda *_: None)
        (score,) = scores.scores
        click.echo(f"| {name} | {score.abs_rel:.4f} | {score.delta1:.4f} |")


def generate(
    pipeline: ModalityForcingPipeline,
    captions: Sequence[str],
    depth: Depths | None = None,
    first: int = 0,
    **sampling: Any,
) -> tuple[Images, Depths]:
    """Joint samples, or images for given depth, sampled with `sampling`; i has seed first + i."""
    rgb, made = [], []
    for rows in batch_slices(len(captions)):
        given: dict[str, Any] = {}
        if depth is not None:
            given = {"mode": "d2i", "depth": np.array(depth[rows])}
        pairs = pipeline(
            list(captions[rows]),
            seeds=range(first, first + len(captions))[rows],
            **given,
            **sampling,
        )
        rgb.append(pairs.rgb)
        made.append(pairs.depth)
    return np.concatenate(rgb), np.concatenate(made)


def retexture(
    pipeline: ModalityForcingPipeline, captions: Sequence[str], depth: Depths, first: int = 0
) -> Images:
    """Images for given depth, as `configs/retexture.yaml` says; i has seed first + i."""
    plan = load_config("retexture").sampler
    images, _ = generate(
        pipeline,
        captions,
        depth=depth,
        first=first,
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance,
    )
    return images


def estimate(network: DepthEstimator, rgb: Images) -> Depths:
    return np.concatenate(
        [estimate_depth(network, np.array(rgb[r])) for r in batch_slices(len(rgb))]
    )


def batch_slices(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))


def agreement(predictions: Depths, references: Depths) -> tuple[float, float]:
    """AbsRel and δ1 after scale-only alignment per image, means over images."""
    scores = []
    for prediction, reference in zip(predictions, references, strict=True):
        valid = (prediction > 0) & (reference > 0)
        aligned = scale_l1(prediction, reference, valid) * prediction
        scores.append((abs_rel(aligned, reference, valid), delta(aligned, reference, valid, 1)))
    absolute, close = np.mean(scores, axis=0)
    return float(absolute), float(close)


if __name__ == "__main__":
    main()
