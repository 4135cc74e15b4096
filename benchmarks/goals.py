"""What a small model is to reach, and what it does: one column a model and a set of scenes.

    python benchmarks/goals.py --model embedded --label 'version 3' --scenes shapes
    python benchmarks/goals.py --model FOLDER --estimator FOLDER --scenes shapes --scenes rooms
    python benchmarks/goals.py

Scenes are 512 held-out ones of the sets of `scene_sets.py`. A finished column is a line of the
results file, which is committed, in place of that of the same label and scenes; then, and without
`--model`, the script prints the table of all of them. What the model makes of scenes is kept in the
cache, so that a measurement that was killed goes on; after a change of how it samples, empty it.
Pairs are made as `configs/local.yaml` says, changed by `--set` (`model.few_steps=null` and another
preset for a model without few-step weights), images for depth as `configs/retexture.yaml` says;
depth of images in one step and in ten. All errors are AbsRel after scale-only alignment of each
image, means over images.

- objects: of those that the prompt names, found in the image by the judge of
  `prompt_following.py`, over the same in rendered images;
- seams: `seam_ratio` of joint depth;
- joint depth and d2i: the model's depth, or the given one, relative to what the estimator says of
  the image (`model_card.py` has d2i the other way round, relative to the given depth);
- edges: the error within 2 pixels of where neighbours of the true depth differ by over 5 %;
- accepted: pairs that the default limits of validity, registration and flying_pixels let pass,
  over the same of rendered pairs;
- other scenes: errors on `other_scenes.py` over that of the mean depth map of other such scenes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from model_card import (
    BATCH,
    Depths,
    Images,
    agreement,
    batch_slices,
    estimate,
    generate,
    retexture,
)
from numpy.typing import NDArray
from other_scenes import OTHERS_SEED, other_scenes
from prompt_following import follow
from scene_sets import HELD_OUT_SEED, SCENES, judge_of, kept, rendered

from mfsynth.checks.base import CheckedPair
from mfsynth.checks.registry import open_checks
from mfsynth.checks.verdict import run_checks
from mfsynth.config import load_config
from mfsynth.evaluation.depth import image_to_depth
from mfsynth.geometry.alignment import scale_l1
from mfsynth.geometry.metrics import delta, seam_ratio
from mfsynth.models import load_pipeline, model_info
from mfsynth.models.estimators.embedded import load_estimator
from mfsynth.models.few_steps.student import weights_digest
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.simulation import CachedScenes

EDGE_STEP, EDGE_PIXELS = 0.05, 2
OTHER_SCENES, FEW_STEPS, MORE_STEPS = 96, 1, 10
RETEXTURE = load_config("retexture").sampler
LIMITS: Mapping[str, Mapping[str, float]] = {
    "validity": {},
    "registration": {},
    "flying_pixels": {},
}


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure's name in the table, what it shall be, and whether it is."""

    name: str
    says: str
    holds: Callable[[float], bool]


GOALS = {
    "objects": Goal("objects found, of rendered", "≥ .90", lambda v: v >= 0.9),
    "seams": Goal("seams of joint depth", "≤ 1.1", lambda v: v <= 1.1),
    "i2d": Goal("i2d, best of 1 and 10 steps", "≤ .030", lambda v: v <= 0.03),
    "delta1": Goal("its δ1", "≥ .99", lambda v: v >= 0.99),
    "edges": Goal("its error at edges", "≤ .06", lambda v: v <= 0.06),
    "ten_steps_edges": Goal("edges, 10 steps over 1", "≤ .85", lambda v: v <= 0.85),
    "ten_steps": Goal("whole, 10 steps over 1", "≤ 1.02", lambda v: v <= 1.02),
    "joint": Goal("joint depth against the estimator", "≤ .035", lambda v: v <= 0.035),
    "d2i": Goal("d2i, estimator on the image", "≤ .035", lambda v: v <= 0.035),
    "accepted": Goal("accepted, of rendered", "≥ .90", lambda v: v >= 0.9),
    "other_i2d": Goal("other scenes, i2d over mean map", "≤ .75", lambda v: v <= 0.75),
    "other_estimator": Goal("other scenes, estimator over it", "≤ .65", lambda v: v <= 0.65),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A model on a set of scenes.

    Attributes:
        label: Of the model.
        scenes: A key of `SCENES`.
        count: Of scenes.
        overrides: Of configs/local.yaml.
        figures: By the keys of `GOALS`.
    """

    label: str
    scenes: str
    count: int
    overrides: Sequence[str]
    figures: Mapping[str, float]


@click.command()
@click.option("--model", help="embedded, or a model folder.")
@click.option("--estimator", default="embedded", help="embedded, or an estimator's folder.")
@click.option("--label", help="Of the columns; by default the model.")
@click.option("--scenes", "sets", multiple=True, type=click.Choice(sorted(SCENES)))
@click.option("--count", default=512, help="Scenes of a set.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of the run.")
@click.option("--results", default="docs/results/goals.jsonl", type=click.Path(path_type=Path))
@click.option("--cache", default="out/benchmarks", type=click.Path(path_type=Path))
def main(
    model: str | None,
    estimator: str,
    label: str | None,
    sets: tuple[str, ...],
    count: int,
    overrides: tuple[str, ...],
    results: Path,
    cache: Path,
) -> None:
    """Measure a model, and print the table of all."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    columns = {(one.label, one.scenes): one for one in (Column(**json.loads(of)) for of in lines)}
    for name in sets if model is not None else ():
        assert model is not None
        figures = measure(model, estimator, name, count, overrides, cache)
        column = Column(label or model, name, count, overrides, figures)
        columns[column.label, name] = column
        results.write_text(
            "".join(json.dumps(asdict(one)) + "\n" for one in columns.values()), encoding="utf-8"
        )
    click.echo(table([*columns.values()]))


def measure(
    model: str, estimator: str, scenes: str, count: int, overrides: Sequence[str], cache: Path
) -> dict[str, float]:
    """All figures."""
    shipped = load_config("local", overrides)
    config = shipped.model.model_copy(update={"id": model})
    size = model_info(config).height
    alone = load_pipeline(config.model_copy(update={"few_steps": None}), "cpu")
    pipeline, network = load_pipeline(config, "cpu"), load_estimator(estimator)
    held_out = rendered(scenes, count, size, HELD_OUT_SEED, cache)
    judge = judge_of(scenes, size, cache)

    captions, truth = held_out.captions, np.array(held_out.depth)
    plan = shipped.sampler.pipeline_arguments()
    blocks = [range(count)[rows] for rows in batch_slices(count)]
    # Few-step weights that are distilled anew change pairs alone.
    made = {
        **in_blocks(
            cache / f"goals-pairs-{digest(model_info(config).revision, scenes, config, plan)}",
            blocks,
            partial(pairs, pipeline, held_out, plan),
        ),
        **in_blocks(
            cache / f"goals-scenes-{digest(weights_digest(alone.transformer), scenes, RETEXTURE)}",
            blocks,
            partial(of_scenes, alone, held_out),
        ),
    }
    rgb, joint, retextured, few, more = (
        made[name] for name in ("rgb", "joint", "retextured", "few", "more")
    )
    few_scores, more_scores = depth_errors(few, truth), depth_errors(more, truth)
    best = min(few_scores, more_scores, key=lambda scores: scores["i2d"])
    patch = pipeline.depth_codec.patch
    found = [follow(judge, images, captions).objects for images in (rgb, held_out.rgb)]
    others = list(other_scenes(OTHER_SCENES, size, seed=0))
    other_rgb, other_depth = (
        np.stack([getattr(scene, name) for scene in others]) for name in ("rgb", "depth")
    )
    strangers = other_scenes(OTHER_SCENES, size, OTHERS_SEED)
    mean_map = np.mean([scene.depth / scene.depth.mean() for scene in strangers], axis=0)
    uninformed, _ = agreement(np.broadcast_to(mean_map, other_depth.shape), other_depth)
    other_own = image_to_depth(pipeline, other_rgb, steps=FEW_STEPS, batch_size=BATCH)
    return {
        "objects": found[0] / found[1],
        "seams": float(np.nanmean([seam_ratio(one, patch) for one in joint])),
        **best,
        "ten_steps_edges": more_scores["edges"] / few_scores["edges"],
        "ten_steps": more_scores["i2d"] / few_scores["i2d"],
        "joint": agreement(joint, estimate(network, rgb))[0],
        "d2i": agreement(truth, estimate(network, retextured))[0],
        "accepted": accepted(rgb, joint) / accepted(held_out.rgb, truth),
        "other_i2d": agreement(other_own, other_depth)[0] / uninformed,
        "other_estimator": agreement(estimate(network, other_rgb), other_depth)[0] / uninformed,
    }


def digest(*settings: object) -> str:
    """Tells what is made with such settings from all else."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def in_blocks(
    folder: Path, blocks: Sequence[range], make: Callable[[range], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """What is made of all scenes, by name; a block is kept as soon as it is there."""
    made = [
        kept(folder / f"{block.start}-{block.stop}.npz", partial(make, block)) for block in blocks
    ]
    return {name: np.concatenate([block[name] for block in made]) for name in made[0]}


def pairs(
    pipeline: ModalityForcingPipeline, held_out: CachedScenes, plan: Mapping[str, Any], rows: range
) -> dict[str, NDArray[Any]]:
    """Pairs of captions."""
    captions = held_out.captions[rows.start : rows.stop]
    rgb, joint = generate(pipeline, captions, first=rows.start, **plan)
    return {"rgb": rgb, "joint": joint}


def of_scenes(
    pipeline: ModalityForcingPipeline, held_out: CachedScenes, rows: range
) -> dict[str, NDArray[Any]]:
    """Images of true depth, and depth of true images: the model's own, whatever its few steps."""
    images, first = np.array(held_out.rgb[rows.start : rows.stop]), rows.start
    truth = np.array(held_out.depth[rows.start : rows.stop])
    captions = held_out.captions[rows.start : rows.stop]
    few, more = (
        image_to_depth(pipeline, images, steps=steps, batch_size=BATCH, seed=first)
        for steps in (FEW_STEPS, MORE_STEPS)
    )
    return {"retextured": retexture(pipeline, captions, truth, first), "few": few, "more": more}


def depth_errors(predictions: Depths, truths: Depths) -> dict[str, float]:
    """AbsRel and δ1 of whole maps, and AbsRel at edges, means over images."""
    rows = []
    for prediction, truth in zip(predictions, truths, strict=True):
        valid = (prediction > 0) & (truth > 0)
        aligned = scale_l1(prediction, truth, valid) * prediction
        errors = np.abs(aligned - truth) / truth
        edges = valid & at_edges(truth)
        at_edge = errors[edges].mean() if edges.any() else np.nan
        rows.append((errors[valid].mean(), delta(aligned, truth, valid, 1), at_edge))
    whole, close, near_edges = np.nanmean(rows, axis=0)
    return {"i2d": float(whole), "delta1": float(close), "edges": float(near_edges)}


def at_edges(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels within `EDGE_PIXELS` of neighbours that differ by more than `EDGE_STEP`."""
    near = np.zeros(depth.shape, np.uint8)
    for axis in (0, 1):
        first, second = (np.moveaxis(depth, axis, 0)[part] for part in (np.s_[:-1], np.s_[1:]))
        jump = np.abs(second - first) > EDGE_STEP * np.minimum(first, second)
        marked = np.moveaxis(near, axis, 0)
        marked[:-1] |= jump
        marked[1:] |= jump
    # A pixel beside the jump is at distance 1 of it.
    reach = 2 * (EDGE_PIXELS - 1) + 1
    return cv2.dilate(near, np.ones((reach, reach), np.uint8)).astype(bool)


def accepted(images: Images, depths: Depths) -> float:
    """Share of pairs that pass the default limits."""
    checks = list(open_checks(LIMITS).values())
    pairs = (CheckedPair(image, depth) for image, depth in zip(images, depths, strict=True))
    return float(np.mean([run_checks(pair, checks).accepted for pair in pairs]))


def table(columns: Sequence[Column]) -> str:
    """Markdown; what reaches its goal is bold."""
    heads = [f"{column.label}, {column.count} {column.scenes}" for column in columns]
    lines = [f"| | goal | {' | '.join(heads)} |", "|---|---|" + "---|" * len(columns)]
    for key, goal in GOALS.items():
        cells = []
        for column in columns:
            value = column.figures[key]
            text = f"{value:.4f}" if value < 1 else f"{value:.3f}"
            cells.append(f"**{text}**" if goal.holds(value) else text)
        lines.append(f"| {goal.name} | {goal.says} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
