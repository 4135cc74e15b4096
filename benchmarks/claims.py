"""The claims of Modality Forcing in miniature: the same training with one thing changed at a time.

    python benchmarks/claims.py [--seed 0] [--only sparse] [--only dense]
    python benchmarks/claims.py --tables

Every arm trains a model of some two million parameters on the embedded model's images, some
twenty minutes each on a CPU core, and is measured on held-out scenes: the paper's claims, and each
lever of the recipe. A finished arm is a row of the results file, which is committed: called again,
the script trains what is missing and prints the tables of `docs/results/claims.md` from all rows,
also those of the recipe of its version 2 (commit a332f7b has their script). Seeds and arms
may run side by side, in processes of their own.

The embedded estimator judges what has no ground truth, the depth of generated images. The plain
networks among the arms have the compute of the arm `sparse`: multiplications and additions of all
forwards and backwards, counted.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from goals import depth_errors
from model_card import BATCH, Depths, Images, agreement, estimate, generate
from prompt_following import follow
from scene_sets import HELD_OUT_SEED, judge_of, rendered
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mfsynth.evaluation.depth import image_to_depth
from mfsynth.geometry.metrics import seam_ratio
from mfsynth.models.estimators.embedded import DepthEstimator, load_estimator
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.recognition.judge import ObjectJudge
from mfsynth.simulation import CachedScenes
from mfsynth.training.build import build_components
from mfsynth.training.config import TrainConfig, load_train_config
from mfsynth.training.data import TrainingBatch, open_mixture, render_scenes
from mfsynth.training.estimator import EstimatorTrainer
from mfsynth.training.estimator_config import EstimatorConfig, load_estimator_config
from mfsynth.training.given import given_to
from mfsynth.training.joint_model import swapped_weights
from mfsynth.training.objective import BatchLosses, NoisyBatch
from mfsynth.training.processes import join_processes
from mfsynth.training.requirements import estimate_requirements
from mfsynth.training.trainer import Trainer

BASE, RECIPE = "embedded", "embedded, version 3"
MINIATURE = (
    "transformer.layers=1",
    "transformer.single_layers=3",
    "transformer.heads=2",
    "optimiser.image_steps=600",
    "optimiser.joint_steps=600",
    "optimiser.warmup_steps=50",
    "optimiser.ema=0.99",
    "optimiser.checkpoint_every=600",
)
HELD_OUT, PROMPTS = 256, 96
SAMPLING: dict[str, Any] = {"num_inference_steps": 16, "guidance_scale": 2.0}
# Where depth follows RGB at the model's own distance of their means: ln α = 3.0 − 0.4.
DIAGONAL = 3.75
ESTIMATOR = "estimator"
COLUMNS = {
    "i2d": "i2d against truth",
    "edges": "its edges",
    "edges, 10 steps": "in ten steps",
    "joint": "joint",
    "seams": "its seams",
    "d2i": "d2i",
    "objects": "objects found",
}

PLAIN_SETTINGS = ("precision=float32", "workers=null")
PLAIN = {"plain network, sparse": True, "plain network, dense": False}


@dataclass(frozen=True, slots=True)
class Arm:
    """A training.

    Attributes:
        changes: Settings that differ from `sparse`.
        log2_alpha: Of its joint samples.
        aligned: Whether `EarlyAlignment` takes part.
    """

    changes: tuple[str, ...] = ()
    log2_alpha: float = 5.0
    aligned: bool = False


class EarlyAlignment:
    """RGB's features on their way through the model, drawn to an estimator's of the clean image.

    In the steps of images alone only: −cosine of a projection, times `WEIGHT`, beside the loss of
    images (REPA, arXiv 2410.06940, stopped early as in HASTE, arXiv 2505.16792). A trial of a
    lever, which the trainer doesn't have.
    """

    BLOCK, WEIGHT = 1, 0.5

    def __init__(self, trainer: Trainer, config: TrainConfig, estimator: DepthEstimator) -> None:
        width = config.transformer.heads * config.transformer.head_dim
        features = estimator.config.widths[-1]
        self._projection = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, features)
        )
        self._optimiser = torch.optim.AdamW(
            self._projection.parameters(), config.optimiser.adamw_learning_rate
        )
        self._trainer, self._until = trainer, config.optimiser.image_steps
        self._estimator = estimator.requires_grad_(False)
        self._states: Tensor | None = None
        self._wanted: Tensor | None = None
        trainer.model.transformer.single_transformer_blocks[self.BLOCK].register_forward_hook(
            lambda module, given, output: setattr(self, "_states", output[1])
        )
        estimator.down[-1].register_forward_hook(
            lambda module, given, output: setattr(self, "_wanted", output)
        )
        objective = trainer._objective
        self._prepare, self._losses = objective.prepare, objective.losses
        vars(objective).update(prepare=self.prepare, losses=self.losses)

    def prepare(self, batch: TrainingBatch, *given: Any) -> NoisyBatch:
        """The objective's own, after a look at the clean images."""
        if self._trainer.state.step < self._until:
            self._estimator(batch.rgb.permute(0, 3, 1, 2) / 127.5 - 1)
        return self._prepare(batch, *given)

    def losses(self, *given: Any) -> BatchLosses:
        """The objective's own, and the alignment's."""
        # What the last step left.
        self._optimiser.step()
        self._optimiser.zero_grad()
        losses = self._losses(*given)
        if self._trainer.state.step < self._until:
            assert self._states is not None
            assert self._wanted is not None
            wanted = self._wanted.flatten(2).transpose(1, 2)
            found = self._projection(self._states[:, : wanted.shape[1]])
            cosine = nn.functional.cosine_similarity(found, wanted, dim=-1).mean(dim=1)
            losses.sums["rgb"] = losses.sums["rgb"] - self.WEIGHT * cosine.sum()
        return losses


def arms(base: TrainConfig) -> Mapping[str, Arm]:
    """All models, by name; `sparse` is what the others differ from."""
    cost, of = estimate_requirements(base, gpus=1).flops, base.optimiser

    def joint_steps(image_steps: int) -> str:
        """The same compute as `sparse`."""
        freed = (of.image_steps - image_steps) * cost.image_step / cost.step
        return f"optimiser.joint_steps={of.joint_steps + round(freed)}"

    def patterns(*patterns: Mapping[str, Any]) -> str:
        part = base.data[0].model_dump(mode="json")
        return f"data={json.dumps([part | {'sparsity': patterns}])}"

    few = of.image_steps // 4
    return {
        "sparse": Arm(),
        "dense": Arm((patterns(),)),
        "no images first": Arm(("optimiser.image_steps=0",)),
        "no images first, same compute": Arm(("optimiser.image_steps=0", joint_steps(0))),
        "width 60": Arm(("transformer.heads=1",)),
        "width 180": Arm(("transformer.heads=3",)),
        "shared noise": Arm(
            (
                *("noise.i2d_share=0", "noise.d2i_share=0", "noise.shared_share=1"),
                "noise.depth_low_share=0",
            ),
            DIAGONAL,
        ),
        "invalid: noise and mask": Arm(("optimiser.invalid_depth=noise",)),
        "sparse depth never a condition": Arm(("optimiser.complete_depth=false",)),
        "no low levels of depth": Arm(("noise.depth_low_share=0",)),
        "i2d .6": Arm(("noise.i2d_share=0.6",)),
        "a quarter of the images first, same compute": Arm(
            (f"optimiser.image_steps={few}", joint_steps(few))
        ),
        "scattered points": Arm((patterns({"kind": "at_most", "share": 0.05}),)),
        "scan lines": Arm((patterns({"kind": "lidar", "rings": round(0.05 * base.size)}),)),
        "plain mean": Arm(("optimiser.depth_normalisation=mean",)),
        "patches": Arm(("transformer.depth_head=patches",)),
        "AdamW alone": Arm(("optimiser.muon_learning_rate=null",)),
        "early alignment with the estimator": Arm(aligned=True),
        "large errors linear": Arm(("optimiser.i2d_error_limit=0.1",)),
        "median at edges": Arm(("transformer.depth_median_radius=3",)),
    }


@dataclass(frozen=True, slots=True)
class Row:
    """What an arm came to with one seed.

    Attributes:
        arm: Its name.
        seed: Of weights, data and noise.
        recipe: Of the model that it is a miniature of.
        parameters: That were trained.
        petaflop: That training took.
        scores: AbsRel of each comparison, by its name.
    """

    arm: str
    seed: int
    parameters: int
    petaflop: float
    scores: Mapping[str, float]
    recipe: str = "embedded, version 2"


@dataclass(frozen=True, slots=True)
class Judges:
    """Of what has no ground truth: depth of generated images, and what prompts name in them."""

    depth: DepthEstimator
    prompts: ObjectJudge


@click.command()
@click.option(
    "--seed", "seed_numbers", type=int, multiple=True, default=(0, 1, 2), help="Repeatable."
)
@click.option("--only", multiple=True, help="An arm; repeatable.")
@click.option(
    "--estimator",
    "judge",
    default="embedded",
    help="Judges generated depth: embedded, or an estimator's folder.",
)
@click.option(
    "--tables", "only_tables", is_flag=True, help="Of the rows that are there; no training."
)
@click.option("--results", default="docs/results/claims.jsonl", type=click.Path(path_type=Path))
@click.option("--out", default="out/claims", type=click.Path(path_type=Path))
def main(
    seed_numbers: tuple[int, ...],
    only: tuple[str, ...],
    judge: str,
    only_tables: bool,
    results: Path,
    out: Path,
) -> None:
    """Train what is missing, and print the tables."""
    if only_tables:
        click.echo(tables(_rows(results)))
        return
    base = load_train_config(BASE, miniature())
    render_scenes(base.data, base.size, click.echo)
    held_out = rendered("shapes", HELD_OUT, base.size, HELD_OUT_SEED, out)
    judges = Judges(load_estimator(judge), judge_of("shapes", base.size, out))
    trained = arms(base)
    for seed in seed_numbers:
        for name in (*PLAIN, *trained):
            if (only and name not in only) or (name, seed) in _done(results):
                continue
            if name in PLAIN:
                row = _measure_plain(name, seed, base, held_out, out)
            else:
                row = _measure(name, trained[name], seed, base, held_out, judges, out)
            _add(results, row)
    click.echo(tables(_rows(results)))


def _compute(config: TrainConfig) -> float:
    """Floating-point operations of a whole training."""
    cost, of = estimate_requirements(config, gpus=1).flops, config.optimiser
    images = of.image_steps + of.image_only_share * of.joint_steps
    both = (1 - of.image_only_share) * of.joint_steps
    return of.batch_size * (images * cost.image_step + both * cost.step)


def _train(
    config: TrainConfig, alignment: DepthEstimator | None = None
) -> tuple[Trainer, ModalityForcingPipeline]:
    """Train, or go on; the pipeline has the averaged weights."""
    torch.manual_seed(config.seed)
    mixture = open_mixture(config.data, config.size, config.size)
    components = build_components(config, mixture.captions())
    given = given_to(config, mixture, components)
    trainer = Trainer(
        components, config.optimiser, config.noise, config.seed, join_processes(), given
    )
    if alignment is not None:
        EarlyAlignment(trainer, config, alignment)
    trainer.resume(config.output)
    trainer.run(mixture, config.output, click.echo)
    pipeline = components.pipeline(config)
    pipeline.set_progress_bar_config(disable=True)
    return trainer, pipeline


def miniature() -> tuple[str, ...]:
    """What makes the base small: sizes, and the first part of its data alone."""
    first = load_train_config(BASE).data[0].model_dump(mode="json")
    return (*MINIATURE, f"data={json.dumps([first])}")


def _plain(name: str, seed: int, base: TrainConfig, out: Path) -> EstimatorTrainer:
    """Train a plain network with the base's operations, or load it; its weights are averaged."""
    sparse = PLAIN[name]
    output = out / f"plain-{'sparse' if sparse else 'dense'}-{seed}"
    config = load_estimator_config(
        ESTIMATOR, [*PLAIN_SETTINGS, f"seed={seed}", f"output={output}", f"size={base.size}"]
    )
    changes = {} if sparse else {"sparsity": ()}
    parts = tuple(part.model_copy(update=changes) for part in base.data)
    steps = round(_compute(base) / (config.batch_size * _plain_flops(config)))
    config = config.model_copy(update={"steps": steps, "data": parts})
    mixture = open_mixture(config.data, config.size, config.size)
    trainer = EstimatorTrainer(config, join_processes(), mixture)
    trainer.resume()
    trainer.run(click.echo)
    trainer.model.load_state_dict(trainer.state.average)
    return trainer


def _plain_flops(config: EstimatorConfig) -> float:
    model = DepthEstimator(config.estimator.widths, config.estimator.blocks, config.size)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, config.size, config.size)).sum().backward()
    return float(counter.get_total_flops())


def _measure_plain(
    name: str, seed: int, base: TrainConfig, held_out: CachedScenes, out: Path
) -> Row:
    network = _plain(name, seed, base, out)
    errors = depth_errors(estimate(network.model, held_out.rgb), np.array(held_out.depth))
    scores = {"i2d": errors["i2d"], "edges": errors["edges"]}
    return Row(name, seed, network.state.size, _compute(base) / 1e15, scores, RECIPE)


def _measure(
    name: str,
    arm: Arm,
    seed: int,
    base: TrainConfig,
    held_out: CachedScenes,
    judges: Judges,
    out: Path,
) -> Row:
    output = out / f"{re.sub('[^a-z0-9]+', '-', name)}-{seed}"
    config = load_train_config(BASE, [*miniature(), *arm.changes, f"seed={seed}"])
    config = config.model_copy(update={"output": output})
    trainer, pipeline = _train(config, judges.depth if arm.aligned else None)
    captions = held_out.captions[:PROMPTS]
    truth = np.array(held_out.depth)
    with swapped_weights(trainer.model, trainer.state.average):

        def own(images: Images, steps: int = 1) -> Depths:
            return image_to_depth(pipeline, images, steps=steps, batch_size=BATCH)

        once, more = (depth_errors(own(held_out.rgb, steps), truth) for steps in (1, 10))
        scores = {"i2d": once["i2d"], "edges": once["edges"], "edges, 10 steps": more["edges"]}
        rgb, joint = generate(pipeline, captions, log2_alpha=arm.log2_alpha, **SAMPLING)
        judged = estimate(judges.depth, rgb)
        scores["joint"] = agreement(joint, judged)[0]
        patch = pipeline.depth_codec.patch
        scores["seams"] = float(np.nanmean([seam_ratio(one, patch) for one in joint]))
        given = truth[:PROMPTS]
        made, _ = generate(pipeline, captions, given, **SAMPLING)
        scores["d2i"] = agreement(estimate(judges.depth, made), given)[0]
        # Depth that is noise to the end tells the image nothing: text to image.
        alone, _ = generate(pipeline, captions, depth_start=1e-6, **SAMPLING)
        scores["objects"] = follow(judges.prompts, alone, captions).objects
        if name == "sparse":
            judged = estimate(judges.depth, alone)
            scores["image first, then its own i2d"] = agreement(own(alone), judged)[0]
            for plain in PLAIN:
                network = _plain(plain, seed, base, out)
                found = agreement(estimate(network.model, alone), judged)[0]
                scores[f"image first, then {plain}"] = found
    return Row(name, seed, trainer.state.size, _compute(config) / 1e15, scores, RECIPE)


def tables(rows: Sequence[Row]) -> str:
    """All rows as Markdown: means over seeds, and the smallest and largest where there are more."""
    return "\n\n".join(
        f"{recipe}:\n\n" + _tables([row for row in rows if row.recipe == recipe])
        for recipe in dict.fromkeys(row.recipe for row in rows)
    )


def _tables(rows: Sequence[Row]) -> str:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.arm, []).append(row)
    names = [name for name in COLUMNS if any(name in row.scores for row in rows)]
    lines = [
        f"| arm | seeds | parameters | PFLOP | {' | '.join(COLUMNS[name] for name in names)} |",
        "|---|---|---|---|" + "---|" * len(names),
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
    return {(row.arm, row.seed) for row in _rows(results) if row.recipe == RECIPE}


def _add(results: Path, row: Row) -> None:
    with results.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


if __name__ == "__main__":
    main()
