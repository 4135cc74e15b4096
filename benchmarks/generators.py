r"""A joint model beside two models, an image by one and its depth by another, on the same prompts.

    mfsynth train benchmarks/judge_estimator.yaml
    python benchmarks/generators.py --judge out/train/judge_estimator/model --pairs 128
    python benchmarks/generators.py --model ID --preset image_then_depth --image HUB_ID \
      --estimator HUB_ID --judge HUB_ID --size 512
    python benchmarks/generators.py --flops    (the large ones at 512×512, on the meta device)

Prints a row for each way: how far its depth is from what a third network, which neither used, sees
in its image (AbsRel and δ1, scale-aligned), which share of the objects that the prompts name the
embedded judge finds (benchmarks/prompt_following.py), and seconds and TFLOP a pair.
Without `--image` both ways have the joint model's images, and only depth differs: by the model
itself, or by the estimator. The row's seconds and TFLOP of two models have the model's own depth in
them, which it can't leave out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from meta_model import META, flops_of, on_meta
from numpy.typing import NDArray
from prompt_following import follow
from scene_sets import SCENES, judge_of
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    Qwen3Config,
    Qwen3Model,
)

from mfsynth.checks.estimator_agreement import estimator_agreement, relative_error
from mfsynth.config import ModelConfig, RuntimeConfig
from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.config.schema import SamplerConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline
from mfsynth.models.estimators.base import Estimator
from mfsynth.models.estimators.opening import open_estimator
from mfsynth.models.two_models import load_two_models
from mfsynth.prompts import load_library

SET, SEED = "shapes", 1001
LIBRARY, _ = SCENES[SET]

Images = NDArray[np.uint8]
Depths = NDArray[np.float32]
Make = Callable[[Sequence[str], Sequence[int]], tuple[Images, Depths]]


@dataclass
class Row:
    """What is found of one way."""

    rgb: list[Images] = field(default_factory=list)
    depth: list[Depths] = field(default_factory=list)
    seconds: float = 0.0
    flops: float = 0.0


@click.command()
@click.option("--model", default="embedded", help="The joint model.")
@click.option("--preset", default="distilled", help="How it samples.")
@click.option("--image", help="A text-to-image pipeline; by default the joint model's own images.")
@click.option("--steps", default=4, help="Of that pipeline.")
@click.option("--guidance", default=1.0, help="Of that pipeline.")
@click.option("--estimator", default="embedded", help="That two models take depth from.")
@click.option("--judge", help="Estimator that neither used.")
@click.option("--size", default=128, help="Rows and columns.")
@click.option("--pairs", default=64)
@click.option("--batch", default=16)
@click.option("--device", default="cpu")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("out/benchmarks"))
@click.option("--flops", is_flag=True, help="Only work, of the large ones.")
def main(
    model: str,
    preset: str,
    image: str | None,
    steps: int,
    guidance: float,
    estimator: str,
    judge: str | None,
    size: int,
    pairs: int,
    batch: int,
    device: str,
    cache: Path,
    flops: bool,
) -> None:
    """Print a table."""
    if flops:
        print_flops()
        return
    if judge in (None, estimator):
        raise MfsynthError("--judge: name an estimator that neither way used")
    assert judge is not None
    prompts = load_library(LIBRARY, SEED)
    texts = [prompts.prompt(number).text for number in range(pairs)]
    few_steps = "few_steps" if preset == "distilled" else None
    joint = load_pipeline(ModelConfig(id=model, few_steps=few_steps), device)
    own = sampled(joint, SamplerConfig.model_validate({"preset": preset}), size)
    ways = {f"joint, {preset}": own}
    if image is None:
        ways["two models"] = then(own, open_estimator(DepthEstimatorConfig(id=estimator), device))
    else:
        config = ModelConfig.model_validate({"kind": "two_models", "image": image})
        settings = DepthEstimatorConfig(id=estimator)
        two = load_two_models(config, settings, device, RuntimeConfig(compile=False))
        sampler = SamplerConfig.model_validate({"steps": steps, "guidance": guidance})
        ways["two models"] = sampled(two, sampler, size)
    rows = {name: run(make, texts, batch) for name, make in ways.items()}
    print_rows(rows, texts, open_estimator(DepthEstimatorConfig(id=judge), device), cache)


def sampled(pipeline: Any, sampler: SamplerConfig, size: int) -> Make:
    """A pipeline as a run has it."""
    arguments = sampler.pipeline_arguments() | {"height": size, "width": size}

    def make(texts: Sequence[str], seeds: Sequence[int]) -> tuple[Images, Depths]:
        text = pipeline.encode_prompts(texts, len(texts))
        made = pipeline(prompt_embeds=text, seeds=seeds, mode="joint", **arguments)
        return made.rgb, made.depth

    return make


def then(make: Make, estimator: Estimator) -> Make:
    """The same images with another depth."""

    def again(texts: Sequence[str], seeds: Sequence[int]) -> tuple[Images, Depths]:
        rgb, _ = make(texts, seeds)
        return rgb, np.stack([np.where(e.valid, e.values, 0) for e in estimator(rgb)])

    return again


def run(make: Make, texts: Sequence[str], batch: int) -> Row:
    """All pairs of one way; its first is made once more to count and to warm up."""
    row = Row()
    with FlopCounterMode(display=False) as counter:
        make(texts[:1], [0])
    row.flops = float(counter.get_total_flops())
    began = time.perf_counter()
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        rgb, depth = make(part, range(start, start + len(part)))
        row.rgb.append(rgb)
        row.depth.append(depth)
    row.seconds = (time.perf_counter() - began) / len(texts)
    return row


def print_rows(rows: dict[str, Row], texts: Sequence[str], judge: Estimator, cache: Path) -> None:
    click.echo(f"{len(texts)} prompts of {LIBRARY}, seed {SEED}\n")
    click.echo("| way | AbsRel | δ1 | objects found | s a pair | TFLOP a pair |")
    click.echo("|---|---|---|---|---|---|")
    for name, row in rows.items():
        rgb, depth = np.concatenate(row.rgb), np.concatenate(row.depth)
        absolute, close = consistency(rgb, depth, judge)
        found = follow(judge_of(SET, rgb.shape[1], cache), rgb, texts).objects
        click.echo(
            f"| {name} | {absolute:.4f} | {close:.4f} | {found:.0%} | {row.seconds:.3f} | "
            f"{row.flops / 1e12:.4f} |"
        )


def consistency(rgb: Images, depth: Depths, judge: Estimator) -> tuple[float, float]:
    """AbsRel and δ1 between depth and what the judge sees, aligned to it; means over images."""
    scores = []
    for image, given in zip(rgb, depth, strict=True):
        [estimate] = judge(image[None])
        if (found := relative_error(given, estimate)) is None:
            continue
        error, shared = found
        scores.append((error[shared].mean(), estimator_agreement(given, estimate)[1]))
    absolute, close = np.mean(scores, axis=0)
    return float(absolute), float(close)


# FLUX.2 [klein] 4B: 5 double and 20 single blocks of 24 heads, text of three layers of Qwen3 4B
# (its model card and the configurations beside its weights), four steps without guidance.
_KLEIN = {
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
_KLEIN_STEPS = 4
_QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
_TEXT = 512
_VIT_L = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def print_flops() -> None:
    """Work of two large models at 512×512; the joint one's is in benchmarks/sampling.py --flops."""
    with META:
        transformer = Flux2Transformer2DModel(**_KLEIN).eval()
        text_encoder = Qwen3Model(Qwen3Config(**_QWEN3_4B)).eval()
        vae = AutoencoderKLFlux2().eval()
        # MoGe-2 sees 3,600 tokens at its best level: 60 by 60 patches. Its heads are not counted.
        encoder = Dinov2Model(Dinov2Config(**_VIT_L, image_size=518)).eval()
        backbone = Dinov2Config(
            **_VIT_L,
            image_size=518,
            out_features=["stage5", "stage12", "stage18", "stage24"],
            reshape_hidden_states=False,
        )
        estimator = DepthAnythingForDepthEstimation(
            DepthAnythingConfig(
                backbone_config=backbone,
                reassemble_hidden_size=1024,
                neck_hidden_sizes=[256, 512, 1024, 1024],
                fusion_hidden_size=256,
            )
        ).eval()
    tokens = (512 // 16) ** 2
    with on_meta(), torch.inference_mode():
        step, _ = flops_of(
            lambda: transformer(
                hidden_states=torch.zeros(1, tokens, 128, device=META),
                encoder_hidden_states=torch.zeros(1, _TEXT, 7680, device=META),
                timestep=torch.zeros(1, device=META),
                img_ids=torch.zeros(1, tokens, 4, device=META),
                txt_ids=torch.zeros(1, _TEXT, 4, device=META),
            )
        )
        reading, _ = flops_of(
            lambda: text_encoder(torch.zeros(1, _TEXT, dtype=torch.long, device=META))
        )
        decoding, _ = flops_of(lambda: vae.decode(torch.zeros(1, 32, 64, 64, device=META)))
        seeing, _ = flops_of(lambda: encoder(torch.zeros(1, 3, 840, 840, device=META)))
        estimating, _ = flops_of(lambda: estimator(torch.zeros(1, 3, 518, 518, device=META)))
    click.echo("| part | TFLOP a pair |\n|---|---|")
    image = reading + _KLEIN_STEPS * step + decoding
    for name, work in (
        ("text by Qwen3 4B, 512 tokens", reading),
        (f"{_KLEIN_STEPS} steps of FLUX.2 [klein] 4B", _KLEIN_STEPS * step),
        ("decoding", decoding),
        ("MoGe-2, its encoder at 3,600 tokens", seeing),
        ("or Depth Anything V2 Large at 518×518", estimating),
        ("two models: image, then MoGe-2", image + seeing),
        ("two models: image, then Depth Anything V2 Large", image + estimating),
    ):
        click.echo(f"| {name} | {work / 1e12:,.1f} |")


if __name__ == "__main__":
    main()
