"""What each speed-up of sampling costs and gains.

    python benchmarks/sampling.py [--model embedded] [--pairs 32] [--images 64]
    python benchmarks/sampling.py --architecture released --size 512   (on a GPU, random weights)
    python benchmarks/sampling.py --plans    (speed alone, of the presets and of a distilled model)
    python benchmarks/sampling.py --flops    (what these take at 12 B and 512×512; in seconds)

Prints a Markdown table with a row for every way of sampling: seconds a pair, forwards a pair (a
guided step counts two), and peak GPU memory; and what it does to depth: the AbsRel of `i2d`
against the ground truth of held-out simulator images, at the row's steps, and of the joint depth
against the unhurried `i2d` depth of the same image (both scale-aligned). Times are medians of
interleaved rounds, so that a busy machine slows all rows alike; compare rows of one table only.
Random weights have no quality: with them, as with `--plans`, only speed is printed.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from meta_model import counting, flops_of, on_meta, released_pipeline
from numpy.typing import NDArray

from mfsynth.checks.self_agreement import SelfAgreement
from mfsynth.config.presets import SAMPLER_PRESETS
from mfsynth.config.schema import SamplerConfig
from mfsynth.evaluation import image_to_depth, score_depth
from mfsynth.models.acceleration.accelerate import Acceleration, accelerate
from mfsynth.models.acceleration.compilation import each_shape_once
from mfsynth.models.acceleration.step_cache import step_cache
from mfsynth.models.locations import find_model
from mfsynth.models.outputs import ModalityForcingPipelineOutput
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.transformer import (
    ModalityForcingTransformer2DModel,
    ModalityForcingTransformerOutput,
)
from mfsynth.prompts import load_library
from mfsynth.simulation import STYLES, render_dataset

# A model distilled to few steps: guidance is in its weights.
LIBRARY, STYLE, HELD_OUT_SEED, VIEWS = "tabletop_shapes", "close", 1001, 2
# Of the i2d depth that the joint depth is compared with.
UNHURRIED_STEPS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way of sampling.

    Attributes:
        name: In the table.
        settings: Arguments of the pipeline.
        sequential: The two halves of a guided step in forwards of their own, one after the other.
        cache: Threshold of the step cache; 0 is none.
    """

    name: str
    settings: dict[str, Any]
    sequential: bool = False
    cache: float = 0.0


@dataclass
class Measured:
    """Of one way: seconds a pair of every round, the rest from the last."""

    seconds: list[float] = field(default_factory=list)
    forwards: float = 0.0
    peak_bytes: int = 0
    agreement: float | None = None
    i2d_abs_rel: float | None = None


def ways(guidance: float) -> list[Way]:
    """From the release's plain loop to the presets, one change at a time."""
    plain = {
        "num_inference_steps": 50,
        "guidance_scale": guidance,
        "log2_alpha": 5.0,
    }

    def way(name: str, **changes: Any) -> Way:
        return Way(name, plain | changes)

    return [
        Way("plain: 50 steps, two forwards each", plain, sequential=True),
        way("guidance in one batched forward"),
        way("guidance on RGB's levels 0.3 to 1", guidance_interval=(0.3, 1.0)),
        way("depth tokens from level 0.97", depth_start=0.97),
        way("25 steps", num_inference_steps=25),
        way("25 steps, spaced 0.3 for depth", num_inference_steps=25, depth_step_share=0.3),
        Way("25 steps, step cache 0.1", plain | {"num_inference_steps": 25}, cache=0.1),
        way("12 steps", num_inference_steps=12),
        way("12 steps, spaced 0.3 for depth", num_inference_steps=12, depth_step_share=0.3),
        way("12 steps, then 4 of a second pass", num_inference_steps=12, refine_steps=4),
        *(Way(f"preset {name}", _preset(name, guidance)) for name in SAMPLER_PRESETS),
    ]


def plans(guidance: float) -> list[Way]:
    """What runs are made with; `distilled` has the time of such a model, not its pairs."""
    return [Way(f"preset {name}", _preset(name, guidance)) for name in SAMPLER_PRESETS]


def _preset(name: str, guidance: float) -> dict[str, Any]:
    """A preset as arguments of the pipeline, with the model's own guidance in place of 4."""
    values = SAMPLER_PRESETS[name]
    if values["guidance"] == 1:
        # It is in the weights.
        return SamplerConfig.model_validate({"preset": name}).pipeline_arguments()
    same = values["depth_guidance"] == values["guidance"]
    sampler = SamplerConfig.model_validate(
        {
            "preset": name,
            "guidance": guidance,
            "depth_guidance": guidance if same else values["depth_guidance"],
        }
    )
    return sampler.pipeline_arguments()


@click.command()
@click.option("--model", default="embedded", help="embedded, a model folder or a hub id.")
@click.option("--architecture", type=click.Choice(["released"]), help="Random weights instead.")
@click.option("--pairs", default=32, help="Joint pairs a round.")
@click.option("--images", default=64, help="Held-out images for i2d.")
@click.option("--rounds", default=2, help="Timed rounds.")
@click.option("--batch-size", default=16)
@click.option("--guidance", default=2.0, help="Scale of guidance; 4 for the released model.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the transformer's blocks.")
@click.option("--fp8", is_flag=True, help="8-bit floats in the transformer's body.")
@click.option("--size", type=int, help="Of the images; the model's own by default.")
@click.option("--plans", "only_plans", is_flag=True, help="Only what runs are made with; speed.")
@click.option("--flops", is_flag=True, help="Print the work of these at 12 B and 512×512, no more.")
def main(
    model: str,
    architecture: str | None,
    pairs: int,
    images: int,
    rounds: int,
    batch_size: int,
    guidance: float,
    compiled: bool,
    fp8: bool,
    size: int | None,
    only_plans: bool,
    flops: bool,
) -> None:
    """Print the table."""
    if flops:
        _print_flops(guidance)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Acceleration(compile=compiled, quantization="fp8" if fp8 else "none")
    pipeline: Any
    if architecture:
        pipeline = _RandomReleased(_random_transformer(), None, None)
    else:
        pipeline = ModalityForcingPipeline.from_pretrained(find_model(model).path)
    accelerate(pipeline, settings, device)
    pipeline.set_progress_bar_config(disable=True)
    library = load_library(LIBRARY)
    prompts = [library.prompt(i).text for i in range(pairs)]
    embeds = pipeline.encode_prompts(prompts)

    # Random weights have no autoencoder to decode with, and nothing worth decoding.
    output_type = "latent" if architecture else "np"
    table = {way: Measured() for way in (plans if only_plans else ways)(guidance)}
    made: dict[Way, ModalityForcingPipelineOutput] = {}
    # One thread's own time is hardly longer on a busy machine.
    alone = device == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter
    for turn in range(rounds + 1):
        for way, row in table.items():
            started = now()
            # The first round warms up.
            warms = nullcontext() if turn else each_shape_once(pipeline.transformer)
            made[way] = _sample(pipeline, way, embeds, batch_size, size, row, output_type, warms)
            if turn:
                row.seconds.append((now() - started) / pairs)
    is_judged = not architecture and not only_plans
    if is_judged:
        _judge(pipeline, table, made, images, batch_size)
    cpu = "CPU, processor time of one thread" if alone else "CPU"
    where = torch.cuda.get_device_name() if device == "cuda" else cpu
    judged = f", {images} images for i2d" if is_judged else ""
    click.echo(f"{where}, batches of {batch_size}, {pairs} pairs{judged}\n")
    _print(table, is_judged)


def _random_transformer() -> ModalityForcingTransformer2DModel:
    """Of the 12 B architecture."""
    torch.set_default_dtype(torch.bfloat16)
    # A GPU draws 12 B numbers in a second, a core in minutes.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        transformer = ModalityForcingTransformer2DModel()
    torch.set_default_dtype(torch.float32)
    return transformer


class _RandomReleased(ModalityForcingPipeline):
    """Takes random prompts of the released text encoder's shape."""

    def encode_prompts(self, prompts: Any, batch_size: int = 16) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(len(prompts), 512, 12288, generator=generator)
        return states.to(self.transformer.device, torch.bfloat16)


@contextmanager
def _counted(pipeline: Any, row: Measured, pairs: int, sequential: bool) -> Iterator[None]:
    transformer = pipeline.transformer
    plain = transformer.forward
    rows = 0

    def forward(**inputs: Any) -> ModalityForcingTransformerOutput:
        nonlocal rows
        rows += len(inputs["rgb"])
        return (functools.partial(_one_half_at_a_time, plain) if sequential else plain)(**inputs)

    transformer.forward = forward
    try:
        yield
    finally:
        del transformer.forward
        row.forwards = rows / pairs


def _one_half_at_a_time(forward: Any, **inputs: Any) -> ModalityForcingTransformerOutput:
    halves = []
    for part in (0, 1):
        mine = {
            name: value.chunk(2)[part] if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        halves.append(forward(**mine))
    return ModalityForcingTransformerOutput(
        rgb=torch.cat([half.rgb for half in halves]),
        depth=torch.cat([half.depth for half in halves]),
    )


def _sample(
    pipeline: Any,
    way: Way,
    embeds: torch.Tensor,
    batch_size: int,
    size: int | None,
    row: Measured,
    output_type: str,
    warms: AbstractContextManager[None],
) -> ModalityForcingPipelineOutput:
    rgb, depth = [], []
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    cache = step_cache(pipeline.transformer, way.cache) if way.cache else nullcontext()
    with _counted(pipeline, row, len(embeds), way.sequential), cache, warms:
        for at in range(0, len(embeds), batch_size):
            part = embeds[at : at + batch_size]
            pairs = pipeline(
                prompt_embeds=part,
                seeds=range(at, at + len(part)),
                output_type=output_type,
                **(way.settings | {"height": size, "width": size}),
            )
            rgb.append(pairs.rgb)
            depth.append(pairs.depth)
    if torch.cuda.is_available():
        row.peak_bytes = torch.cuda.max_memory_allocated()
    join = torch.cat if output_type == "latent" else np.concatenate
    return ModalityForcingPipelineOutput(rgb=join(rgb), depth=join(depth))


def _judge(
    pipeline: ModalityForcingPipeline,
    table: dict[Way, Measured],
    made: dict[Way, ModalityForcingPipelineOutput],
    images: int,
    batch_size: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        held_out = render_dataset(
            Path(folder) / "held-out",
            scenes=-(-images // VIEWS),
            views=VIEWS,
            size=pipeline.config.height,
            seed=HELD_OUT_SEED,
            workers=2,
            library=LIBRARY,
            style=STYLES[STYLE],
        )
        rgb, truth = np.array(held_out.rgb[:images]), np.array(held_out.depth[:images])
    by_steps: dict[int, float] = {}
    for way, row in table.items():
        steps = way.settings["num_inference_steps"]
        if steps not in by_steps:
            estimate = image_to_depth(pipeline, rgb, steps=steps, batch_size=batch_size)
            by_steps[steps] = score_depth(estimate, truth).abs_rel
        row.i2d_abs_rel = by_steps[steps]
        row.agreement = _agreement(pipeline, made[way], batch_size)


def _agreement(
    pipeline: ModalityForcingPipeline, pairs: ModalityForcingPipelineOutput, batch_size: int
) -> float:
    reference: NDArray[np.float32] = image_to_depth(
        pipeline, pairs.rgb, steps=UNHURRIED_STEPS, batch_size=batch_size, seed=10_000
    )
    return score_depth(pairs.depth, reference).abs_rel


def _print(table: dict[Way, Measured], is_judged: bool) -> None:
    plain = next(iter(table.values()))
    columns = ["sampling", "s a pair", "times faster", "forwards a pair", "peak GPU memory"]
    if is_judged:
        columns += ["joint against i2d, AbsRel", "i2d against truth, AbsRel"]
    click.echo(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for way, row in table.items():
        seconds = float(np.median(row.seconds))
        faster = float(np.median(plain.seconds)) / seconds
        memory = f"{row.peak_bytes / 2**30:.1f} GiB" if row.peak_bytes else "–"
        cells = [way.name, f"{seconds:.3f}", f"{faster:.2f}", f"{row.forwards:.1f}", memory]
        if is_judged:
            cells += [f"{value:.4f}" for value in (row.agreement, row.i2d_abs_rel)]
        click.echo(f"| {' | '.join(cells)} |")


def _print_flops(guidance: float) -> None:
    pipeline = released_pipeline()
    size = pipeline.config.height
    rows = size // pipeline.depth_codec.patch
    blank = np.zeros((1, size, size, 3), np.uint8)
    again: dict[str, Any] = {
        "mode": "i2d",
        "image": blank,
        "num_inference_steps": SelfAgreement().steps,
        "guidance_scale": 1.0,
    }
    click.echo(
        "| sampling | forwards with depth tokens | without | TFLOP a pair | with `self_agreement` |"
        "\n|---|---|---|---|---|"
    )
    with on_meta(), counting(pipeline.transformer) as work_of:
        encoding, text = flops_of(lambda: pipeline.encode_prompts(["a cup on a table"]))
        sample = functools.partial(pipeline, prompt_embeds=text, seeds=[0], output_type="latent")
        check, _ = work_of(lambda: sample(**again))
        joint = Way("50 guided steps, no second pass", ways(guidance)[1].settings)
        for way in [joint, *plans(guidance)]:
            work, made = work_of(functools.partial(sample, **way.settings))
            # Depth that is made of the finished image has nothing to agree with.
            is_own = way.settings.get("refine_steps") and way.settings.get("refine_start", 1) == 1
            checked = work.flops + (0 if is_own else check.flops)
            click.echo(
                f"| {way.name} | {work.with_depth} | {work.without_depth} "
                f"| {work.flops / 1e12:,.0f} | {checked / 1e12:,.0f} |"
            )
        decoding, _ = flops_of(lambda: pipeline.rgb_codec.decode(made.rgb, (rows, rows)))
    click.echo(f"\nA prompt's encoding takes {encoding / 1e12:.1f}, ", nl=False)
    click.echo(f"an image's decoding {decoding / 1e12:.1f} TFLOP.")


if __name__ == "__main__":
    main()
