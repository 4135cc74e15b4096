"""The claims of Modality Forcing in miniature: the same training with one thing changed at a time.

    python benchmarks/claims.py [--seed 0] [--only sparse] [--only dense]

Every arm trains a model of some two million parameters on the embedded model's images, some minutes
each on a CPU core, and is measured on held-out scenes. A finished arm is a row of the results file,
which is committed: called again, the script trains what is missing and prints the tables of
`docs/results.md` from all rows. Seeds and arms may run side by side, in processes of their own.

The embedded estimator judges what has no ground truth, the depth of generated images. The plain
networks among the arms have the compute of the arm `sparse`: multiplications and additions of all
forwards and backwards, counted.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from model_card import BATCH, HELD_OUT_SEED, Depths, Images, agreement, estimate, generate
from torch.utils.flop_counter import FlopCounterMode

from mfsynth.evaluation.depth import image_to_depth
from mfsynth.models.estimators.embedded import DepthEstimator, load_estimator
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.simulation import CachedScenes, render_dataset
from mfsynth.training.build import build_components
from mfsynth.training.config import TrainConfig, load_train_config
from mfsynth.training.data import open_mixture, render_scenes
from mfsynth.training.estimator import EstimatorConfig, EstimatorTrainer, load_estimator_config
from mfsynth.training.joint_model import swapped_weights
from mfsynth.training.processes import join_processes
from mfsynth.training.requirements import estimate_requirements
from mfsynth.training.trainer import Trainer

BASE = "embedded"
MINIATURE = (
    "transformer.layers=1",
    "transformer.single_layers=3",
    "transformer.heads=2",
    "noise.i2d_share=0.35",
    "optimiser.image_steps=400",
    "optimiser.joint_steps=800",
    "optimiser.warmup_steps=50",
    "optimiser.ema=0.99",
    "optimiser.checkpoint_every=400",
)
HELD_OUT, PROMPTS = 256, 96
SAMPLING: dict[str, Any] = {"num_inference_steps": 16, "guidance_scale": 2.0}
# Where depth follows RGB at the embedded model's own distance of their means: ln α = 3.0 − 1.1.
DIAGONAL = 2.74

PLAIN = {"plain network, sparse": True, "plain network, dense": False}


@dataclass(frozen=True, slots=True)
class Arm:
    """A training.

    Attributes:
        changes: Settings that differ from `sparse`.
        log2_alpha: Of its joint samples.
    """

    changes: tuple[str, ...] = ()
    log2_alpha: float = 5.0


def arms(base: TrainConfig) -> Mapping[str, Arm]:
    """All models, by name; `sparse` is what the others differ from."""
    cost = estimate_requirements(base, gpus=1).flops
    freed = base.optimiser.image_steps * cost.image_step / cost.step
    longer = base.optimiser.joint_steps + round(freed)
    data = base.data[0].model_dump(mode="json", exclude_defaults=True) | {"sparsity": []}
    return {
        "sparse": Arm(),
        "dense": Arm((f"data={json.dumps([data])}",)),
        "no images first": Arm(("optimiser.image_steps=0",)),
        "no images first, same compute": Arm(
            ("optimiser.image_steps=0", f"optimiser.joint_steps={longer}")
        ),
        "width 64": Arm(("transformer.heads=1",)),
        "width 192": Arm(("transformer.heads=3",)),
        "shared noise": Arm(
            ("noise.i2d_share=0", "noise.d2i_share=0", "noise.shared_share=1"), DIAGONAL
        ),
        "invalid: noise and mask": Arm(("optimiser.invalid_depth=noise",)),
        "invalid: own prediction": Arm(("optimiser.invalid_depth=prediction",)),
        "sparse depth never a condition": Arm(("optimiser.complete_depth=false",)),
    }


@dataclass(frozen=True, slots=True)
class Row:
    """What an arm came to with one seed.

    Attributes:
        arm: Its name.
        seed: Of weights, data and noise.
        parameters: That were trained.
        petaflop: That training took.
        scores: AbsRel of each comparison, by its name.
    """

    arm: str
    seed: int
    parameters: int
    petaflop: float
    scores: Mapping[str, float]


@click.command()
@click.option(
    "--seed", "seed_numbers", type=int, multiple=True, default=(0, 1, 2), help="Repeatable."
)
@click.option("--only", multiple=True, help="An arm; repeatable.")
@click.option("--results", default="docs/results.jsonl", type=click.Path(path_type=Path))
@click.option("--out", default="out/claims", type=click.Path(path_type=Path))
def main(seed_numbers: tuple[int, ...], only: tuple[str, ...], results: Path, out: Path) -> None:
    """Train what is missing, and print the tables."""
    base = load_train_config(BASE, MINIATURE)
    render_scenes(base.data, base.size, click.echo)
    held_out = render_dataset(
        out / "held-out",
        scenes=HELD_OUT,
        views=1,
        size=base.size,
        seed=HELD_OUT_SEED,
        workers=2,
        library="tabletop_rooms",
    )
    judge = load_estimator()
    compute = _compute(base)
    trained = arms(base)
    for seed in seed_numbers:
        for name in (*PLAIN, *trained):
            if (only and name not in only) or (name, seed) in _done(results):
                continue
            if name in PLAIN:
                row = _measure_plain(name, seed, compute, held_out, out)
            else:
                row = _measure(name, trained[name], seed, compute, held_out, judge, out)
            _add(results, row)
    click.echo(tables(_rows(results)))


def _compute(config: TrainConfig) -> float:
    """Floating-point operations of a whole training."""
    cost, of = estimate_requirements(config, gpus=1).flops, config.optimiser
    images = of.image_steps + of.image_only_share * of.joint_steps
    both = (1 - of.image_only_share) * of.joint_steps
    return of.batch_size * (images * cost.image_step + both * cost.step)


def _train(config: TrainConfig) -> tuple[Trainer, ModalityForcingPipeline]:
    """Train, or go on; the pipeline has the averaged weights."""
    torch.manual_seed(config.seed)
    mixture = open_mixture(config.data, config.size, config.size)
    components = build_components(config, mixture.captions())
    trainer = Trainer(components, config.optimiser, config.noise, config.seed, join_processes())
    trainer.resume(config.output)
    trainer.run(mixture, config.output, click.echo)
    pipeline = components.pipeline(config)
    pipeline.set_progress_bar_config(disable=True)
    return trainer, pipeline


def _plain(name: str, seed: int, compute: float, out: Path) -> EstimatorTrainer:
    """Train a plain network with that many operations, or load it; it has its averaged weights."""
    sparse = PLAIN[name]
    output = out / f"plain-{'sparse' if sparse else 'dense'}-{seed}"
    config = load_estimator_config("estimator", [f"seed={seed}", f"output={output}"])
    if not sparse:
        parts = tuple(part.model_copy(update={"sparsity": ()}) for part in config.data)
        config = config.model_copy(update={"data": parts})
    steps = round(compute / (config.batch_size * _plain_flops(config)))
    config = config.model_copy(update={"steps": steps})
    trainer = EstimatorTrainer(config)
    trainer.resume()
    trainer.run(open_mixture(config.data, config.size, config.size), click.echo)
    trainer.model.load_state_dict(trainer.state.average)
    return trainer


def _plain_flops(config: EstimatorConfig) -> float:
    model = DepthEstimator(config.estimator.widths, config.estimator.blocks, config.size)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, config.size, config.size)).sum().backward()
    return float(counter.get_total_flops())


def _measure_plain(name: str, seed: int, compute: float, held_out: CachedScenes, out: Path) -> Row:
    network = _plain(name, seed, compute, out)
    error, _ = agreement(estimate(network.model, held_out.rgb), held_out.depth)
    size = network.state.size
    return Row(name, seed, size, compute / 1e15, {"i2d": error})


def _measure(
    name: str,
    arm: Arm,
    seed: int,
    compute: float,
    held_out: CachedScenes,
    judge: DepthEstimator,
    out: Path,
) -> Row:
    output = out / f"{name.replace(' ', '-').replace(':', '').replace(',', '')}-{seed}"
    config = load_train_config(BASE, [*MINIATURE, *arm.changes, f"seed={seed}", f"output={output}"])
    trainer, pipeline = _train(config)
    captions = held_out.captions[:PROMPTS]
    with swapped_weights(trainer.model, trainer.state.average):

        def own(images: Images) -> Depths:
            return image_to_depth(pipeline, images, steps=1, batch_size=BATCH)

        scores = {"i2d": agreement(own(held_out.rgb), held_out.depth)[0]}
        rgb, joint = generate(pipeline, captions, log2_alpha=arm.log2_alpha, **SAMPLING)
        judged = estimate(judge, rgb)
        scores["joint"] = agreement(joint, judged)[0]
        given = held_out.depth[:PROMPTS]
        made, _ = generate(pipeline, captions, given, **SAMPLING)
        scores["d2i"] = agreement(estimate(judge, made), given)[0]
        if name == "sparse":
            # Depth that is noise to the end tells the image nothing: text to image.
            alone, _ = generate(pipeline, captions, depth_start=0.0, **SAMPLING)
            judged = estimate(judge, alone)
            scores["image first, then its own i2d"] = agreement(own(alone), judged)[0]
            for plain in PLAIN:
                network = _plain(plain, seed, compute, out)
                found = agreement(estimate(network.model, alone), judged)[0]
                scores[f"image first, then {plain}"] = found
    size = trainer.state.size
    return Row(name, seed, size, _compute(config) / 1e15, scores)


def tables(rows: Sequence[Row]) -> str:
    """All rows as Markdown: means over seeds, and the smallest and largest where there are more."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.arm, []).append(row)
    names = ("i2d", "joint", "d2i")
    lines = [
        "| arm | seeds | parameters | PFLOP | i2d against truth | joint | d2i |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, group in grouped.items():
        cells = [_spread([row.scores[n] for row in group if n in row.scores]) for n in names]
        size = f"{group[0].parameters / 1e6:.2f} M"
        lines.append(
            f"| {arm} | {len(group)} | {size} | {group[0].petaflop:.3f} | {' | '.join(cells)} |"
        )
    first = grouped.get("sparse", [])
    lines += ["", "| depth of generated images | AbsRel |", "|---|---|"]
    lines += [f"| joint | {_spread([row.scores['joint'] for row in first])} |"]
    for name in first[0].scores if first else ():
        if name.startswith("image first"):
            lines.append(f"| {name} | {_spread([row.scores[name] for row in first])} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f}–{max(values):.4f})"


def _rows(results: Path) -> list[Row]:
    if not results.exists():
        return []
    return [Row(**json.loads(line)) for line in results.read_text().splitlines()]


def _done(results: Path) -> set[tuple[str, int]]:
    return {(row.arm, row.seed) for row in _rows(results)}


def _add(results: Path, row: Row) -> None:
    with results.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


if __name__ == "__main__":
    main()
