"""What pairs are worth: the same small networks, trained on one kind of them at a time.

    mfsynth generate local --set keep_rejects=all --set 'target={candidates: 1024}' \
        --out out/proof/pairs
    mfsynth retexture --set source.scenes=512 --set copies=1 --out out/proof/retextured
    python benchmarks/proof.py --pairs out/proof/pairs --retextured out/proof/retextured
    python benchmarks/proof.py                                      # the tables of all that is done

Three comparisons; in each the networks have the same size, the same steps and the same batches.

- **filter**: `all` candidates of a run, its accepted ones (`filtered`; those within `--filter`, if
  it is given), and as many of all: the first ones (`unfiltered`), and `random` ones. A view
  `everything` is written beside the run.
- **generators**: candidates as they come, and as many more of two models (the same images, their
  depth by `--estimator`) as their floating-point operations allow: an image costs what its steps
  take without depth. The run makes images first (`image_then_depth`).
- **looks**: images by the model of depth of simulator scenes (`retextured`), and two renders of the
  very same scenes in their place (`looks.py`). Each arm has a mask network, too
  (`mask_network.py`): the scenes, and so their masks, are the same.

Each network is tested on held-out scenes of the simulator's own look, whose materials and lights
the embedded model and the estimator have learnt from, and on scenes of another generator
(`other_scenes.py`). The latter's materials, lights, things and rooms are what counts as unseen: no
arm, nor the model or the estimator, has learnt from any. Randomised renders of another seed would
not be unseen, as one arm knows their kind. Depth networks are tested on measured frames, too, which
have no masks: squares of `--frames`, a folder as `tests/data/real_rgbd` is (`*/*.rgb.jpg`,
`*/*.depth.png` in millimetres). Figures are AbsRel after scale-only alignment of each image, and
IoU of the pixels that show things; means over images.

A step of a training takes 0.2 s of CPU time on one core of a busy machine, so that the 36 trainings
take an hour and a half, beside what the pairs take.

A finished network is a line of the results file; called again, the script trains what is missing.
Seeds (`--seed`) and comparisons (`--only`) may run side by side.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from looks import LOOKS, restyled
from mask_network import Things, find_things, mask_as_depth, thing_iou, train_masks
from model_card import Depths, Images, agreement, estimate
from numpy.random import Generator
from other_scenes import other_scenes
from real_frames import FRAMES, real_frames
from scene_sets import HELD_OUT_SEED, SCENES, kept, rendered_with_things
from torch.utils.flop_counter import FlopCounterMode

from mfsynth.config import ModelConfig
from mfsynth.config.schema import SamplerConfig
from mfsynth.datasets import RGBDDataset, RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.models import load_pipeline
from mfsynth.models.estimators.embedded import DepthEstimator, estimate_depth, load_estimator
from mfsynth.prompts import load_library
from mfsynth.shards.refilter import refilter
from mfsynth.shards.run_manifest import RunManifest, read_run
from mfsynth.shards.views import Bound, Rules
from mfsynth.simulation import STYLES, render_scene, scenes
from mfsynth.storage.store import ObjectStore
from mfsynth.training.data import Fitted
from mfsynth.training.estimator import train_on
from mfsynth.training.estimator_config import load_estimator_config
from mfsynth.training.processes import join_processes

NETWORK = (
    *("size=64", "estimator.widths=[16, 32, 64]", "estimator.blocks=1", "batch_size=16"),
    *("warmup_steps=50", "ema=0.99", "precision=float32", "workers=null"),
)
Task = Literal["depth", "mask"]
FIGURES: Mapping[Task, str] = {
    "depth": "AbsRel, lower is better",
    "mask": "IoU of things, higher is better",
}
EVERYTHING = "everything"
_BEYOND = 1e12
OTHER_SCENES, CROPS = 96, 3


@dataclass(frozen=True)
class Arm:
    """What a network learns from.

    Attributes:
        url: Of a run.
        pairs: Samples of it.
        rgb: Images that take the place of the samples' own, by their ids.
        depth: The same of depth.
        gflop: That a pair cost; None where that is not compared.
        tasks: What networks learn from it, one each.
    """

    url: str
    pairs: RGBDDataset
    rgb: Mapping[str, RgbImage] = field(default_factory=dict)
    depth: Mapping[str, DepthMap] = field(default_factory=dict)
    gflop: float | None = None
    tasks: tuple[Task, ...] = ("depth",)

    @property
    def digest(self) -> str:
        """SHA-256 of what it comes to."""
        digest = hashlib.sha256(self.pairs.digest.encode())
        for replaced in (self.rgb, self.depth):
            for name, array in sorted(replaced.items()):
                digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __call__(self, sample: RGBDSample, rng: Generator) -> RGBDSample:
        """An `mfsynth.datasets.Augmentation`."""
        depth = self.depth.get(sample.sample_id, sample.depth)
        rgb = self.rgb.get(sample.sample_id, sample.rgb)
        return replace(sample, rgb=rgb, depth=depth, valid=depth > 0)


@dataclass(frozen=True, slots=True)
class Row:
    """A network that is trained and tested.

    Attributes:
        comparison: Of which it is a part.
        arm: Its name.
        label: Of the model that made the pairs.
        task: That it learnt.
        seed: Of weights and order.
        pairs: That it learnt from.
        steps: Of its training.
        gflop: As of `Arm`.
        of: Digest of what it learnt from and was tested on, so that nothing else passes for it.
        scores: AbsRel, of a mask network IoU, by the name of the test.
    """

    comparison: str
    arm: str
    label: str
    task: Task
    seed: int
    pairs: int
    steps: int
    gflop: float | None
    of: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class TestSet:
    """Images and what networks are to say of them.

    Attributes:
        rgb: uint8 (N, H, W, 3).
        depth: float32 (N, H, W), 0 = invalid.
        things: bool (N, H, W); None where nobody knows.
    """

    rgb: Images
    depth: Depths
    things: Things | None = None


Arms = Mapping[str, Arm]
Tests = Mapping[str, TestSet]


@click.command()
@click.option("--pairs", help="A run of `mfsynth generate` that keeps all rejects.")
@click.option("--retextured", help="A run of `mfsynth retexture` over live_scenes.")
@click.option("--filter", "condition", help="Such as a loader's, in place of the run's limits.")
@click.option("--estimator", default="embedded", help="Of two models; embedded, or a folder.")
@click.option("--label", default="embedded", help="Of the model that made the pairs.")
@click.option("--scenes", "held_out", type=click.Choice([*SCENES]), default="shapes")
@click.option("--count", default=256, help="Held-out scenes.")
@click.option("--frames", default=FRAMES, type=click.Path(path_type=Path))
@click.option("--steps", default=700, help="Of each training.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), help="Repeatable.")
@click.option("--only", multiple=True, help="A comparison; repeatable.")
@click.option("--results", default="docs/results/proof.jsonl", type=click.Path(path_type=Path))
@click.option("--out", default="out/proof", type=click.Path(path_type=Path))
def main(
    pairs: str | None,
    retextured: str | None,
    condition: str | None,
    estimator: str,
    label: str,
    held_out: str,
    count: int,
    frames: Path,
    steps: int,
    seeds: tuple[int, ...],
    only: tuple[str, ...],
    results: Path,
    out: Path,
) -> None:
    """Train and test what is missing, and print the tables."""
    comparisons: dict[str, Callable[[int], Arms]] = {}
    if pairs is not None:
        everything = every_candidate(pairs)
        comparisons["filter"] = lambda seed: filtered(pairs, everything, condition, seed)
        of_two = cache(lambda: two_models(pairs, everything, estimator))
        comparisons["generators"] = lambda seed: of_two()
    if retextured is not None:
        of_looks = cache(lambda: looks(retextured, out))
        comparisons["looks"] = lambda seed: of_looks()
    tests: Tests = {}
    for seed in seeds:
        for name in (name for name in comparisons if not only or name in only):
            for arm, what in comparisons[name](seed).items():
                digest, size = what.digest, len(what.pairs)
                for task in what.tasks:
                    of = digest_of([digest, task, steps, held_out, count, str(frames)])
                    key = name, arm, label, task, seed
                    before = done(results).get(key)
                    if before == of:
                        continue
                    words = f"{label}, {name}, {arm}, {task}, seed {seed}"
                    if before is not None:
                        raise MfsynthError(
                            f"{results}: {words} is there with other pairs or options; give "
                            "another --label or --results"
                        )
                    tests = tests or open_tests(held_out, count, frames, out)
                    click.echo(words)
                    where = out / f"{label}-{name}-{arm}-{task}-{seed}-{of}".replace(" ", "-")
                    scores = tested(learn(what, task, seed, steps, where), task, tests)
                    add(results, Row(*key, size, steps, what.gflop, of, scores))
    click.echo(tables(rows_of(results)))


# --- what is learnt from ----------------------------------------------------------------------


def every_candidate(url: str) -> RGBDDataset:
    """All candidates of a run that have pixels, also those that it rejected."""
    store = ObjectStore.open(url)
    beyond = {
        name: Bound(-_BEYOND if score.is_minimum else _BEYOND, score.is_minimum)
        for name, score in read_run(store).scores.items()
    }
    refilter(store, EVERYTHING, Rules(beyond), replace=True)
    return RGBDDataset(url, view=EVERYTHING)


def filtered(url: str, everything: RGBDDataset, condition: str | None, seed: int) -> Arms:
    """The comparison `filter`."""
    kept = RGBDDataset(url) if condition is None else everything.filter(condition)
    if len(kept) == len(everything):
        raise MfsynthError(
            f"{url}: nothing is left out, so there is nothing to compare; make a run with "
            "keep_rejects=all, or give --filter"
        )
    drawn = np.random.default_rng(seed).choice(len(everything), len(kept), replace=False)
    return {
        "all": Arm(url, everything),
        "unfiltered": Arm(url, everything.select(range(len(kept)))),
        "random": Arm(url, everything.select(np.sort(drawn))),
        "filtered": Arm(url, kept),
    }


def two_models(url: str, everything: RGBDDataset, estimator: str) -> Arms:
    """The comparison `generators`: as many pairs of each as equal operations make."""
    network = load_estimator(estimator)
    joint, image = generator_gflop(read_run(ObjectStore.open(url)))
    first = everything[0]
    two = image + gflop(lambda: estimate_depth(network, first.rgb[None]))
    depth = {pair.sample_id: estimate_depth(network, pair.rgb[None])[0] for pair in everything}

    def of(cost: float) -> RGBDDataset:
        return everything.select(range(int(len(everything) * min(joint, two) / cost)))

    return {
        "joint": Arm(url, of(joint), gflop=joint),
        "two models": Arm(url, of(two), depth=depth, gflop=two),
    }


def generator_gflop(run: RunManifest) -> tuple[float, float]:
    """Of a pair, and of its image alone, by the sampler of a run."""
    model = ModelConfig.model_validate(run.config["model"])
    sampler = SamplerConfig.model_validate(run.config["sampler"])
    pipeline = load_pipeline(model, "cpu")
    text = pipeline.encode_prompts(["a red cube"], 1)
    arguments = sampler.pipeline_arguments()
    if arguments["depth_start"] != 0:
        raise MfsynthError("the run's images have depth from the start; take image_then_depth")

    def pair(refine_steps: int) -> float:
        asked = arguments | {"refine_steps": refine_steps}
        return gflop(lambda: pipeline(prompt_embeds=text, seeds=[0], mode="joint", **asked))

    # A forward over depth is what one more of them costs.
    once = pair(1)
    forward = pair(2) - once
    return once + (arguments["refine_steps"] - 1) * forward, once - forward


def gflop(work: Callable[[], object]) -> float:
    """Of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def looks(url: str, out: Path) -> Arms:
    """The comparison `looks`: the pairs of a run, and its scenes in other looks."""
    pairs = RGBDDataset(url)
    source = read_run(ObjectStore.open(url)).config["source"]
    if source["kind"] != "live_scenes" or not source.get("masks"):
        raise MfsynthError(f"{url}: is of {source}; retexture live_scenes with masks: true")
    ids = pairs.index.column("sample_id").to_pylist()
    numbers = [int(name.split()[-1]) for name in pairs.index.column("source").to_pylist()]
    own = Arm(url, pairs, tasks=("depth", "mask"))
    images = {look: renders(pairs, source, numbers, look, out) for look in LOOKS}
    others = {
        look: replace(own, rgb=dict(zip(ids, of, strict=True))) for look, of in images.items()
    }
    return {"retextured": own, **others}


def renders(
    pairs: RGBDDataset, source: Mapping[str, Any], numbers: Sequence[int], look: str, out: Path
) -> Images:
    """Images of scenes in another look, one for each pair; kept in a file.

    Raises:
        MfsynthError: Their depth is not that of the pairs.
    """

    def render() -> Mapping[str, Images]:
        library, seed = load_library(source["library"], source["seed"]), source["seed"]
        images = []
        given = scenes(library, seed, numbers, STYLES[source["style"]])
        for number, (_, scene) in enumerate(given):
            other = restyled(scene, look, np.random.default_rng([seed, number]))
            [view] = render_scene(other, 1, source["size"], source["size"])
            if not np.allclose(view.depth, pairs[number].depth, rtol=1e-3):
                raise MfsynthError(f"{pairs[number].sample_id}: {look} is of other depth")
            images.append(view.rgb)
        return {"rgb": np.stack(images)}

    return kept(out / f"{look}-{pairs.digest[:12]}.npz", render)["rgb"]


# --- training and tests -----------------------------------------------------------------------


def learn(arm: Arm, task: Task, seed: int, steps: int, output: Path) -> DepthEstimator:
    """Train a network, or go on where an interrupted training was."""
    processes = join_processes()
    data = json.dumps([{"kind": "mfsynth", "url": arm.url}])
    settings = [f"seed={seed}", f"steps={steps}", f"output={output}", f"data={data}"]
    config = load_estimator_config("estimator", [*NETWORK, *settings])
    fitted = Fitted(config.size, config.size, mirror=True)
    if task == "depth":
        loader = arm.pairs.loader(config.batch_size, seed=seed, augment=[arm, fitted], workers=0)
        return load_estimator(str(train_on(config, loader, processes, click.echo)))
    augment = [arm, mask_as_depth, fitted]
    labelled = arm.pairs.with_labels()
    loader = labelled.loader(config.batch_size, seed=seed, augment=augment, workers=0)
    return load_estimator(str(train_masks(config, loader, processes, click.echo)))


def tested(network: DepthEstimator, task: Task, tests: Tests) -> dict[str, float]:
    """AbsRel on all tests, or IoU on those with masks."""
    if task == "depth":
        return {
            name: agreement(estimate(network, test.rgb), test.depth)[0]
            for name, test in tests.items()
        }
    return {
        name: thing_iou(find_things(network, test.rgb), test.things)
        for name, test in tests.items()
        if test.things is not None
    }


def open_tests(held_out: str, count: int, frames: Path, out: Path) -> Tests:
    """All tests, by name."""
    size = load_estimator_config("estimator", NETWORK).size
    own = rendered_with_things(held_out, count, size, HELD_OUT_SEED, out)
    others = list(other_scenes(OTHER_SCENES, size, seed=0))
    measured = real_frames(size, CROPS, frames)
    return {
        f"held-out {held_out}, {count}": TestSet(**own),
        f"other scenes, {OTHER_SCENES}": TestSet(
            np.stack([scene.rgb for scene in others]),
            np.stack([scene.depth for scene in others]),
            np.stack([scene.things for scene in others]),
        ),
        f"squares of measured frames, {len(measured)}": TestSet(
            np.stack([rgb for rgb, _ in measured]),
            np.stack([depth for _, depth in measured]),
        ),
    }


# --- results ----------------------------------------------------------------------------------


def rows_of(results: Path) -> list[Row]:
    """All that is done."""
    if not results.exists():
        return []
    return [Row(**json.loads(line)) for line in results.read_text().splitlines()]


def done(results: Path) -> dict[tuple[str, str, str, Task, int], str]:
    """What need not be done, and what it is of."""
    rows = rows_of(results)
    return {(row.comparison, row.arm, row.label, row.task, row.seed): row.of for row in rows}


def digest_of(what: Sequence[Any]) -> str:
    """The first 16 hexadecimal digits of a SHA-256."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def add(results: Path, row: Row) -> None:
    """Write a line."""
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def tables(rows: Sequence[Row]) -> str:
    """A table a comparison: means over seeds, the lowest and the highest."""
    made = []
    for comparison in dict.fromkeys(row.comparison for row in rows):
        of = [row for row in rows if row.comparison == comparison]
        tests = sorted(dict.fromkeys((row.task, test) for row in of for test in row.scores))
        headings = " | ".join(f"{test}: {FIGURES[task]}" for task, test in tests)
        lines = [f"{comparison}:\n", f"| pairs of | arm | seeds | pairs | {headings} |"]
        lines += ["|---|---|---|---|" + "---|" * len(tests)]
        for label, arm in dict.fromkeys((row.label, row.arm) for row in of):
            group = [row for row in of if (row.label, row.arm) == (label, arm)]
            cost = group[0].gflop
            name = arm if cost is None else f"{arm}, {cost:.2f} GFLOP a pair"
            cells = [
                spread(
                    [row.scores[test] for row in group if row.task == task and test in row.scores]
                )
                for task, test in tests
            ]
            pairs, seeds = group[0].pairs, len({row.seed for row in group})
            lines += [f"| {label} | {name} | {seeds} | {pairs:,} | {' | '.join(cells)} |"]
        made.append("\n".join(lines))
    return "\n\n".join(made)


def spread(values: Sequence[float]) -> str:
    """Mean; of several the lowest and the highest, too; of none a dash."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f}–{max(values):.4f})"


if __name__ == "__main__":
    main()
