"""What few steps cost: distilled students, and the undistilled model, beside the many-step plan.

    python benchmarks/few_steps.py [--model embedded] --student out/distill/embedded/few_steps

A row for 20 guided steps (preset `image_then_depth`), for the model itself in 1, 2, 4 and 8 guided
steps of RGB with one of depth after them, and for every `--student` (distil one for each number:
`mfsynth distill embedded --set student.steps=2 --set output=out/distill/embedded-2`):

- joint depth against the embedded estimator's of the same image, AbsRel after scale-only alignment;
- objects of the prompt that are found (`prompt_following.py`);
- diversity: the distance between samples of one prompt, root mean square in the estimator's
  deepest features, mean over pairs of samples and over prompts;
- forwards a pair (a guided step counts two) and seconds a pair, in batches of 32; compare seconds
  of one table alone.

Below the table stand, for each student, the differences that are to be small: at most 5 % of joint
depth and of diversity, and 2 points of objects. Prompts are of a seed that no configuration has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from model_card import Depths, Images, agreement, estimate, generate
from numpy.typing import NDArray
from prompt_following import follow
from scene_sets import HELD_OUT_SEED, SCENES, judge_of

from mfsynth.config import ModelConfig
from mfsynth.config.schema import SamplerConfig
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.estimators.embedded import DepthEstimator, load_estimator
from mfsynth.models.few_steps.pipeline import FewStepPipeline
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.recognition.judge import ObjectJudge
from mfsynth.prompts import load_library
from mfsynth.training.sample_grids import colour_depth, tile

MANY_STEPS = SamplerConfig.model_validate({"preset": "image_then_depth", "guidance": 3.0})
UNDISTILLED_STEPS = (1, 2, 4, 8)
SHOWN = 16


@dataclass(frozen=True, slots=True)
class Row:
    """What a way of sampling comes to.

    Attributes:
        depth: AbsRel of joint depth against the estimator's.
        objects: Share of the prompts' objects that are found.
        diversity: Distance between samples of one prompt.
        forwards: Of a pair.
        seconds: Of a pair.
    """

    depth: float
    objects: float
    diversity: float
    forwards: float
    seconds: float


@click.command()
@click.option("--model", default="embedded", help="embedded, or a model folder.")
@click.option("--student", "students", multiple=True, help="Few-step weights; repeatable.")
@click.option("--estimator", default="embedded", help="embedded, or an estimator's folder.")
@click.option("--of", "scenes", default="shapes", type=click.Choice(sorted(SCENES)), help="Whose.")
@click.option("--prompts", default=256, help="Pairs for depth and objects, one a prompt.")
@click.option("--repeated", default=32, help="Prompts that are sampled repeatedly.")
@click.option("--samples", default=4, help="Of each of those.")
@click.option(
    "--cache",
    default="out/benchmarks",
    type=click.Path(path_type=Path),
    help="Keeps the judge, and a picture of the first pairs of each row.",
)
def main(
    model: str,
    students: Sequence[str],
    estimator: str,
    scenes: str,
    prompts: int,
    repeated: int,
    samples: int,
    cache: Path,
) -> None:
    """Print the table."""
    source = load_library(SCENES[scenes][0], HELD_OUT_SEED)
    texts = [source.prompt(number).text for number in range(max(prompts, repeated))]
    network = load_estimator(estimator)
    config = ModelConfig(id=model)
    judge = judge_of(scenes, model_info(config).height, cache)

    def measured(name: str, pipeline: ModalityForcingPipeline, plan: Mapping[str, Any]) -> Row:
        row, rgb, depth = measure(
            pipeline, plan, network, judge, texts[:prompts], texts[:repeated], samples
        )
        show(cache, name, rgb, depth)
        click.echo(
            f"| {name} | {row.depth:.4f} | {row.objects:.1%} | {row.diversity:.3f} "
            f"| {row.forwards:.0f} | {row.seconds:.3f} |"
        )
        return row

    click.echo(
        "| sampling | joint depth, estimator on the image | objects found | diversity "
        "| forwards a pair | s a pair |\n|---|---|---|---|---|---|"
    )
    teacher = load_pipeline(config, "cpu")
    plan = measured("many steps", teacher, MANY_STEPS.pipeline_arguments())
    for steps in UNDISTILLED_STEPS:
        few = {
            "num_inference_steps": steps,
            "guidance_scale": MANY_STEPS.guidance,
            "depth_guidance_scale": 1.0,
            "depth_start": 0.0,
            "refine_steps": 1,
        }
        measured(f"undistilled, {steps} + 1", teacher, few)
    found: dict[str, Row] = {}
    for folder in students:
        pipeline = load_pipeline(ModelConfig(id=model, few_steps=folder), "cpu")
        assert isinstance(pipeline, FewStepPipeline)
        assert pipeline.few_steps is not None
        name = f"distilled, {pipeline.few_steps.steps} + 1"
        found[name] = measured(name, pipeline, {})
    click.echo()
    for name, row in found.items():
        click.echo(
            f"{name}: joint depth {row.depth / plan.depth - 1:+.1%}, diversity "
            f"{row.diversity / plan.diversity - 1:+.1%}, "
            f"objects {100 * (row.objects - plan.objects):+.1f} points"
        )


def measure(
    pipeline: ModalityForcingPipeline,
    plan: Mapping[str, Any],
    network: DepthEstimator,
    judge: ObjectJudge,
    prompts: Sequence[str],
    repeated: Sequence[str],
    samples: int,
) -> tuple[Row, Images, Depths]:
    """Sample by a plan and score it; also returns the pairs of `prompts`."""
    # Warm up.
    generate(pipeline, prompts[:1], **plan)
    with counted(pipeline) as rows:
        started = time.perf_counter()
        rgb, depth = generate(pipeline, prompts, **plan)
        seconds = time.perf_counter() - started
    again, _ = generate(pipeline, [text for text in repeated for _ in range(samples)], **plan)
    absolute, _ = agreement(estimate(network, rgb), depth)
    row = Row(
        absolute,
        follow(judge, rgb, prompts).objects,
        diversity(features(network, again), samples),
        sum(rows) / len(prompts),
        seconds / len(prompts),
    )
    return row, rgb, depth


@contextmanager
def counted(pipeline: ModalityForcingPipeline) -> Iterator[list[int]]:
    """Collects the rows of the transformer's forwards."""
    rows: list[int] = []
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda _, args, inputs: rows.append(len(inputs["rgb"])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        hook.remove()


@torch.no_grad()
def features(network: DepthEstimator, rgb: Images) -> NDArray[np.float32]:
    """(B, D) deepest features of the estimator."""
    found: list[torch.Tensor] = []
    hook = network.down[-1].register_forward_hook(lambda _, args, out: found.append(out.flatten(1)))
    estimate(network, rgb)
    hook.remove()
    deepest: NDArray[np.float32] = torch.cat(found).numpy()
    return deepest


def diversity(of: NDArray[np.float32], samples: int) -> float:
    """Mean root mean square difference between samples of one prompt, which follow each other."""
    groups = of.reshape(-1, samples, of.shape[1])
    first, second = np.triu_indices(samples, 1)
    return float(np.sqrt(((groups[:, first] - groups[:, second]) ** 2).mean(axis=-1)).mean())


def show(folder: Path, name: str, rgb: Images, depth: Depths) -> None:
    """Write the first pairs as a picture, enlarged."""
    rows = zip(rgb[:SHOWN], map(colour_depth, depth[:SHOWN]), strict=True)
    grid = tile([np.hstack(row) for row in rows], 4)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace(',', '').replace(' ', '-')}.png"
    big = cv2.resize(grid, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(file), big[..., ::-1])


if __name__ == "__main__":
    main()
