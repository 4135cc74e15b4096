"""How far an image is from the depth it was made for, and depth from the image it was made of.

    python benchmarks/depth_errors.py --scenes 64
    python benchmarks/depth_errors.py --size 192 --tile-overlap 0.25
    python benchmarks/depth_errors.py --retexture retexture_gpu --annotate annotate_gpu --size 512
        --library tabletop_rooms --style varied --estimator Ruicheng/moge-2-vitl-normal
        --device cuda --model models/modality-forcing

Simulator scenes with their masks through both jobs, as their configurations have the sampler, and
the model unless one is named. `d2i`: the depth of the image that the model made, as the model
itself and an estimator see it, against the given one: of all, at edges, of the worst object and of
the background (`depth_error`, `object_depth_error`). `i2d`: depth that it gives to the rendered
image, seen whole and in tiles, against the true one. Medians over scenes, after one scale alignment
an image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mfsynth.checks import CheckedPair, run_checks
from mfsynth.checks.depth_error import DepthError
from mfsynth.checks.object_depth_error import ObjectDepthError
from mfsynth.checks.validity import valid_mask
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.geometry import DepthEstimate, EstimateKind
from mfsynth.models import load_pipeline
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.prompts import derive_seed
from mfsynth.runs.making import (
    Batch,
    depth_to_images,
    given,
    images_to_depth,
    with_own_estimates,
)
from mfsynth.runs.plan import Candidate
from mfsynth.runs.settings import load_run_config
from mfsynth.sources.simulated import LiveScenesSource

CHECKS = (DepthError(), ObjectDepthError())
SCORES = tuple(score.name for check in CHECKS for score in check.scores)
_OWN_STEPS = 10

Scores = Mapping[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--retexture", default="retexture", help="Configuration of d2i.")
    parser.add_argument("--annotate", default="annotate", help="Configuration of i2d.")
    parser.add_argument("--model", help="Folder or hub id, in place of the configurations'.")
    parser.add_argument("--estimator", default="embedded", help="Folder or hub id; or none.")
    parser.add_argument("--library", default="tabletop_shapes")
    parser.add_argument("--style", default="close", choices=("plain", "close", "varied"))
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--tile-overlap", type=float, help="Of i2d, where scenes are larger.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"| made | depth seen by | {' | '.join(SCORES)} | within limits |")
    print("|---" * (len(SCORES) + 3) + "|")
    for made, seen_by, scores in [*of_images(options), *of_depth(options)]:
        shown = [f"{np.nanmedian([one[name] for one in scores]):.3f}" for name in SCORES]
        passed = np.mean([one["accepted"] for one in scores])
        print(f"| {made} | {seen_by} | {' | '.join(shown)} | {passed:.0%} |", flush=True)


def of_images(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Scores]]]:
    """Images that were made for given depth, as each that is asked sees them."""
    pipeline, sampler, batches = opened(options, options.retexture)
    own, other = [], []
    estimator = None
    if options.estimator != "none":
        config = DepthEstimatorConfig(id=options.estimator)
        estimator = open_estimator(config, options.device)
    for candidates in batches:
        embeds = encoded(pipeline, candidates)
        made = depth_to_images(pipeline, sampler, candidates, embeds)
        seen = with_own_estimates(pipeline, made, embeds, _OWN_STEPS, sampler)
        own += scores_of(seen, seen.estimates or ())
        if estimator is not None:
            views = [candidate.item.intrinsics for candidate in candidates]
            other += scores_of(made, estimator(np.stack([*made.rgb]), views))
    yield "image for depth (d2i)", "the model", own
    if other:
        yield "image for depth (d2i)", options.estimator, other


def of_depth(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Scores]]]:
    """Depth of rendered images, against the true one."""
    for overlap in dict.fromkeys((None, options.tile_overlap)):
        pipeline, sampler, batches = opened(options, options.annotate)
        sampler = sampler.model_copy(update={"tile_overlap": overlap})
        found: list[Scores] = []
        for candidates in batches:
            made = images_to_depth(pipeline, sampler, candidates, encoded(pipeline, candidates))
            kind = EstimateKind.SCALE_INVARIANT_Z
            estimates = [DepthEstimate(one, valid_mask(one), kind) for one in made.depth]
            truth = [given(candidate.item.depth) for candidate in candidates]
            found += scores_of(replace(made, depth=truth), estimates)
        yield f"depth of image (i2d), {'in tiles' if overlap else 'whole'}", "is it", found


def opened(options: argparse.Namespace, name: str) -> tuple[Any, Any, Iterator[list[Candidate]]]:
    """Model and sampler of a configuration, and candidates in batches."""
    named = [] if options.model is None else [f"model.id={options.model}"]
    config = load_run_config(name, named)
    pipeline = load_pipeline(config.model, options.device)
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": pipeline.config.height, "width": pipeline.config.width}
    source = LiveScenesSource(
        options.library, options.scenes, options.size, options.seed, options.style, masks=True
    )

    def batches() -> Iterator[list[Candidate]]:
        for first in range(0, options.scenes, options.batch):
            numbers = range(first, min(first + options.batch, options.scenes))
            yield [
                Candidate(n, f"scene-{n}", source[n], derive_seed(options.seed, n)) for n in numbers
            ]

    return pipeline, config.sampler.model_copy(update=size), batches()


def encoded(pipeline: Any, candidates: list[Candidate]) -> Any:
    return pipeline.encode_prompts([one.item.text for one in candidates], len(candidates))


def scores_of(batch: Batch, estimates: Any) -> list[Scores]:
    """What the two checks say of each pair."""
    found: list[Scores] = []
    for candidate, rgb, depth, estimate in zip(
        batch.candidates, batch.rgb, batch.depth, estimates, strict=True
    ):
        mask = candidate.item.labels.mask
        pair = CheckedPair(np.asarray(rgb), np.asarray(depth), estimate=estimate, mask=mask)
        verdict = run_checks(pair, CHECKS)
        found.append({**verdict.scores, "accepted": verdict.accepted})
    return found


if __name__ == "__main__":
    main()
